"""What every reader of a mesh file returns, and how it refuses."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from wsdemo.errors import WsdemoError
from wsdemo.limits import MAX_MESH_FACES, MAX_MESH_PARTS
from wsdemo.media.meshes import Floats, Ints

HINT = "Export the model again, as GLB, OBJ, PLY or STL."
SIMPLER = "Export a simpler model."


@dataclass(frozen=True)
class Raw:
    """A mesh as its file has it.

    Attributes:
        vertices: (V, 3) float64, in the file's units.
        faces: (F, 3) int64.
        notes: What was left out or understood in a way that a person should know.
    """

    vertices: Floats
    faces: Ints
    notes: tuple[str, ...] = ()


def refuse(title: str, message: str, hint: str = HINT) -> WsdemoError:
    """The error of a mesh file."""
    return WsdemoError(title, message, hint)


def cut_off(found: str) -> WsdemoError:
    """The error of a file that ends too early: what it promises, and what is there."""
    return refuse("Mesh cut off", f"The file ends too early: {found}.", "Copy or export it again.")


def check_size(faces: int, parts: int = 1) -> None:
    """Raises WsdemoError if a mesh has too many faces, or a scene too many parts."""
    if parts > MAX_MESH_PARTS:
        raise refuse(
            "Mesh too large",
            f"Its scene places {parts:,} parts; {MAX_MESH_PARTS:,} are allowed.",
            "Join its parts to one mesh, or export fewer of them.",
        )
    if faces > MAX_MESH_FACES:
        raise refuse(
            "Mesh too large",
            f"It has {faces:,} faces; {MAX_MESH_FACES:,} are allowed.",
            "Decimate it first.",
        )


def joined(parts: Sequence[tuple[Floats, Ints]], notes: Sequence[str] = ()) -> Raw:
    """Several (V, 3) vertices with their (F, 3) faces as one mesh; no vertices are shared."""
    if not parts:
        return Raw(np.zeros((0, 3)), np.zeros((0, 3), np.int64), tuple(notes))
    starts = np.cumsum([0] + [len(v) for v, _ in parts[:-1]])
    faces = [f + start for (_, f), start in zip(parts, starts, strict=True)]
    return Raw(np.concatenate([v for v, _ in parts]), np.concatenate(faces), tuple(notes))
