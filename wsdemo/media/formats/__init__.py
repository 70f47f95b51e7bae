"""One module a mesh format: bytes → raw vertices and triangles, and what a person should know."""
