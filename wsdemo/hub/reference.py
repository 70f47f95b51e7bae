"""What a visitor may call a LoRA on the Hub: ``owner/name[@revision][:path]`` or an address."""

import os
import re
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

from wsdemo.errors import WsdemoError

_REFERENCE = re.compile(
    r"(?P<repo>[\w.-]{1,96}/[\w.-]{1,96})(@(?P<revision>[\w./-]{1,120}))?(:(?P<path>[^:]{1,400}))?"
)
DATASETS = "datasets/"
"""What the Hub puts before the name of a repository of the other kind."""


@dataclass(frozen=True)
class Reference:
    """What a visitor asked for: a repository, perhaps a revision and a file in it.

    ``kind`` is ``model`` or ``dataset``.
    """

    repo: str
    revision: str | None = None
    path: str | None = None
    kind: str = "model"


def looks_like_reference(text: str) -> bool:
    """Whether a text could be ``owner/name[@revision][:path]`` or an address."""
    text = text.strip().removeprefix(DATASETS)
    return "://" in text or _REFERENCE.fullmatch(text) is not None


def parse_reference(text: str) -> Reference:
    """Reads ``owner/name[@revision][:path]`` or a pasted address; ``datasets/`` may stand before.

    Raises:
        WsdemoError: It is neither.
    """
    text = text.strip()
    if "://" in text:
        return _parse_address(text)
    kind = "dataset" if text.startswith(DATASETS) else "model"
    text = text.removeprefix(DATASETS)
    match = _REFERENCE.fullmatch(text)
    path = match["path"] if match else None
    if match is None or ".." in text or (path or "").startswith("/"):
        raise WsdemoError(
            "Not a reference to the Hub",
            f"Found {text[:80]!r}; expected owner/name, owner/name@revision:path, or an address.",
            "For example: owner/my-lora, or paste the address of the file's page.",
        )
    return Reference(match["repo"], match["revision"], path, kind)


def _parse_address(text: str) -> Reference:
    hosts = {
        "huggingface.co",
        "www.huggingface.co",
        "hf.co",
        urlsplit(os.environ.get("HF_ENDPOINT", "")).hostname,
    }
    try:
        parts = urlsplit(text)
    except ValueError:  # such as a bracket that is not closed
        parts = urlsplit("")
    pieces = [unquote(p) for p in parts.path.split("/") if p]
    before = DATASETS if pieces[:1] == [DATASETS.rstrip("/")] else ""
    pieces = pieces[1:] if before else pieces
    if parts.scheme not in ("http", "https") or parts.hostname not in hosts or len(pieces) < 2:
        raise WsdemoError(
            "Not an address of the Hub",
            f"Found {text[:80]!r}; expected https://huggingface.co/owner/name…",
            "Paste the address of a model's page or of a file in it.",
        )
    revision = path = None
    if len(pieces) > 3 and pieces[2] in ("blob", "resolve", "tree", "raw"):
        revision, path = pieces[3], "/".join(pieces[4:]) or None
        if pieces[2] == "tree":
            path = None
    reference = f"{before}{pieces[0]}/{pieces[1]}" + (f"@{revision}" if revision else "")
    return parse_reference(reference + (f":{path}" if path else ""))
