"""3MF: objects made of meshes or of other objects, in one model file or several.

Read: the core specification and the production extension (objects in files of their own, whose
numbers may repeat), with what Bambu Studio, OrcaSlicer and PrusaSlicer say of parts that are not
printed. Named, and left out: beam lattices, slices, displacement.
"""

import posixpath
from dataclasses import dataclass, field

import numpy as np
from lxml import etree

from wsdemo.media.formats.raw import Raw, check_size, joined, refuse
from wsdemo.media.formats.threemf_archive import Archive, Elements, part_kinds, volume_kinds
from wsdemo.media.meshes import Floats, Ints

PRODUCTION = "{http://schemas.microsoft.com/3dmanufacturing/production/2015/06}path"
METRES = {"micron": 1e-6, "millimeter": 1e-3, "centimeter": 1e-2, "inch": 0.0254, "foot": 0.3048,
          "meter": 1.0}  # fmt: skip
PRINTED = ("model", "surface", "solidsupport")
"""Kinds of objects that are the thing itself."""
LEFT_OUT = ("beamlattice", "slicestack", "displacementmesh", "implicitfunction", "levelset",
            "booleanshape")  # fmt: skip
"""Elements of extensions that hold geometry which is not read."""
Key = tuple[str, str]
"""An object: the model file that it stands in, and its id there."""


@dataclass
class Object:
    """An object: a mesh, or others with their places.

    Attributes:
        kind: 3MF's type, such as ``model`` or ``support``, or a slicer's.
        vertices: (V, 3).
        faces: (F, 3).
        inside: Other objects, and their (4, 4) matrices.
    """

    kind: str
    vertices: Floats = field(default_factory=lambda: np.zeros((0, 3)))
    faces: Ints = field(default_factory=lambda: np.zeros((0, 3), np.int64))
    inside: list[tuple[Key, Floats]] = field(default_factory=list)


class Model:
    """All model files of an archive, as they name each other."""

    def __init__(self, archive: Archive) -> None:
        self.archive = archive
        self.objects: dict[Key, Object] = {}
        self.items: list[tuple[Key, Floats]] = []
        self.left_out: dict[str, int] = {}
        self.kinds = part_kinds(archive)
        root = archive.root
        self.unit = self._unit(archive.elements(root))
        waiting, seen = [root], set[str]()
        while waiting:
            path = waiting.pop()
            if path not in seen:
                seen.add(path)
                waiting += self._add(path, is_root=path == root)
        for name in LEFT_OUT:
            count = sum(archive.elements(path).count(name) for path in seen)
            if count:
                self._leave_out(name, count)

    def _unit(self, elements: Elements) -> str:
        unit = elements.root.get("unit", "millimeter")
        if unit not in METRES:
            raise refuse(
                "Mesh unreadable",
                f"Its unit is {unit[:20]!r}; expected one of {', '.join(METRES)}.",
            )
        return str(unit)

    def _leave_out(self, what: str, count: int = 1) -> None:
        self.left_out[what] = self.left_out.get(what, 0) + count

    def _add(self, path: str, is_root: bool) -> list[str]:
        """Takes in a model file; returns the others that it names."""
        elements = self.archive.elements(path)
        scale = METRES[self._unit(elements)] / METRES[self.unit]
        names: list[str] = []
        volumes = volume_kinds(self.archive) if is_root else {}
        for entry in elements.all("object"):
            name = entry.get("id", "")
            thing = Object(entry.get("type", "model"))
            for mesh in elements.within(entry, "mesh"):
                thing.vertices, thing.faces = _mesh(elements, mesh)
                thing.vertices = thing.vertices * scale
            self._drop_volumes(thing, volumes.get(name, []))
            for component in elements.within(entry, "component"):
                key = self._key(component, path)
                part = self.kinds.get((name, key[1]), "normal_part") if is_root else "normal_part"
                if part != "normal_part":
                    self._leave_out(part)
                    continue
                names.append(key[0])
                matrix = _matrix(component.get("transform"), scale)
                thing.inside.append((key, matrix))
            self.objects[path, name] = thing
        if is_root:
            for item in elements.all("item"):
                key = self._key(item, path)
                names.append(key[0])
                self.items.append((key, _matrix(item.get("transform"), scale)))
        return names

    def _key(self, entry: etree._Element, path: str) -> Key:
        named = entry.get(PRODUCTION) or entry.get("path")
        return (posixpath.normpath(named).lstrip("/") if named else path, entry.get("objectid", ""))

    def _drop_volumes(self, thing: Object, volumes: list[tuple[int, int, str]]) -> None:
        """Leaves out the triangles of volumes that are no part of the model (PrusaSlicer)."""
        kept = np.ones(len(thing.faces), dtype=bool)
        for first, last, kind in volumes:
            kept[first : last + 1] = False
            self._leave_out(kind)
        thing.faces = thing.faces[kept]

    def roots(self) -> tuple[list[tuple[Key, Floats]], list[str]]:
        """What is built; if nothing is, all objects that are part of no other, and a note."""
        if self.items:
            return self.items, []
        inner = {key for thing in self.objects.values() for key, _ in thing.inside}
        alone = [(key, np.eye(4)) for key in self.objects if key not in inner]
        note = "Its build list is empty: all objects were read, where they stand."
        return alone, [note] if alone else []

    def object(self, key: Key) -> Object:
        """An object by its key.

        Raises:
            WsdemoError: It is not there.
        """
        if key not in self.objects:
            raise refuse(
                "Mesh unreadable",
                f"It names object {key[1][:20]!r} of {key[0][:60]!r}, which is not there.",
            )
        return self.objects[key]


def read_3mf(data: bytes) -> Raw:
    """Reads a 3MF file: what its build list places, in the units of its main model file.

    Raises:
        WsdemoError: No zip, too large, malformed, or with components that contain themselves.
    """
    model = Model(Archive(data))
    roots, notes = model.roots()
    check_size(*_counted(model, roots))
    parts: list[tuple[Floats, Ints]] = []
    waiting = list(reversed(roots))
    while waiting:
        key, matrix = waiting.pop()
        thing = model.object(key)
        if thing.kind not in PRINTED:
            model.left_out[thing.kind] = model.left_out.get(thing.kind, 0) + 1
            continue
        if len(thing.faces):
            moved = thing.vertices @ matrix[:3, :3].T + matrix[:3, 3]
            is_mirrored = np.linalg.det(matrix[:3, :3]) < 0
            parts.append((moved, thing.faces[:, ::-1] if is_mirrored else thing.faces))
        waiting += [(inner, matrix @ place) for inner, place in reversed(thing.inside)]
    for kind, count in sorted(model.left_out.items()):
        notes.append(f"Left out: {count:,} of kind {kind.replace('_', ' ')[:40]}.")
    if not parts:
        listed = f" It has {', '.join(sorted(model.left_out))}." if model.left_out else ""
        raise refuse("Empty mesh", f"The 3MF file holds no mesh that is built.{listed}")
    if model.unit != "millimeter":
        notes.append(f"Its unit is the {model.unit}.")
    return joined(parts, notes)


def _counted(model: Model, roots: list[tuple[Key, Floats]]) -> tuple[int, int]:
    """Faces and parts of all that is built, as often as it is placed."""
    known: dict[Key, tuple[int, int]] = {}
    open_now: set[Key] = set()

    def count(key: Key) -> tuple[int, int]:
        if key in known:
            return known[key]
        if key in open_now or len(open_now) > MAX_DEPTH:
            raise refuse("Mesh unreadable", "A component of the 3MF file contains itself.")
        open_now.add(key)
        thing = model.object(key)
        inner = [count(child) for child, _ in thing.inside]
        open_now.discard(key)
        faces = len(thing.faces) + sum(f for f, _ in inner)
        known[key] = faces, 1 + sum(n for _, n in inner)
        return known[key]

    counts = [count(key) for key, _ in roots]
    return sum(f for f, _ in counts), sum(n for _, n in counts)


MAX_DEPTH = 100
"""Components within components; slicers write two levels."""


def _mesh(elements: Elements, mesh: etree._Element) -> tuple[Floats, Ints]:
    try:
        points = [(float(v.get("x")), float(v.get("y")), float(v.get("z")))
                  for v in elements.within(mesh, "vertex")]  # fmt: skip
        faces = [(int(t.get("v1")), int(t.get("v2")), int(t.get("v3")))
                 for t in elements.within(mesh, "triangle")]  # fmt: skip
    except (TypeError, ValueError) as error:
        raise refuse(
            "Mesh unreadable", f"A vertex or triangle of the 3MF file is malformed ({error})."
        ) from error
    vertices = np.array(points, dtype=np.float64).reshape(-1, 3)
    triangles = np.array(faces, dtype=np.int64).reshape(-1, 3)
    if len(triangles) and (triangles.min() < 0 or triangles.max() >= len(vertices)):
        raise refuse("Mesh unreadable", "Faces name vertices that are not there.")
    return vertices, triangles


def _matrix(text: str | None, scale: float) -> Floats:
    """(4, 4) of 3MF's twelve numbers, which multiply a row vector from the right."""
    matrix = np.eye(4)
    if text:
        try:
            matrix[:3] = np.array([float(word) for word in text.split()]).reshape(4, 3).T
        except ValueError as error:
            raise refuse(
                "Mesh unreadable", f"A transform of the 3MF file is malformed: {text[:60]!r}."
            ) from error
        matrix[:3, 3] *= scale
    return matrix
