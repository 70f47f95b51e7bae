"""Checkpoints: safetensors whose metadata carries the recipe that decodes them.

They lie in a clone of the repository, or where WSDEMO_CHECKPOINTS says; what is missing there may
be fetched by a ``Source``, which the entry points name, since this module opens no sockets.
"""

import dataclasses
import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from wsdemo.errors import WsdemoError
from wsdemo.files import write_whole

_KEY = "wsdemo"
T = TypeVar("T")


# ---- where they lie ------------------------------------------------------------------------


def checkpoints_folder(environment: Mapping[str, str], above: Path) -> Path:
    """The folder of the checkpoints.

    Args:
        environment: Where WSDEMO_CHECKPOINTS may name a folder, which is then the only one.
        above: The folder that holds the package: of a clone, with its checkpoints, or another.

    Returns:
        That folder, the clone's, or a cache of this user's, which need not exist.
    """
    if named := environment.get("WSDEMO_CHECKPOINTS"):
        return Path(named).expanduser().resolve()
    if (above / "pyproject.toml").is_file() and (above / "checkpoints").is_dir():
        return above / "checkpoints"
    cache = Path(environment.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "wsdemo" / "checkpoints"


DIRECTORY = checkpoints_folder(os.environ, Path(__file__).resolve().parent.parent)
"""Where the shipped checkpoints lie, or are fetched to."""


class Source(Protocol):
    """Where checkpoints come from that are not on this machine."""

    def names(self) -> Sequence[str]:
        """File names of the checkpoints that it has."""

    def fetch(self, name: str, path: Path) -> None:
        """Writes one of them to a path, whole or not at all.

        Raises:
            WsdemoError: It has none of that name, or it cannot be reached.
        """


_sources: list[Source] = []


def fetch_from(*sources: Source) -> None:
    """Names the source of missing checkpoints; without arguments there is none."""
    _sources[:] = sources


def checkpoint_names(prefix: str = "") -> list[str]:
    """File names of the checkpoints, on this machine and at its source, that begin so."""
    names = {path.name for path in DIRECTORY.glob("*.safetensors")}
    for source in _sources:
        names |= set(source.names())
    return sorted(name for name in names if name.startswith(prefix))


def is_at_hand(path: Path) -> bool:
    """Whether a checkpoint is there, after fetching it if there is a source that has it."""
    if not path.is_file() and path.parent == DIRECTORY:
        for source in _sources:
            if path.name in source.names():
                source.fetch(path.name, path)
    return path.is_file()


def _missing(path: Path) -> WsdemoError:
    return WsdemoError(
        "Checkpoint missing",
        f"{path.name} is not in {path.parent}.",
        "Clone the repository whole, or train it with the recipe in wsdemo/train. Outside a clone,"
        " let WSDEMO_CHECKPOINTS name a folder that holds it, or WSDEMO_CHECKPOINTS_REPO a"
        " repository of the Hub (owner/name).",
    )


# ---- files ---------------------------------------------------------------------------------


def save_checkpoint(path: Path, tensors: Mapping[str, Tensor], meta: Mapping[str, Any]) -> None:
    """Writes tensors and one JSON object of metadata to a safetensors file, whole or not at all."""
    flat = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    write_whole(path, save(flat, metadata={_KEY: json.dumps(meta, sort_keys=True)}))


def load_checkpoint(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Reads a file that save_checkpoint wrote; one of DIRECTORY is fetched first if it is missing.

    Raises:
        WsdemoError: The file is missing and cannot be fetched, or is not such a file.
    """
    if not is_at_hand(path):
        raise _missing(path)
    try:
        with safe_open(path, framework="pt") as file:
            meta = json.loads((file.metadata() or {}).get(_KEY, "null"))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, ValueError) as error:
        raise WsdemoError(
            "Checkpoint damaged",
            f"{path.name} is no complete safetensors file ({type(error).__name__}).",
            "If it is a Git LFS pointer, run git lfs pull; else download it again.",
        ) from error
    if not isinstance(meta, dict):
        raise WsdemoError(
            "Not a wsdemo checkpoint",
            f"{path.name} carries no wsdemo metadata.",
            "Use a file from checkpoints/ or one that a recipe wrote.",
        )
    return tensors, meta


_PACKED_FROM = 4096
"""Matrices of fewer entries are not worth packing."""


def pack(name: str, value: Tensor) -> dict[str, Tensor]:
    """A parameter as it is stored: a large matrix in a byte an entry, anything else in fp16.

    A row w (all but the last dimension) is stored as round(w / s) with s = max|w| / 127 beside
    it, as ``NAME.step``: wrong by at most s / 2.
    """
    if value.dim() < 2 or value.numel() < _PACKED_FROM:
        return {name: value.half()}
    step = value.float().abs().amax(-1, keepdim=True).clamp(min=1e-12) / 127
    return {name: (value / step).round().to(torch.int8), f"{name}.step": step}


def unpack(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """float32 tensors by name, from what ``pack`` made of them.

    Raises:
        ValueError: A step is not one a row, and the product would have another shape.
    """
    for name, value in tensors.items():
        step = tensors.get(f"{name}.step")
        if step is not None and step.shape != (*value.shape[:-1], 1):
            raise ValueError(f"the step of {name} has the shape {tuple(step.shape)}")
    return {
        name: value.float() * tensors[f"{name}.step"] if f"{name}.step" in tensors
        else value.float()
        for name, value in tensors.items() if not name.endswith(".step")
    }  # fmt: skip


def tensors_hash(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 over names, shapes, dtypes and bytes: the identity of a set of tensors."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}\n".encode())
        digest.update(tensor.flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def config_from(cls: type[T], values: Mapping[str, Any]) -> T:
    """Builds a config dataclass from JSON; an unknown key is an error."""
    assert dataclasses.is_dataclass(cls)
    known = {field.name for field in dataclasses.fields(cls)}
    unknown = sorted(set(values) - known)
    if unknown:
        raise WsdemoError(
            "Unknown configuration",
            f"{cls.__name__} has no field {', '.join(unknown)}.",
            "The file was written by a newer wsdemo: update this one.",
        )
    return cls(**{k: tuple(v) if isinstance(v, list) else v for k, v in values.items()})
