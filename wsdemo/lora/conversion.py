"""Adapters of other containers as safetensors, tensor by tensor as they are stored."""

from collections.abc import Callable
from pathlib import Path

from safetensors.torch import save

from wsdemo.errors import WsdemoError
from wsdemo.files import write_whole
from wsdemo.limits import MAX_LORA_BYTES
from wsdemo.lora.containers import gguf, npz
from wsdemo.lora.containers.container import Container
from wsdemo.lora.containers.finding import opened
from wsdemo.lora.pickles import convert_pickle, say


def convert(source: Path, target: Path, report: Callable[[str], None] = say) -> int:
    """Writes a pickle, a NumPy archive, a GGUF adapter or a folder's adapter as safetensors.

    Args:
        source: What is given.
        target: The .safetensors file.
        report: Takes a sentence on what was left out, if something was.

    Returns:
        The number of tensors.

    Raises:
        WsdemoError: It is none of these, damaged or beyond limits, or a pickle that holds more
            than tensors.
    """
    if source.is_dir() or source.name.endswith(".index.json") or _is_archive(source):
        with opened(source) as container:
            return _write(container, target)
    return convert_pickle(source, target, report)


def _is_archive(path: Path) -> bool:
    with path.open("rb") as file:
        start = file.read(4)
    return start == gguf.MAGIC or (start == b"PK\x03\x04" and npz.is_npz(path))


def _write(container: Container, target: Path) -> int:
    tensors, numbers = {}, 0
    for key in container.header.tensors:
        tensors[key] = container.raw([key])[0].contiguous()
        numbers += tensors[key].numel() * tensors[key].element_size()
        if numbers > MAX_LORA_BYTES:
            raise WsdemoError(
                "File too large", "Its tensors expand to more than 2 GB.", "Convert it in parts."
            )
    write_whole(target, save(tensors, {**container.header.metadata, "format": "pt"}))
    return len(tensors)
