"""The instance file: one fitted picture or shape, with all that it takes to decode it.

A safetensors file. Tensors: ``LAYER.A`` (r, d_in) and ``LAYER.B`` (d_out, r) per layer,
or ``LAYER.weight`` (d_out, d_in) and ``LAYER.bias`` (d_out, 1) for an MLP, float32.
Metadata, one JSON object under the key ``wsdemo``:

    {"kind": "instance", "version": 1, "domain": "image", "size": 64,
     "base": {"name": "faces-base", "hash": "…"},
     "adapter": {"representation": "mlora-asym", "rank": 8, "seed": 0},
     "measured": {"psnr": 31.2, …}}

and ``"canonical": true`` if the factors are not those that were fitted but canonical ones
(fields/gauges.py): the same field from weights that lie elsewhere.

Coordinates are pixel centres in [-1, 1], x to the right and y down; values are RGB in
[-1, 1], clamped and mapped to 0-255 by round((v + 1) · 127.5).
"""

import dataclasses
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save
from torch import Tensor

from wsdemo.checkpoints import config_from
from wsdemo.errors import WsdemoError
from wsdemo.fields.adapters import Adapter, AdapterConfig
from wsdemo.fields.base import FrozenBase
from wsdemo.fields.instance_metadata import checked_metadata
from wsdemo.files import write_whole
from wsdemo.limits import MAX_INSTANCE_BYTES
from wsdemo.safetensors_header import read_header

VERSION = 1


@dataclass(frozen=True)
class Instance:
    """One instance.

    Attributes:
        adapter: Representation and base.
        weights: (D,) float32.
        domain: The kind that its base is of: ``image``, ``sdf``.
        base_name: Name of the base's checkpoint.
        base_hash: Hash of its tensors.
        size: Pixels a side of the fitted picture.
        measured: What was measured when it was made.
        is_canonical: Whether the weights are canonical factors instead of fitted ones.
    """

    adapter: Adapter
    weights: Tensor
    domain: str
    base_name: str
    base_hash: str
    size: int = 64
    measured: dict[str, float] = field(default_factory=dict)
    is_canonical: bool = False

    def to_bytes(self) -> bytes:
        """The file's content; equal instances give equal bytes."""
        tensors = {
            name: tensor[0].detach().cpu().float().contiguous()
            for name, tensor in self.adapter.tensors(self.weights[None]).items()
        }
        meta = {
            "kind": "instance",
            "version": VERSION,
            "domain": self.domain,
            "size": self.size,
            "base": {"name": self.base_name, "hash": self.base_hash},
            "adapter": dataclasses.asdict(self.adapter.config),
            "measured": self.measured,
        } | ({"canonical": True} if self.is_canonical else {})
        return save(tensors, metadata={"wsdemo": json.dumps(meta, sort_keys=True)})

    def save(self, path: Path) -> int:
        """Writes the file, whole or not at all, and returns its size in bytes."""
        return write_whole(path, self.to_bytes())


BaseLoader = Callable[[str], tuple[FrozenBase, dict[str, Any]]]


def _refuse(message: str, hint: str) -> WsdemoError:
    return WsdemoError("Not an instance of this app", message, hint)


def read_instance(path: Path, load_base: BaseLoader) -> Instance:
    """Reads an instance file.

    Args:
        path: The file.
        load_base: Maps a base's name to the base and its metadata.

    Raises:
        WsdemoError: Not such a file, of another base, incomplete, or not finite.
    """
    size = path.stat().st_size
    if size > MAX_INSTANCE_BYTES:
        raise _refuse(
            f"The file has {size:,} bytes; an instance has at most {MAX_INSTANCE_BYTES:,}.",
            "Give a file that Fit or Sample wrote.",
        )
    header = read_header(path)
    meta = _metadata(header.metadata.get("wsdemo"))
    base, base_meta = load_base(str(meta["base"]["name"]))
    if meta["base"]["hash"] != base_meta["hash"]:
        raise _refuse(
            f"It was fitted on another version of the base {meta['base']['name']!r}"
            f" (hash {str(meta['base']['hash'])[:12]}, here {base_meta['hash'][:12]}).",
            "Fit the picture again, or use the wsdemo version that wrote the file.",
        )
    if meta["domain"] != base_meta["domain"]:
        raise _refuse(
            f"It says domain {meta['domain'][:20]!r}; its base is of {base_meta['domain']!r}.",
            "Download the file again.",
        )
    adapter = Adapter(base, config_from(AdapterConfig, meta["adapter"]))
    expected = {slot.name: slot.shape for slot in adapter.slots}
    shapes = {name: shape for name, (_, shape) in header.tensors.items()}
    if shapes != expected:
        missing = sorted(set(expected) - set(shapes))
        extra = sorted(set(shapes) - set(expected))
        wrong = sorted(n for n in set(shapes) & set(expected) if shapes[n] != expected[n])
        parts = [
            f"{label} {', '.join(n[:40] for n in names[:4])}"
            for label, names in (("missing", missing), ("unknown", extra), ("wrong shape", wrong))
            if names
        ]
        raise _refuse(f"Its tensors do not fit: {'; '.join(parts)}.", "Download the file again.")
    kinds = {dtype for dtype, _ in header.tensors.values()}
    if not kinds <= {"F32", "F16", "BF16", "F64"}:
        raise _refuse(f"Its tensors are {', '.join(sorted(kinds))}.", "Expected floating point.")
    tensors = {name: t.float()[None] for name, t in load_file(path).items()}
    weights = adapter.flatten(tensors)[0]
    if not bool(torch.isfinite(weights).all()):
        bad = [n for n, t in tensors.items() if not bool(torch.isfinite(t).all())]
        raise _refuse(f"NaN or infinite values in {', '.join(bad[:4])}.", "Fit the picture again.")
    return Instance(
        adapter,
        weights,
        meta["domain"],
        str(meta["base"]["name"]),
        base_meta["hash"],
        meta["size"],
        meta["measured"],
        meta["canonical"],
    )


def _metadata(text: str | None) -> dict[str, Any]:
    """Parses the metadata of an instance and checks them field by field."""
    if text is None:
        raise _refuse(
            "The file carries no wsdemo metadata.",
            "Give a file that Fit or Sample wrote; LoRAs of other models are not read here.",
        )
    try:
        meta = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _refuse(
            f"Its wsdemo metadata are malformed ({type(error).__name__}).",
            "Give a file that Fit or Sample wrote.",
        ) from error
    return checked_metadata(meta, VERSION)
