"""glTF and GLB: every mesh of the scene where its node, its skeleton or its instances place it.

As the specification has it: a skinned mesh follows its joints and not its node, morph targets
enter with their default weights, and a node that mirrors turns the faces around.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from wsdemo.errors import WsdemoError
from wsdemo.media.formats.draco import DracoMesh
from wsdemo.media.formats.gltf_file import Gltf, Tree, compressed
from wsdemo.media.formats.raw import Raw, check_size, joined, refuse
from wsdemo.media.formats.strips import fan_triangles, strip_triangles
from wsdemo.media.meshes import Floats, Ints

READ = re.compile(
    "KHR_mesh_quantization|EXT_mesh_gpu_instancing|KHR_draco_mesh_compression|VRM.*|"
    ".*(material|texture|light|animation|xmp|variant|visibility|metadata|feature|physics|audio|lod"
    "|interactivity|outline|camera|hover|select).*",
    re.IGNORECASE,
)
"""Extensions that may be required: they are read here, or leave the geometry as it is."""
PACKED = {
    "EXT_meshopt_compression": "meshopt",
    "KHR_meshopt_compression": "meshopt",
}
TRIANGLES, STRIP, FAN = 4, 5, 6
DRACO = "KHR_draco_mesh_compression"
INSTANCING = "EXT_mesh_gpu_instancing"
Reader = Callable[[str], Floats]
"""Name of an attribute → (V, width) values."""


@dataclass(frozen=True)
class Placed:
    """A mesh in the scene: its node, and the node's (4, 4) matrix into the world."""

    node: Tree
    world: Floats


def read_gltf(data: bytes, kind: str, beside: Mapping[str, bytes]) -> Raw:
    """Reads a glTF or GLB file.

    Args:
        data: The file.
        kind: ``glb`` or ``gltf``.
        beside: Name → content of files that its buffers may lie in.

    Raises:
        WsdemoError: Malformed, cut off, too large, compressed, or with buffers that are not here.
    """
    try:
        file = Gltf(data, kind, beside)
        _check_extensions([str(name) for name in file.list_of("extensionsRequired")])
        worlds, notes = _walk(file)
        placed = [
            Placed(node, world)
            for index, world in worlds.items()
            if "mesh" in (node := file.list_of("nodes")[index])
        ]
        check_size(*_announced(file, placed))
        return _read(file, placed, worlds, notes)
    except WsdemoError:
        raise
    except (
        ValueError, AttributeError, TypeError, KeyError, IndexError, RecursionError, OverflowError,
    ) as error:  # fmt: skip
        raise refuse(
            "Mesh unreadable",
            f"Its glTF description is malformed ({type(error).__name__}: {str(error)[:60]}).",
        ) from error


def _check_extensions(required: list[str]) -> None:
    unknown = [name for name in required if not READ.fullmatch(name)]
    for name in unknown:
        if name in PACKED:
            raise compressed(PACKED[name], name)
    if unknown:
        raise refuse(
            "Mesh unreadable",
            f"Its geometry is stored in a special way ({', '.join(unknown)[:120]}), which is not"
            " read here.",
            "Export it without extensions, or as OBJ, PLY or STL.",
        )


# ---- the scene ---------------------------------------------------------------------


def _matrix(node: Tree) -> Floats:
    """(4, 4) local matrix of a node: its own, or translation · rotation · scale."""
    if "matrix" in node:
        return np.array(node["matrix"], dtype=np.float64).reshape(4, 4).T
    return _trs(
        np.array([node.get("translation", (0, 0, 0))], dtype=np.float64),
        np.array([node.get("rotation", (0, 0, 0, 1))], dtype=np.float64),
        np.array([node.get("scale", (1, 1, 1))], dtype=np.float64),
    )[0]


def _trs(translation: Floats, rotation: Floats, scale: Floats) -> Floats:
    """(n, 4, 4) matrices of (n, 3) translations, (n, 4) quaternions x y z w and (n, 3) scales."""
    length = np.linalg.norm(rotation, axis=1, keepdims=True)
    x, y, z, w = (rotation / np.where(length > 0, length, 1)).T
    turn = np.array([
        [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
        [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
        [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
    ]).transpose(2, 0, 1)  # fmt: skip
    matrices = np.tile(np.eye(4), (len(turn), 1, 1))
    matrices[:, :3, :3] = turn * scale[:, None, :]
    matrices[:, :3, 3] = translation
    return matrices


def _roots(file: Gltf) -> tuple[list[int], list[str]]:
    """The nodes that a scene begins with, and what to say of other scenes."""
    scenes, nodes = file.list_of("scenes"), file.list_of("nodes")
    named, notes = list(range(len(nodes))), []
    if scenes:
        chosen = int(file.tree.get("scene", 0))
        named = list(scenes[chosen].get("nodes", []))
        notes = [f"Scene {chosen + 1} of {len(scenes)} was read."] if len(scenes) > 1 else []
    parents = _parents(nodes)
    roots = [index for index in named if index not in parents]  # a child is met with its parent
    if named and not roots:
        raise refuse("Mesh unreadable", "A node of the scene contains itself.")
    return roots, notes


def _parents(nodes: list[Tree]) -> dict[int, int]:
    """Node → the node above it."""
    return {child: i for i, node in enumerate(nodes) for child in node.get("children", [])}


def _world(nodes: list[Tree], index: int) -> Floats:
    """A node's matrix into the world, wherever it is: joints need not be in the scene."""
    parents, matrix = _parents(nodes), np.eye(4)
    for _ in range(len(nodes)):
        matrix = _matrix(nodes[index]) @ matrix
        if index not in parents:
            return matrix
        index = parents[index]
    raise refuse("Mesh unreadable", "A node of the scene contains itself.")


def _walk(file: Gltf) -> tuple[dict[int, Floats], list[str]]:
    """World matrices of the nodes of the scene, in order, and notes."""
    nodes = file.list_of("nodes")
    roots, notes = _roots(file)
    worlds: dict[int, Floats] = {}
    hidden = 0
    open_nodes = [(index, np.eye(4)) for index in reversed(roots)]
    while open_nodes:
        index, above = open_nodes.pop()
        if index in worlds or index < 0:
            raise refuse(
                "Mesh unreadable", "A node of the scene has two parents, or contains itself."
            )
        node = nodes[index]
        if node.get("extensions", {}).get("KHR_node_visibility", {}).get("visible") is False:
            hidden += 1
            continue
        worlds[index] = above @ _matrix(node)
        open_nodes += [(child, worlds[index]) for child in reversed(node.get("children", []))]
    if hidden:
        notes.append(f"Parts that the file hides were left out: {hidden:,}.")
    return worlds, notes


def _announced(file: Gltf, placed: list[Placed]) -> tuple[int, int]:
    """Faces and parts of a scene, each mesh counted as often as it is placed."""
    accessors, meshes = file.list_of("accessors"), file.list_of("meshes")
    faces = parts = 0
    for place in placed:
        copies = 1
        if instances := _instancing(place.node):
            copies = max(int(accessors[i]["count"]) for i in instances.values())
        for primitive in meshes[place.node["mesh"]].get("primitives", []):
            index = primitive.get("indices", primitive["attributes"].get("POSITION"))
            count = 0 if index is None else int(accessors[index]["count"])
            each = count // 3 if primitive.get("mode", TRIANGLES) == TRIANGLES else count
            faces, parts = faces + copies * each, parts + copies
    return faces, max(parts, len(file.list_of("nodes")))


# ---- its meshes --------------------------------------------------------------------


def _read(file: Gltf, placed: list[Placed], worlds: dict[int, Floats], notes: list[str]) -> Raw:
    parts: list[tuple[Floats, Ints]] = []
    thin = 0
    for place in placed:
        mesh = file.list_of("meshes")[place.node["mesh"]]
        weights = place.node.get("weights", mesh.get("weights", []))
        for primitive in mesh.get("primitives", []):
            if primitive.get("mode", TRIANGLES) not in (TRIANGLES, STRIP, FAN):
                thin += 1
                continue
            packed = _packed(file, primitive)
            read = _reader(file, primitive, packed)
            vertices, faces = _primitive(file, primitive, weights, packed, read)
            if "skin" in place.node and "JOINTS_0" in primitive["attributes"]:
                joints = _joints(file, place.node["skin"], worlds)
                parts.append((_skinned(joints, primitive, vertices, read), faces))
                continue
            for matrix in place.world @ _copies(file, place.node):
                moved = vertices @ matrix[:3, :3].T + matrix[:3, 3]
                is_mirrored = np.linalg.det(matrix[:3, :3]) < 0
                parts.append((moved, faces[:, ::-1] if is_mirrored else faces))
    if any("skin" in place.node for place in placed):
        notes.append("Posed by its skeleton as the file has it; animations are not played.")
    if thin:
        notes.append(f"Points and lines were left out: {thin:,} parts.")
    if not parts:
        for number in range(len(file.list_of("buffers"))):
            file.buffer(number)  # says which one is not here
        what = "only points and lines" if thin else "no geometry"
        raise refuse("Empty mesh", f"The scene holds {what}.")
    return joined(parts, notes)


def _packed(file: Gltf, primitive: Tree) -> DracoMesh | None:
    """What Draco packs of a primitive, unless the file holds it unpacked as well."""
    extension = primitive.get("extensions", {}).get(DRACO)
    position = primitive["attributes"].get("POSITION")
    if extension is None or position is None:
        return None
    accessors = file.list_of("accessors")
    if "bufferView" in accessors[position]:
        return None
    most = int(accessors[primitive.get("indices", position)]["count"])
    return DracoMesh(file.view(extension["bufferView"])[0], most)


def _reader(file: Gltf, primitive: Tree, packed: DracoMesh | None) -> Reader:
    """What gives the values of a primitive's attributes by name."""

    def read(name: str) -> Floats:
        number = primitive["attributes"][name]
        if packed is None:
            return file.numbers(number)
        inner = primitive["extensions"][DRACO]["attributes"]
        if name not in inner:
            return file.numbers(number)
        return file.as_fractions(number, packed.numbers(int(inner[name])))

    return read


def _primitive(
    file: Gltf, primitive: Tree, weights: Any, packed: DracoMesh | None, read: Reader
) -> tuple[Floats, Ints]:
    """(V, 3) vertices, morphed by default weights, and (F, 3) faces."""
    if "POSITION" not in primitive["attributes"]:
        return np.zeros((0, 3)), np.zeros((0, 3), np.int64)
    vertices = read("POSITION")
    for weight, target in zip(weights, primitive.get("targets", []), strict=False):
        if weight and "POSITION" in target:
            vertices = vertices + float(weight) * file.numbers(target["POSITION"])
    if packed is not None:
        return vertices, packed.faces
    if "indices" in primitive:
        index = file.numbers(primitive["indices"])[:, 0].astype(np.int64)
    else:
        index = np.arange(len(vertices))
    if len(index) and index.max() >= len(vertices):
        raise refuse("Mesh unreadable", "Faces name vertices that are not there.")
    mode = primitive.get("mode", TRIANGLES)
    if mode == STRIP:
        return vertices, strip_triangles(index)
    if mode == FAN:
        return vertices, fan_triangles(index)
    return vertices, index[: len(index) // 3 * 3].reshape(-1, 3)


def _instancing(node: Tree) -> dict[str, int]:
    attributes = node.get("extensions", {}).get(INSTANCING, {}).get("attributes", {})
    return {k: v for k, v in attributes.items() if k in ("TRANSLATION", "ROTATION", "SCALE")}


def _copies(file: Gltf, node: Tree) -> Floats:
    """(n, 4, 4) places of a node's mesh within it: one, or those of EXT_mesh_gpu_instancing."""
    attributes = _instancing(node)
    if not attributes:
        return np.eye(4)[None]
    values = {name: file.numbers(index) for name, index in attributes.items()}
    n = len(next(iter(values.values())))
    return _trs(
        values.get("TRANSLATION", np.zeros((n, 3))),
        values.get("ROTATION", np.tile([0.0, 0.0, 0.0, 1.0], (n, 1))),
        values.get("SCALE", np.ones((n, 3))),
    )


def _joints(file: Gltf, skin: int, worlds: dict[int, Floats]) -> Floats:
    """(joints, 4, 4) J B: J is a joint's matrix into the world, B the inverse of its matrix when
    the skin was bound."""
    entry = file.list_of("skins")[skin]
    nodes = file.list_of("nodes")
    joints = np.stack([worlds[j] if j in worlds else _world(nodes, j) for j in entry["joints"]])
    if "inverseBindMatrices" in entry:
        bind = file.numbers(entry["inverseBindMatrices"]).reshape(-1, 4, 4).transpose(0, 2, 1)
        joints = joints @ bind[: len(joints)]
    return joints


def _skinned(joints: Floats, primitive: Tree, vertices: Floats, read: Reader) -> Floats:
    """(V, 3) vertices in the world: Σ wₖ Jₖ Bₖ v over the joints k of each vertex."""
    attributes = primitive["attributes"]
    blended = np.zeros((len(vertices), 3, 4))
    total = np.zeros(len(vertices))
    for number in range(len(attributes)):
        if f"JOINTS_{number}" not in attributes:
            break
        which = read(f"JOINTS_{number}").astype(np.int64)
        share = read(f"WEIGHTS_{number}")
        for corner in range(which.shape[1]):
            used = np.where(share[:, corner] > 0, which[:, corner], 0)
            blended += share[:, corner, None, None] * joints[used, :3]
            total += share[:, corner]
    blended[total <= 0], total[total <= 0] = joints[0, :3], 1
    moved = np.einsum("vij,vj->vi", blended[:, :, :3], vertices) + blended[:, :, 3]
    return np.asarray(moved / total[:, None])
