"""What a GLB, glTF or 3MF file announces, judged before any library builds it.

A small file can stand for a large mesh: a zip that unpacks to a thousand times its size, or
one part placed ten thousand times. Both are found here by counting.
"""

import io
import json
import re
import struct
import zipfile
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from typing import Any

from wsdemo.errors import WsdemoError
from wsdemo.limits import MAX_MESH_FACES, MAX_MESH_PARTS, MAX_UNPACKED_BYTES, MAX_XML_TAGS

HINT = "Export the model again, as GLB, OBJ, PLY or STL."
SIMPLER = "Export a simpler model."
Tree = dict[str, Any]


def refuse(title: str, message: str, hint: str = HINT) -> WsdemoError:
    """The error of a mesh file."""
    return WsdemoError(title, message, hint)


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


# ---- 3MF: a zip with XML in it -----------------------------------------------------

_ELEMENT = re.compile(rb"<(?:[\w.-]+:)?(object|component|item)\s([^>]*)>")
_ID = re.compile(rb"(?<![\w:.-])id\s*=\s*[\"']([^\"']*)")
_OBJECT_ID = re.compile(rb"objectid\s*=\s*[\"']([^\"']*)")


def check_3mf(data: bytes) -> None:
    """Bounds what a 3MF file unpacks to, and how often it places its objects.

    Raises:
        WsdemoError: No zip, too large, or with components that contain themselves.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            unpacked = sum(entry.file_size for entry in archive.infolist())
            if unpacked > MAX_UNPACKED_BYTES:
                raise refuse(
                    "Mesh too large",
                    f"The archive unpacks to {unpacked / 2**20:,.0f} MB;"
                    f" {MAX_UNPACKED_BYTES / 2**20:.0f} are allowed.",
                    SIMPLER,
                )
            names = [n for n in archive.namelist() if n.lower().endswith(".model")]
            models = [archive.read(name) for name in names]
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError) as error:
        raise refuse("Mesh unreadable", "The 3MF file is no intact zip archive.") from error
    tags = sum(model.count(b"<") for model in models)
    if tags > MAX_XML_TAGS:
        raise refuse(
            "Mesh too large",
            f"Its XML has {tags:,} elements; {MAX_XML_TAGS:,} are allowed.",
            "Export it as GLB, PLY or STL, which are binary.",
        )
    if any(b"\0" in model for model in models):
        raise refuse("Mesh unreadable", "The XML of the 3MF file is not UTF-8.")
    faces, parts = _placed(models)
    check_size(faces, parts)


def _first(pattern: re.Pattern[bytes], text: bytes) -> bytes:
    found = pattern.search(text)
    return found.group(1) if found else b""


def _placed(models: list[bytes]) -> tuple[int, int]:
    """Faces and parts of all objects as often as they are placed, components within components."""
    faces: dict[bytes, int] = {}
    inside: dict[bytes, list[bytes]] = {b"": []}  # the build, which no object is called like
    for model in models:
        owner, last = b"", 0
        for element in _ELEMENT.finditer(model):
            kind, attributes = element.groups()
            if kind == b"object":
                faces[owner] = faces.get(owner, 0) + model.count(b"v1", last, element.start())
                owner, last = _first(_ID, attributes), element.end()
                inside.setdefault(owner, [])
            else:
                place = owner if kind == b"component" else b""
                inside[place].append(_first(_OBJECT_ID, attributes))
        faces[owner] = faces.get(owner, 0) + model.count(b"v1", last)
    parts: dict[bytes, int] = {}
    try:
        for name in TopologicalSorter(inside).static_order():
            within = inside.get(name, [])
            parts[name] = 1 + sum(parts[child] for child in within)
            faces[name] = faces.get(name, 0) + sum(faces[child] for child in within)
    except CycleError as error:
        raise refuse("Mesh unreadable", "A component of the 3MF file contains itself.") from error
    return faces[b""], parts[b""] - 1


# ---- glTF: JSON, and buffers -------------------------------------------------------

HARMLESS = re.compile(
    "KHR_mesh_quantization|.*(material|texture|light|animation|xmp|variant|visibility).*"
)
"""Extensions that may be required and leave the geometry as it is, or are undone here."""
PACKED = {
    "KHR_draco_mesh_compression": "compressed by Draco",
    "EXT_meshopt_compression": "compressed by meshopt",
    "KHR_meshopt_compression": "compressed by meshopt",
}
STEPS = {5120: 127, 5121: 255, 5122: 32767, 5123: 65535}
"""What a normalised integer is divided by, by glTF's number of its type."""
_UNUSED = ("images", "textures", "materials", "samplers", "animations")


def prepare_gltf(data: bytes, kind: str) -> bytes:
    """A glTF's own content, freed of textures, with normalised integers as fractions.

    Raises:
        WsdemoError: Malformed, too large, compressed, or with its geometry in other files.
    """
    text, rest = data, b""
    if kind == "glb":
        if len(data) < 20 or data[:4] != b"glTF":
            raise refuse("Mesh unreadable", "The file does not begin like a GLB.")
        (length,) = struct.unpack("<I", data[12:16])
        text, rest = data[20 : 20 + length], data[20 + length :]
    try:
        tree: Tree = json.loads(text)
        _check_buffers(tree)
        _check_extensions([str(name) for name in tree.get("extensionsRequired", [])])
        check_size(*_announced(tree))
        _scale_normalised(tree)
        for key in _UNUSED:
            tree.pop(key, None)
        for primitive in _primitives(tree):
            primitive.pop("material", None)
    except (ValueError, AttributeError, TypeError, KeyError, IndexError, RecursionError) as error:
        raise refuse("Mesh unreadable", "Its glTF description is malformed.") from error
    packed = json.dumps(tree).encode()
    if kind == "gltf":
        return packed
    packed += b" " * (-len(packed) % 4)
    body = struct.pack("<I4s", len(packed), b"JSON") + packed + rest
    return struct.pack("<4sII", b"glTF", 2, 12 + len(body)) + body


def _primitives(tree: Tree) -> Iterator[Tree]:
    for mesh in tree.get("meshes", []):
        yield from mesh.get("primitives", [])


def _check_buffers(tree: Tree) -> None:
    places = [buffer.get("uri", "") for buffer in tree.get("buffers", [])]
    outside = [str(uri)[:60] for uri in places if uri and not str(uri).startswith("data:")]
    if outside:
        raise refuse(
            "Mesh incomplete",
            f"It keeps its geometry in another file, {outside[0]!r}, which is not here.",
            "Export as a single GLB file.",
        )
    if not tree.get("bufferViews", []):
        raise refuse("Empty mesh", "The scene holds no geometry.")


def _check_extensions(required: list[str]) -> None:
    unknown = [name for name in required if not HARMLESS.fullmatch(name)]
    if not unknown:
        return
    how = next((PACKED[name] for name in unknown if name in PACKED), "stored in a special way")
    raise refuse(
        "Mesh compressed" if how in PACKED.values() else "Mesh unreadable",
        f"Its geometry is {how} ({', '.join(unknown)[:120]}), which is not read here.",
        "Export it without compression, or as OBJ, PLY or STL.",
    )


def _announced(tree: Tree) -> tuple[int, int]:
    """Faces and parts of a scene, each mesh counted as often as nodes place it."""
    accessors, meshes = tree.get("accessors", []), tree.get("meshes", [])

    def faces(primitive: Tree) -> int:
        index = primitive.get("indices", primitive["attributes"].get("POSITION"))
        count = 0 if index is None else int(accessors[index]["count"])
        return count // 3 if primitive.get("mode", 4) == 4 else count

    each = [[faces(primitive) for primitive in mesh.get("primitives", [])] for mesh in meshes]
    nodes = tree.get("nodes", [])
    placed = [each[node["mesh"]] for node in nodes if "mesh" in node]
    stored, shown = sum(map(sum, each)), sum(map(sum, placed))
    parts = sum(map(len, placed))
    return max(stored, shown), max(parts, len(nodes), sum(map(len, each)))


def _scale_normalised(tree: Tree) -> None:
    """KHR_mesh_quantization: a mesh of normalised integers gets a node that divides them."""
    accessors, nodes = tree.get("accessors", []), tree.get("nodes", [])
    steps = []
    for mesh in tree.get("meshes", []):
        places = [p["attributes"].get("POSITION") for p in mesh.get("primitives", [])]
        stored = [accessors[place] for place in places if place is not None]
        found = {STEPS.get(a["componentType"], 1) if a.get("normalized") else 1 for a in stored}
        if len(found) > 1:
            raise refuse("Mesh unreadable", "The parts of one mesh are quantised differently.")
        steps.append(found.pop() if found else 1)
    for node in list(nodes):
        if "mesh" in node and steps[node["mesh"]] > 1:
            step = steps[node["mesh"]]
            node.setdefault("children", []).append(len(nodes))
            nodes.append({"mesh": node.pop("mesh"), "scale": [1 / step] * 3})
