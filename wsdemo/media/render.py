"""Pictures of meshes: one camera and one shading, two renderers.

Light is computed here, once a vertex and side, and both renderers only interpolate colours; so a
picture looks the same whether OpenGL drew it (media/opengl.py) or numpy (below).
"""

import os
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from wsdemo.errors import WsdemoError
from wsdemo.media import opengl
from wsdemo.media.camera import BACKGROUND, FIELD_OF_VIEW, Camera, Pixels, all_seeing, framed
from wsdemo.media.meshes import Floats, Ints, Mesh, edge_uses, face_normals

CLAY = (0.80, 0.79, 0.77)
OVERSAMPLING = 2
"""Pictures are drawn at this multiple and averaged down."""


SHARP = 30.0
"""Degrees between the normals of two faces beyond which their edge is shaded as an edge."""


@dataclass(frozen=True)
class Facets:
    """A mesh as it is shaded: vertices split at sharp edges, and where a face shows its back.

    Attributes:
        mesh: The same surface.
        normals: (V, 3) unit normals, towards the side that the camera sees.
        source: (V,) the vertex of the given mesh that each was.
    """

    mesh: Mesh
    normals: Floats
    source: Ints


def facets(mesh: Mesh, camera: Camera) -> Facets:
    """Splits a mesh for shading: smooth over edges below SHARP, both sides of a face alike."""
    normals, areas = face_normals(mesh)
    group = _smooth_groups(mesh, normals).ravel(order="F")  # corner 0 of all faces, then 1, then 2
    count = int(group.max()) + 1
    weighted = np.tile(normals * areas[:, None], (3, 1))
    smooth = np.stack([np.bincount(group, weighted[:, k], minlength=count) for k in range(3)], 1)
    smooth = smooth / np.maximum(np.linalg.norm(smooth, axis=1, keepdims=True), 1e-30)
    towards = camera.pose[:3, 3] - mesh.vertices[mesh.faces[:, 0]]
    is_back = np.tile((normals * towards).sum(1) < 0, 3)
    kinds, corner = np.unique(2 * group + is_back, return_inverse=True)
    source = np.zeros(len(kinds), dtype=np.int64)
    source[corner] = mesh.faces.ravel(order="F")
    split = Mesh(mesh.vertices[source], corner.reshape(3, -1).T.astype(np.int64))
    return Facets(split, smooth[kinds // 2] * np.where(kinds % 2, -1, 1)[:, None], source)


def _smooth_groups(mesh: Mesh, normals: Floats) -> Ints:
    """(F, 3) number of each corner; corners of one vertex share it across edges that are smooth."""
    _, edge = edge_uses(mesh.faces)
    order = np.argsort(edge, kind="stable")
    first, second = order[:-1], order[1:]  # neighbours in this order, where they share an edge
    joined = edge[first] == edge[second]
    first, second = first[joined], second[joined]
    count = len(mesh.faces)
    cosine = (normals[first % count] * normals[second % count]).sum(1)
    smooth = cosine >= np.cos(np.deg2rad(SHARP))
    first, second = first[smooth], second[smooth]
    ends = []
    for end in (0, 1):
        at = (first // count + end) % 3
        vertex = mesh.faces[first % count, at]
        other_face = second % count
        other = (mesh.faces[other_face] == vertex[:, None]).argmax(1)
        ends.append((3 * (first % count) + at, 3 * other_face + other))
    rows, columns = (np.concatenate(x) for x in zip(*ends, strict=True))
    graph = coo_matrix((np.ones(len(rows)), (rows, columns)), shape=(3 * count, 3 * count))
    return np.asarray(connected_components(graph, directed=False)[1], np.int64).reshape(-1, 3)


def shade(shown: Facets, camera: Camera, colour: tuple[float, float, float] = CLAY) -> Pixels:
    """(V, 3) colours: a key light from the upper left of the camera, a fill, and ambient.

    Args:
        shown: The mesh, split for this camera.
        camera: Lights move with it.
        colour: Of the material, each channel 0 to 1.
    """
    n = shown.normals @ camera.pose[:3, :3]
    key = np.array([-0.45, 0.65, 0.61])
    fill = np.array([0.75, -0.10, 0.65])
    light = 0.30 + 0.62 * np.maximum(n @ key, 0) + 0.18 * np.maximum(n @ fill, 0)
    return np.asarray((np.minimum(light[:, None] * np.array(colour), 1) * 255).round(), np.uint8)


def draw_software(mesh: Mesh, colours: Pixels, camera: Camera, size: int) -> Pixels:
    """Rasterises a mesh with a z-buffer in numpy → (size, size, 3) uint8.

    Triangles are sorted into buckets by the size of their bounding box; in a bucket, as many as
    fill CHUNK test the same offsets at once, and what they cover is drawn before the next.
    """
    pose = camera.pose
    v = (mesh.vertices - pose[:3, 3]) @ pose[:3, :3]
    depth = -v[:, 2]
    focal = size / 2 / np.tan(FIELD_OF_VIEW / 2)
    x = size / 2 + focal * v[:, 0] / depth
    y = size / 2 - focal * v[:, 1] / depth
    corners = np.stack([x, y], 1)[mesh.faces]  # (F, 3, 2)
    low = np.maximum(np.ceil(corners.min(1) - 0.5), 0).astype(np.int64)
    high = np.minimum(np.floor(corners.max(1) - 0.5), size - 1).astype(np.int64)
    extent = (high - low + 1).max(1)
    visible = (high >= low).all(1) & (depth[mesh.faces].min(1) > 0.1)
    picture = np.full((size * size, 3), BACKGROUND, dtype=np.uint8)
    nearest = np.zeros(size * size)  # 1 / depth of what is drawn
    side = 1
    while visible.any():
        chosen = np.flatnonzero(visible & (extent <= side))
        visible[chosen] = False
        step = max(1, CHUNK // side**2)
        for start in range(0, len(chosen), step):
            face, pixel, weights = _fragments(chosen[start : start + step], corners, low, high)
            share = weights / depth[mesh.faces[face]]  # perspective: 1/depth is linear on screen
            near = share.sum(1)
            place = pixel[:, 1] * size + pixel[:, 0]
            front = np.flatnonzero(near >= nearest[place])
            order = front[np.argsort(near[front], kind="stable")]  # far first: the last one stays
            nearest[place[order]] = near[order]
            values = share[order, :, None] * colours[mesh.faces[face[order]]]
            values = values.sum(1) / near[order, None]
            picture[place[order]] = values.round().astype(np.uint8)
        side *= 2
    return picture.reshape(size, size, 3)


CHUNK = 2**19
"""Pixels that triangles test at once: about 50 MB."""


def _fragments(
    face: NDArray[np.int64], corners: Floats, low: NDArray[np.int64], high: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64], Floats]:
    """Faces, pixels (n, 2) and barycentric weights (n, 3) of all covered pixel centres."""
    wide, tall = (high[face] - low[face] + 1).max(0)
    x, y = low[face, :1] + np.arange(wide), low[face, 1:] + np.arange(tall)
    hit = (y <= high[face, 1:])[:, :, None] & (x <= high[face, :1])[:, None]
    a, b, c = (corners[face, i] for i in range(3))
    area = (b - a)[:, 0] * (c - a)[:, 1] - (b - a)[:, 1] * (c - a)[:, 0]
    area = np.where(np.abs(area) < 1e-12, np.inf, area)[:, None]
    weights = []
    for start, end in ((b, c), (c, a), (a, b)):
        edge = (end - start) / area
        down = edge[:, :1] * (y + 0.5 - start[:, 1:])
        along = edge[:, 1:] * (x + 0.5 - start[:, :1])
        weights.append(down[:, :, None] - along[:, None])  # a weight is linear on the screen
        hit &= weights[-1] >= 0
    row, i, j = np.nonzero(hit)
    covered = np.stack([weight[hit] for weight in weights], 1)
    return face[row], np.stack([x[row, j], y[row, i]], 1), covered


# ---- choosing a renderer ---------------------------------------------------------


def choose_renderer(wish: str = "auto") -> tuple[str, str]:
    """Which renderer draws, ``egl`` or ``software``, and why.

    Raises:
        WsdemoError: ``egl`` is wished for and does not work here, or the wish is unknown.
    """
    if wish not in ("auto", "egl", "software"):
        raise WsdemoError(
            "Unknown renderer", f"Found {wish[:20]!r}.", "Choose auto, egl or software."
        )
    if wish == "software":
        return "software", "as wished"
    if wish == "auto" and os.environ.get("WSDEMO_RENDERER") == "software":
        return "software", "WSDEMO_RENDERER says so"
    problem = opengl.problem()
    if problem is None:
        return "egl", "OpenGL through EGL works here"
    if wish == "egl":
        raise WsdemoError("OpenGL not available", problem, "Use the software renderer.")
    return "software", f"OpenGL through EGL does not work here: {problem}"


def render(
    mesh: Mesh,
    size: int = 256,
    camera: Camera | None = None,
    renderer: str = "auto",
    colours: Pixels | None = None,
) -> Pixels:
    """A picture of a normalised mesh: (size, size, 3) uint8.

    Args:
        mesh: The mesh.
        size: Pixels a side.
        camera: Default: from the front left, a little above, as far away as it takes.
        renderer: ``auto``, ``egl`` or ``software``.
        colours: (V, 3) of the vertices; default: shaded clay.

    Raises:
        WsdemoError: The renderer is not available.
    """
    camera = camera or all_seeing(mesh)
    if colours is None:
        shown = facets(mesh, camera)
        mesh, colours = shown.mesh, shade(shown, camera)
    large = None
    if choose_renderer(renderer)[0] == "egl":
        try:
            large = opengl.draw(mesh, colours, camera, size * OVERSAMPLING)
        except opengl.Hung as error:
            if renderer == "egl":
                raise WsdemoError(
                    "OpenGL not available", f"It hangs: {error}.", "Use the software renderer."
                ) from error
    if large is None:
        large = draw_software(mesh, colours, camera, size * OVERSAMPLING)
    blocks = large.reshape(size, OVERSAMPLING, size, OVERSAMPLING, 3).astype(np.uint16)
    return np.asarray(blocks.mean((1, 3)).round(), np.uint8)


def turntable(mesh: Mesh, views: int = 8, size: int = 128, renderer: str = "auto") -> list[Pixels]:
    """Pictures from all around, evenly spaced, from a distance that suits all of them."""
    start = Camera()
    around = [framed(mesh, start.azimuth + 360 * i / views) for i in range(views)]
    away = max(camera.distance for camera in around)
    return [render(mesh, size, replace(camera, distance=away), renderer) for camera in around]
