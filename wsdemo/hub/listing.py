"""Many repositories by one name: an owner, a collection, or a list."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import quote, unquote, urlsplit

from wsdemo.errors import WsdemoError
from wsdemo.hub.client import ask_api
from wsdemo.hub.reference import Reference, parse_reference

SCHEME, COLLECTIONS = "hf://", "collections/"
_OWNER = re.compile(r"[\w][\w.-]{0,95}")
_COLLECTION = re.compile(r"[\w.-]{1,96}/[\w.-]{1,120}")
PAGE = 1000
"""Repositories that are asked for at once; the Hub gives no more."""


@dataclass(frozen=True)
class Named:
    """What a name stands for.

    Attributes:
        references: Repositories, in the Hub's order, without repetitions.
        left_out: How many more there are than were asked for, at least.
    """

    references: tuple[Reference, ...]
    left_out: int = 0


def repositories(text: str, token: str | None = None, most: int = PAGE) -> Named:
    """The model repositories of ``owner``, ``collections/owner/slug`` or ``owner/name``.

    ``hf://`` may stand before, and the address of any of these pages will do.

    Args:
        text: The name.
        token: Of the visitor.
        most: References wanted.

    Raises:
        WsdemoError: It is no such name, the Hub refuses, or there is nothing.
    """
    name = _path_of(text.strip().removeprefix(SCHEME))
    if name.startswith(COLLECTIONS):
        names = _of_collection(name.removeprefix(COLLECTIONS), token)
    elif _OWNER.fullmatch(name):
        names = owned(name, "models", token, most)
    else:
        return Named((parse_reference(text.strip().removeprefix(SCHEME)),))
    references = tuple(Reference(repo) for repo in dict.fromkeys(names))
    if not references:
        raise WsdemoError(
            "No models", f"{name[:120]} names no model repository.", "Check the spelling."
        )
    return Named(references[:most], max(0, len(references) - most))


def several(texts: Iterable[str]) -> list[str]:
    """The names of a text of several, one a line or with commas between."""
    parts = (part.strip() for text in texts for part in re.split(r"[\s,]+", text))
    return list(dict.fromkeys(part for part in parts if part))


def _path_of(text: str) -> str:
    """The path of an address of an owner or a collection; any other text as it is."""
    if "://" not in text:
        return text.strip("/")
    try:
        path = unquote(urlsplit(text).path).strip("/")
    except ValueError:
        return text
    reads_as_list = _OWNER.fullmatch(path) or path.startswith(COLLECTIONS)
    return path if reads_as_list else text


def owned(owner: str, kind: str, token: str | None, most: int) -> list[str]:
    """The ``models`` or ``datasets`` of an owner, newest first, at least ``most`` if there are.

    Raises:
        WsdemoError: The Hub refuses or is not understood.
    """
    path = f"{kind}?author={quote(owner)}&limit={min(PAGE, most + 1)}&sort=lastModified"
    names: list[str] = []
    while path and len(names) <= most:
        page, path = ask_api(path, owner, token)
        names += _names(page, "id", owner)
    return names


def _of_collection(slug: str, token: str | None) -> list[str]:
    if not _COLLECTION.fullmatch(slug) or ".." in slug:
        raise WsdemoError(
            "Not a collection",
            f"Found {slug[:80]!r}.",
            "Expected collections/owner/title-and-its-number, as in its address.",
        )
    collection, _ = ask_api(f"{COLLECTIONS}{slug}", slug, token)
    items = collection.get("items") if isinstance(collection, dict) else None
    if not isinstance(items, list):
        items = [None]  # which is no answer
    models = [item for item in items if not isinstance(item, dict) or item.get("type") == "model"]
    return _names(models, "id", slug)


def _names(answer: object, key: str, what: str) -> list[str]:
    """The repositories of a list that the Hub gave; anything else is refused."""
    items = answer if isinstance(answer, list) else [None]
    names = [item.get(key) if isinstance(item, dict) else None for item in items]
    for name in names:
        if not isinstance(name, str) or parse_reference(name).repo != name:
            raise WsdemoError(
                "The Hub has a problem", f"Its answer about {what[:80]} was not understood.",
                "Try again later.",
            )  # fmt: skip
    return [str(name) for name in names]
