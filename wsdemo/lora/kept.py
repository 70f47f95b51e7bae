"""The tensors of a file beside its updates: read as they are stored, when they are written on."""

from collections.abc import Iterable
from pathlib import Path

from torch import Tensor

from wsdemo.errors import WsdemoError
from wsdemo.lora.containers.finding import opened_alone
from wsdemo.lora.modules import KeptTensor, Lora, LoraModule


def read_kept(tensors: Iterable[KeptTensor]) -> dict[str, Tensor]:
    """Key → tensor, in its stored type and shape.

    Raises:
        WsdemoError: A file is gone, damaged, or no longer what it was.
    """
    by_path: dict[Path, list[KeptTensor]] = {}
    for tensor in tensors:
        by_path.setdefault(tensor.path, []).append(tensor)
    by_key: dict[str, Tensor] = {}
    for path, kept in by_path.items():
        with opened_alone(path) as container:
            for tensor in kept:
                if container.header.tensors.get(tensor.key) != (tensor.dtype, tensor.shape):
                    raise _changed(path, tensor.key)
                by_key[tensor.key] = container.raw([tensor.key])[0]
    return by_key


def read_stored(lora: Lora, module: LoraModule) -> dict[str, Tensor]:
    """Key → tensor of a module's own, in stored type and shape: for a copy without conversion.

    Raises:
        WsdemoError: As read_kept.
    """
    tensors: dict[str, Tensor] = {}
    by_path: dict[Path, list[str]] = {}
    if lora.source is None:
        return tensors
    for key in module.keys:
        by_path.setdefault(lora.places.get(key, lora.source), []).append(key)
    for path, keys in by_path.items():
        with opened_alone(path) as container:
            for key in keys:
                if key not in container.header.tensors:
                    raise _changed(path, key)
                tensors[key] = container.raw([key])[0]
    return tensors


def _changed(path: Path, key: str) -> WsdemoError:
    return WsdemoError(
        "The file has changed",
        f"{path.name} no longer holds {key[:80]!r} as it did.",
        "Read it again.",
    )
