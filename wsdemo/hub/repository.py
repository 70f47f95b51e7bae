"""A repository of the Hub at one commit, and which of its files is meant."""

from dataclasses import dataclass

from wsdemo.errors import WsdemoError
from wsdemo.hub.reference import Reference

USUAL = ("adapter_model.safetensors", "pytorch_lora_weights.safetensors", "predictor.safetensors")
"""Where PEFT and diffusers put an adapter, and ``lol train`` a predictor."""
CONFIG = "adapter_config.json"
"""Where PEFT keeps the scale of the adapter beside it."""


@dataclass(frozen=True)
class Candidate:
    """A safetensors file of a repository: path, bytes, and the hash that the Hub states."""

    path: str
    size: int
    sha256: str | None


@dataclass(frozen=True)
class Repository:
    """A repository at one commit.

    Attributes:
        repo: ``owner/name``.
        commit: 40 hex digits; everything is fetched at it.
        candidates: Its safetensors files.
        chosen: The one to read, if that is clear.
        configs: Folders (``""`` for the root) with an adapter_config.json.
        base_model: What its card says it was made for.
        revision: What was asked for; empty for the main branch.
        is_restricted: Whether it is private or gated.
        is_offline: Whether this is what is kept on this machine, and the Hub was not asked.
        kind: ``model`` or ``dataset``.
        licence: What its card says.
        files: All of its files.
    """

    repo: str
    commit: str
    candidates: tuple[Candidate, ...]
    chosen: Candidate | None
    configs: tuple[str, ...]
    base_model: str
    revision: str = ""
    is_restricted: bool = False
    is_offline: bool = False
    kind: str = "model"
    licence: str = ""
    files: tuple[Candidate, ...] = ()


def choose_file(candidates: tuple[Candidate, ...], reference: Reference) -> Candidate | None:
    """The named file, else a usual name, else the only one; None: ask."""
    by_path = {c.path: c for c in candidates}
    if reference.path is not None:
        if reference.path not in by_path:
            raise WsdemoError(
                "No such file",
                f"{reference.repo} has no safetensors file {reference.path[:80]!r}; it has"
                f" {len(candidates)}, such as {candidates[0].path[:80]}.",
                "Leave out the path to choose from a list.",
            )
        return by_path[reference.path]
    for name in USUAL:
        if name in by_path:
            return by_path[name]
    root = [c for c in candidates if "/" not in c.path] or list(candidates)
    return root[0] if len(root) == 1 else None
