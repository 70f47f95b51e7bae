"""What of a mesh bounds a solid, part by part: turned outward, sheets plates, inner faces gone.

A field has one sign a point, so a mesh must say of each point whether it is inside. Files say it
badly: a part is inside out, a sheet stands beside a body, faces lie hidden where parts meet. Here a
mesh becomes the boundary of one solid, and each thing that was done is said. A mesh that is such a
boundary already is returned as it is.
"""

from dataclasses import dataclass

import igl
import numpy as np
from numpy.typing import NDArray

from wsdemo.media.meshes import (
    Floats,
    Ints,
    Mesh,
    edge_uses,
    face_normals,
    surface_points,
    used_part,
)
from wsdemo.media.sdf import SHELL, THIN, surface_distance, winding_numbers
from wsdemo.media.surface import Values, extract, sparse_grid

STEP = THIN / 10
"""How far from a face its two sides are asked for, in normalised units."""
PROBES = 256
"""Points of an open patch that say whether it encloses something by itself."""
MAX_PATCHES = 200
"""Open patches that are asked one by one, the largest first."""
MAX_BODIES = 500
"""Bodies among which those that lie in others are looked for."""
HIDDEN_SHARE = 0.002
"""Of the surface, that must lie inside before single faces are looked at."""
SPACING = 0.06
"""Between the points of a face that are asked whether they lie inside, at most."""

Flags = NDArray[np.bool_]


@dataclass(frozen=True)
class Boundary:
    """The boundary of a solid.

    Attributes:
        mesh: Faces outward, but for a mesh of sheets alone, which stays as it is.
        sheets: The faces that enclose nothing; all of them if there is no body.
        notes: What was done, for a person.
    """

    mesh: Mesh
    sheets: Mesh | None
    notes: tuple[str, ...]


def boundary(mesh: Mesh) -> Boundary:
    """Turns a normalised mesh into the boundary of a solid, and the sheets that bound none."""
    notes: list[str] = []
    faces, patch, turned = _consistent(mesh.faces, face_normals(mesh)[1])
    if turned:
        notes.append(
            f"Faces that looked the other way than their neighbours were turned: {turned:,}."
        )
    mesh = Mesh(mesh.vertices, faces)
    sign = _body_signs(mesh, patch)
    wanted = _wanted_signs(mesh, patch, sign, notes)
    flip = ((sign * wanted) < 0)[patch]
    if flip.any():
        faces = faces.copy()
        faces[flip] = faces[flip][:, ::-1]
        mesh = Mesh(mesh.vertices, faces)
    is_sheet = _sheet_patches(mesh, patch, sign)[patch]
    if is_sheet.all():
        return Boundary(mesh, mesh, tuple(notes))
    solid = used_part(mesh.vertices, mesh.faces[~is_sheet]) if is_sheet.any() else mesh
    sheets = used_part(mesh.vertices, mesh.faces[is_sheet]) if is_sheet.any() else None
    return Boundary(solid, sheets, tuple(notes))


def as_solid(mesh: Mesh) -> tuple[Mesh, float, tuple[str, ...]]:
    """A normalised mesh as the boundary of one solid.

    Returns:
        The boundary, whose sheets are plates, if there is any body; the thickness to give each side
        if all is sheets (else 0); and what was done, for a person.
    """
    bounds = boundary(mesh)
    if bounds.sheets is bounds.mesh:
        return mesh, SHELL, ()
    solid, notes = bounds.mesh, list(bounds.notes)
    if bounds.sheets is not None:
        share = face_normals(bounds.sheets)[1].sum() / face_normals(mesh)[1].sum()
        plates = shell_surface(bounds.sheets)
        solid = Mesh(
            np.concatenate([solid.vertices, plates.vertices]),
            np.concatenate([solid.faces, plates.faces + len(solid.vertices)]),
        )
        notes.append(
            f"Sheets that enclose nothing, {share:.1%} of its surface, were made plates"
            f" {2 * SHELL / 1.8:.1%} of its length thick."
        )
    solid, hidden = without_hidden_faces(solid)
    if hidden:
        notes.append(f"Faces inside the solid, {hidden:.1%} of its surface, were left out.")
    return solid, 0.0, tuple(notes)


PLATE_CELLS = 128
"""Cells a side of the surface around a sheet; a shell is four of them thick."""


def shell_surface(sheet: Mesh) -> Mesh:
    """The surface at a distance of SHELL around a sheet, in 128³ cells."""

    def field(points: Values) -> Values:
        return (surface_distance(sheet, points.astype(np.float64)) - SHELL).astype(np.float32)

    return extract(sparse_grid(field, PLATE_CELLS)[0])


# ---- patches and which way they look -------------------------------------------------


def _consistent(faces: Ints, areas: Floats) -> tuple[Ints, Ints, int]:
    """Faces of one patch turned one way, as most of its area is.

    A patch is what is joined by edges of exactly two faces.

    Returns:
        (F, 3) faces, (F,) patches, and how many were turned.
    """
    oriented, patch = igl.bfs_orient(np.ascontiguousarray(faces))
    oriented, patch = np.asarray(oriented, np.int64), np.asarray(patch, np.int64)
    after = np.take_along_axis(
        np.roll(oriented, -1, axis=1), (oriented == faces[:, :1]).argmax(1)[:, None], axis=1
    )[:, 0]
    is_turned = after != faces[:, 1]
    weight = np.where(is_turned, areas, -areas)
    most = np.bincount(patch, weight) > 0
    is_turned ^= most[patch]
    if not is_turned.any():
        return faces, patch, 0
    return np.where(is_turned[:, None], faces[:, ::-1], faces), patch, int(is_turned.sum())


def _body_signs(mesh: Mesh, patch: Ints) -> Ints:
    """(patches,) 1 if a patch encloses something by itself, −1 if it does inside out, else 0.

    Closed patches by their volume; open ones, the largest first, by their own winding numbers.
    """
    count = int(patch.max()) + 1
    uses, _ = edge_uses(mesh.faces)
    is_open = np.zeros(count, dtype=bool)
    is_open[np.tile(patch, 3)[uses != 2]] = True
    a, b, c = (mesh.vertices[mesh.faces[:, i]] for i in range(3))
    areas = face_normals(mesh)[1]
    area = np.bincount(patch, areas)
    moment = np.stack([np.bincount(patch, areas * ((a + b + c) / 3)[:, i]) for i in range(3)], 1)
    middle: Floats = np.asarray((moment / np.maximum(area, 1e-30)[:, None])[patch], np.float64)
    volume = np.bincount(
        patch, np.einsum("ij,ij->i", a - middle, np.cross(b - middle, c - middle)) / 6
    )
    sign = np.where(np.abs(volume) > 1e-6 * area**1.5, np.sign(volume), 0).astype(np.int64)
    sign[is_open] = 0
    largest = np.argsort(-area, kind="stable")
    for index in largest[is_open[largest]][:MAX_PATCHES].tolist():
        sign[index] = _enclosing_sign(used_part(mesh.vertices, mesh.faces[patch == index]))
    return sign


def _enclosing_sign(piece: Mesh) -> int:
    """Whether most of an open patch has an inside by itself, and of which sign."""
    if len(piece.faces) < 4:
        return 0
    inner, outer = _sides(piece, *_sample(piece, PROBES))
    has_inside = np.maximum(np.abs(inner), np.abs(outer)) > 0.75
    if has_inside.mean() <= 0.5:
        return 0
    values = np.where(np.abs(inner) > np.abs(outer), inner, outer)[has_inside]
    return 1 if values.mean() > 0 else -1


def _sample(mesh: Mesh, count: int) -> tuple[Floats, Floats]:
    """(count, 3) points of the surface and their normals."""
    points, face = surface_points(mesh, count, 0)
    return points, face_normals(mesh)[0][face]


def _sides(mesh: Mesh, points: Floats, normals: Floats) -> tuple[Floats, Floats]:
    """(P,) winding numbers a step behind and a step in front of points of the surface."""
    samples = np.concatenate([points - STEP * normals, points + STEP * normals])
    inner, outer = winding_numbers(mesh, samples).reshape(2, -1)
    return inner, outer


def _wanted_signs(mesh: Mesh, patch: Ints, sign: Ints, notes: list[str]) -> Ints:
    """(patches,) the sign each body should have: outward, but for hollows within others.

    A body that lies in another keeps its sense relative to that one: of the same, it is filled as
    well; of the opposite, it is a hollow.
    """
    bodies = np.flatnonzero(sign)
    wanted = np.abs(sign)
    if not (sign < 0).any():
        return wanted
    if len(bodies) > 1 and len(bodies) <= MAX_BODIES:
        for inner, outer in _containers(mesh, patch, bodies):
            wanted[inner] = sign[inner] * sign[outer] * wanted[outer]
    turned = int((sign * wanted < 0).sum())
    hollow = int((wanted < 0).sum())
    if turned == len(bodies):
        notes.append("It was inside out, and was turned.")
    elif turned:
        notes.append(f"Parts that were inside out, of {len(bodies):,}, were turned: {turned:,}.")
    if hollow:
        notes.append(f"Parts inside others that are turned inward are hollows: {hollow:,}.")
    return wanted


def _containers(mesh: Mesh, patch: Ints, bodies: Ints) -> list[tuple[int, int]]:
    """(body, the smallest body that all of it lies in), outer bodies first."""
    pieces = {int(i): used_part(mesh.vertices, mesh.faces[patch == i]) for i in bodies}
    boxes = {i: (p.vertices.min(0), p.vertices.max(0)) for i, p in pieces.items()}
    order = sorted(pieces, key=lambda i: -float(np.prod(boxes[i][1] - boxes[i][0])))
    containers = []
    for rank, inner in enumerate(order):
        low, high = boxes[inner]
        points = surface_points(pieces[inner], 64, 0)[0]
        for outer in reversed(order[:rank]):
            is_around = (boxes[outer][0] <= low).all() and (boxes[outer][1] >= high).all()
            if is_around and (np.abs(winding_numbers(pieces[outer], points)) > 0.5).all():
                containers.append((inner, outer))
                break
    return containers


# ---- sheets --------------------------------------------------------------------------


def _sheet_patches(mesh: Mesh, patch: Ints, sign: Ints) -> Flags:
    """(patches,) whether most of a patch has no inside on either side, all patches together."""
    loose = np.flatnonzero((sign == 0)[patch])
    result = np.zeros(len(sign), dtype=bool)
    if len(loose) == 0:
        return result
    normals, areas = face_normals(mesh)
    points, owner = surface_points(Mesh(mesh.vertices, mesh.faces[loose]), 4096, 0)
    few = loose[np.random.default_rng(0).permutation(len(loose))[:8192]]
    face = np.concatenate([loose[owner], few])
    samples = np.concatenate([points, mesh.vertices[mesh.faces[few]].mean(1)])
    inner, outer = _sides(mesh, samples, normals[face])
    is_none = np.maximum(np.abs(inner), np.abs(outer)) <= 0.75
    # Middles of faces decide where no point fell; a large face may be inside there alone.
    weight = np.concatenate([np.full(4096, areas[loose].sum() / 4096), 1e-3 * areas[few]])
    none = np.bincount(patch[face], weight * is_none, minlength=len(sign))
    total = np.bincount(patch[face], weight, minlength=len(sign))
    result = none > total / 2
    return result & (sign == 0)


# ---- hidden faces --------------------------------------------------------------------


def without_hidden_faces(mesh: Mesh) -> tuple[Mesh, float]:
    """A boundary without the faces that lie wholly inside it.

    Returns:
        The mesh, and the share of its area that went.
    """
    inner, outer = _sides(mesh, *_sample(mesh, 4096))
    if float((np.minimum(inner, outer) > 0.75).mean()) <= HIDDEN_SHARE:
        return mesh, 0.0
    points, owner = _spread_points(mesh)
    normals, areas = face_normals(mesh)
    inner, outer = _sides(mesh, points, normals[owner])
    seen = np.bincount(owner, np.minimum(inner, outer) <= 0.75, minlength=len(mesh.faces)) > 0
    if seen.all() or not seen.any():
        return mesh, 0.0
    return used_part(mesh.vertices, mesh.faces[seen]), float(areas[~seen].sum() / areas.sum())


def _spread_points(mesh: Mesh) -> tuple[Floats, Ints]:
    """Points inside every face, SPACING apart at most, and the (P,) faces that they lie on."""
    corners = mesh.vertices[mesh.faces]
    longest = np.linalg.norm(corners - np.roll(corners, 1, axis=1), axis=2).max(1)
    steps = np.clip(np.ceil(longest / SPACING), 1, 32).astype(np.int64)
    points, owner = [], []
    for n in np.unique(steps).tolist():
        face = np.flatnonzero(steps == n)
        i, j = np.nonzero(np.add.outer(np.arange(n), np.arange(n)) < n)
        weights = np.stack([i + 1 / 3, j + 1 / 3, n - i - j - 2 / 3], 1) / n
        points.append(np.einsum("wk,fkc->fwc", weights, corners[face]).reshape(-1, 3))
        owner.append(np.repeat(face, len(weights)))
    return np.concatenate(points), np.concatenate(owner)
