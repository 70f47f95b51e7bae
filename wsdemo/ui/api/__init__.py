"""The page's functions for other programs: named in words, the same for HTTP and for MCP."""
