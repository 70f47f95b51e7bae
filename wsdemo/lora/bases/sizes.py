"""Which of the models that share their layers' names a LoRA is for: by its layers and dimensions.

A model is named if it has as many layers as the file, and no dimension of the file is another
there. Models of one size have one name here: all of them are said.
"""

import re
from collections.abc import Mapping, Sequence

from wsdemo.lora.bases.spelled import spelled
from wsdemo.lora.bases.tables import Base

_LAYER = re.compile(r"\.(\d+)\.")


def dimensions(
    base: Base, names: Sequence[str], shapes: Mapping[str, tuple[int, ...]]
) -> dict[str, int]:
    """What a file says of its model: ``layers`` and the table's dimensions.

    Empty if it contradicts itself, or leaves out a layer before its last.
    """
    sides: dict[str, int] = {}
    layers: set[int] = set()
    for name in names:
        entry = base.find(spelled(name).flat)
        canonical = entry.pieces[0].module if entry else ""
        ending = next((e for e in base.dimensions if canonical.endswith(f".{e}")), "")
        layer = _LAYER.search(canonical)
        shape = shapes.get(name, ())
        if not ending or not layer or len(shape) != 2:
            continue
        layers.add(int(layer[1]))
        for key, side in zip(base.dimensions[ending], shape, strict=True):
            if sides.setdefault(key, side) != side:
                return {}
    if not sides or layers != set(range(len(layers))):
        return {}
    return sides | {"layers": len(layers)}


def fitting(
    base: Base, names: Sequence[str], shapes: Mapping[str, tuple[int, ...]]
) -> tuple[str, ...]:
    """The models of a table that a file's layers and dimensions allow; empty if none is known."""
    if not base.sizes:
        return ()
    measured = dimensions(base, names, shapes)
    if len(measured) < 3:  # a width alone is no model's
        return ()
    return tuple(
        model
        for model, sizes in base.sizes.items()
        if all(sizes[key] == value for key, value in measured.items())
    )


def spoken(base: Base, text: str) -> str:
    """The model of a table's sizes that a text names; empty if none."""
    plain = re.sub(r"[^a-z0-9.]", "", text.lower())
    models = [m for m in base.sizes if re.sub(r"[^a-z0-9.]", "", m.lower()) in plain]
    return max(models, key=len, default="")
