"""What model cards say in their tables: ``| Learning Rate | 3e-05 |``."""

import re

from wsdemo.hub.client import read_text
from wsdemo.hub.repository import Repository
from wsdemo.limits import MAX_CARD_BYTES
from wsdemo.lol.imports.entry import column_name

_ROW = re.compile(r"^\s*\|\s*([^|\n]{1,200}?)\s*\|\s*([^|\n]{1,400}?)\s*\|\s*$", re.MULTILINE)
_BASE = re.compile(r"^base_model:\s*(.+)$", re.MULTILINE)


def card_table(text: str) -> dict[str, str]:
    """Column → text of all two-column tables of a card; heads and rules are no rows."""
    table: dict[str, str] = {}
    for left, right in _ROW.findall(text):
        name, value = (part.strip().strip("*`").strip() for part in (left, right))
        is_rule = not name.strip("-: ")
        if is_rule or (name.lower(), value.lower()) in HEADS:
            continue
        table.setdefault(column_name(name), value)
    return {name: value for name, value in table.items() if name}


HEADS = {("attribute", "value"), ("parameter", "value"), ("name", "value"), ("key", "value")}


def card_base(text: str) -> str:
    """The base model that a card's front matter names."""
    match = _BASE.search(text)
    return match[1].strip().strip("'\"")[:200] if match else ""


def card_of(repository: Repository, path: str, token: str | None) -> str:
    """A card of a repository, as text.

    Raises:
        WsdemoError: It is not there, or the Hub fails.
    """
    return read_text(repository, path, token, MAX_CARD_BYTES)
