"""The shipped test LoRAs that the page offers, as if they had been dropped."""

import re
from functools import cache
from pathlib import Path
from typing import Any

from safetensors.torch import save_file

from wsdemo.checkpoints import DIRECTORY, is_at_hand, load_checkpoint
from wsdemo.lora.modules import Lora
from wsdemo.ui.lora import prediction_html
from wsdemo.ui.shared.events import download_file

NAME = "lora-examples"


@cache
def _shipped() -> list[dict[str, Any]]:
    path = DIRECTORY / f"{NAME}.safetensors"
    return list(load_checkpoint(path)[1]["loras"]) if is_at_hand(path) else []


def example_choices() -> list[tuple[str, str]]:
    """(title, index) of the examples."""
    return [(entry["title"], str(i)) for i, entry in enumerate(_shipped()) if "title" in entry]


def is_example(path: str) -> bool:
    """Whether a file is one that ``example_file`` wrote."""
    return re.fullmatch(r"example-\d+\.safetensors", Path(path).name) is not None


def example_file(index: str | None) -> Any:
    """An example as a file."""
    if not index:
        return None
    entry = _shipped()[int(index)]
    tensors, _ = load_checkpoint(DIRECTORY / f"{NAME}.safetensors")
    prefix = f"{int(index)}/"
    example = {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
    place = Path(download_file(b"", f"example-{int(index)}.safetensors"))
    save_file(example, place, metadata=entry["metadata"])
    return str(place)


def truth(lora: Lora) -> str:
    """The true labels of an example, which its file does not carry."""
    for entry in _shipped():
        if entry["metadata"] == lora.metadata and lora.metadata:
            known = {k: v for k, v in entry["labels"].items() if not isinstance(v, str)}
            listed = ", ".join(f"{prediction_html.shown(k)} {v:g}" for k, v in known.items())
            return f"True labels of this example: {listed}."
    return ""
