"""Signed distance function → triangle mesh: coarse-to-fine evaluation and marching cubes.

A field is evaluated on an octree of nodes: at a level, only cells that the surface crosses or
may come near are split. Cells beside a crossing are added until no crossing touches an
unevaluated cell, so every piece of surface that any level has met is found whole; far from
it, nodes keep the coarse values, whose sign is all that marching cubes needs.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from skimage.measure import marching_cubes

from wsdemo.errors import WsdemoError
from wsdemo.media.meshes import Floats, Mesh, used_part, vertex_components

Values = NDArray[np.float32]
Field = Callable[[Values], Values]
"""Maps (P, 3) float32 points in [-1, 1]³ to (P,) values, negative inside."""

COARSEST = 32
"""Cells a side, at least, that are always evaluated."""
REACH = 0.75
"""A cell is split if |value| at a corner is below REACH cell diagonals, or below 0.9 of the
truncation if that is less. Of a true distance half a diagonal is enough; trained fields are nearly
that. At 32 cells half a diagonal is 0.054 and 0.9 of the truncation 0.045: there a part whose
radius is below 0.009, around the middle of a cell, may be missed. From 48 cells on none is."""


def _coordinates(nodes: NDArray[np.int64], cells: int) -> Values:
    return (nodes.astype(np.float32) / np.float32(cells) * 2 - 1).astype(np.float32)


def dense_grid(field: Field, cells: int) -> Values:
    """(cells + 1)³ values on the whole grid: the reference."""
    axis = np.arange(cells + 1)
    nodes = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), -1).reshape(-1, 3)
    return field(_coordinates(nodes, cells)).reshape((cells + 1,) * 3)


def _any_corner(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Per cell, whether any of its eight nodes is set."""
    m = mask[:-1] | mask[1:]
    m = m[:, :-1] | m[:, 1:]
    return m[:, :, :-1] | m[:, :, 1:]


def _nodes_of(cells: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Per node, whether it is a corner of any set cell."""
    nodes = np.zeros(tuple(s + 1 for s in cells.shape), dtype=bool)
    for corner in np.ndindex(2, 2, 2):
        view = tuple(slice(c, c + s) for c, s in zip(corner, cells.shape, strict=True))
        nodes[view] |= cells
    return nodes


def _doubled(values: Values) -> Values:
    """The same function on a grid twice as fine: old nodes kept, others interpolated."""
    for axis in range(3):
        v = np.moveaxis(values, axis, 0)
        fine = np.empty((2 * len(v) - 1, *v.shape[1:]), dtype=v.dtype)
        fine[::2] = v
        fine[1::2] = (v[:-1] + v[1:]) / 2
        values = np.moveaxis(fine, 0, axis)
    return np.ascontiguousarray(values)


def sparse_grid(
    field: Field, cells: int, truncation: float = np.inf
) -> tuple[Values, NDArray[np.bool_]]:
    """Evaluates a field near its surface only.

    Args:
        field: The function.
        truncation: Where the field's values are cut off; beyond 0.9 of it they say nothing.
        cells: Cells a side; halved while even, and not below COARSEST, to the level begun with.

    Returns:
        (cells + 1)³ values, and which of them were evaluated at full resolution.
    """
    level = cells
    while level % 2 == 0 and level // 2 >= COARSEST:
        level //= 2
    values = dense_grid(field, level)
    known = np.ones(values.shape, dtype=bool)
    while level < cells:
        reach = min(REACH * 2 / level * np.sqrt(3), 0.9 * truncation)
        inside = values < 0
        near = _any_corner(np.abs(values) < reach)
        near |= _any_corner(inside) & _any_corner(~inside)
        level *= 2
        values = _doubled(values)
        known = np.zeros(values.shape, dtype=bool)
        # Nodes that the coarser level has evaluated too lie on even places; they are exact
        # there only if that level knew them, so all wanted nodes are evaluated afresh.
        wanted = near.repeat(2, 0).repeat(2, 1).repeat(2, 2)
        while True:
            nodes = _nodes_of(wanted) & ~known
            index = np.argwhere(nodes)
            if len(index) == 0:
                break
            values[nodes] = field(_coordinates(index, level))
            known |= nodes
            inside = values < 0
            crossing = _any_corner(inside) & _any_corner(~inside)
            # Cells that share a node with a crossing cell: the surface may go on there.
            wanted = _any_corner(_nodes_of(crossing)) & ~_all_corners(known)
    return values, known


def _all_corners(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    return ~_any_corner(~mask)


def extract(values: Values) -> Mesh:
    """Marching cubes at level 0 over a grid on [-1, 1]³, faces outward.

    Raises:
        WsdemoError: There is no surface.
    """
    if not (values.min() < 0 < values.max()):
        raise WsdemoError(
            "No surface",
            "The field is negative nowhere, or everywhere: there is nothing to show.",
            "Use other weights, or fit for longer.",
        )
    inside = values < 0
    crossing = _any_corner(inside) & _any_corner(~inside)
    # All corners: which one stands for its cell is the library's affair; others add nothing.
    mask = _nodes_of(crossing)
    spacing = (2 / (values.shape[0] - 1),) * 3
    vertices, faces, _, _ = marching_cubes(
        values, 0.0, spacing=spacing, gradient_direction="descent", mask=mask
    )
    return Mesh(vertices.astype(np.float64) - 1, faces.astype(np.int64))


def largest_component(mesh: Mesh) -> Mesh:
    """The connected piece with the most faces."""
    labels = vertex_components(mesh)
    owner = labels[mesh.faces[:, 0]]
    return used_part(mesh.vertices, mesh.faces[owner == np.bincount(owner).argmax()])


def gradient_normals(field: Field, points: Floats, step: float = 2e-3) -> Floats:
    """(P, 3) unit normals ∇f / ‖∇f‖ by central differences, pointing outward."""
    gradient = np.empty_like(points)
    for axis in range(3):
        offset = np.zeros(3)
        offset[axis] = step
        ahead = field((points + offset).astype(np.float32)).astype(np.float64)
        gradient[:, axis] = ahead - field((points - offset).astype(np.float32))
    return gradient / np.maximum(np.linalg.norm(gradient, axis=1, keepdims=True), 1e-12)
