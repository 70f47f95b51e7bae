"""Markdown tables, and by what they were measured."""

from typing import Any


def table(head: list[str], rows: list[list[str]]) -> str:
    """A Markdown table."""
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])


def measured_by(result: dict[str, Any]) -> str:
    return f"`{result['command']}` · {result['machine']}"
