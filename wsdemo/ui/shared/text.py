"""Texts from files, made harmless before they reach a page."""

import html


def text_of(value: object, limit: int = 160) -> str:
    """A text from a file, escaped for Markdown."""
    safe = html.escape(str(value)[:limit], quote=False)
    return "".join(f"\\{c}" if c in "\\`*_[]()#|!<>" else c for c in safe).replace("\n", " ")
