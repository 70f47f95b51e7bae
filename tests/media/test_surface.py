"""Surfaces: coarse-to-fine evaluation equals the dense grid; meshes face outward."""

import numpy as np
import pytest

from tests.media.shapes import torus_field
from wsdemo.errors import WsdemoError
from wsdemo.media.meshes import Mesh, statistics
from wsdemo.media.surface import (
    dense_grid,
    extract,
    gradient_normals,
    largest_component,
    sparse_grid,
)


def table(p: np.ndarray) -> np.ndarray:
    """A thin top on four thin legs, and a speck beside it."""

    def slab(centre, half):
        q = np.abs(p - np.float32(centre)) - np.float32(half)
        return np.linalg.norm(np.maximum(q, 0), axis=1) + np.minimum(q.max(1), 0)

    parts = [slab((0, 0.3, 0), (0.8, 0.02, 0.5))]
    parts += [slab((x, -0.3, z), (0.02, 0.6, 0.02)) for x in (-0.7, 0.7) for z in (-0.4, 0.4)]
    parts.append(np.linalg.norm(p - np.float32([0.5, 0.8, 0.5]), axis=1) - 0.05)
    return np.min(parts, axis=0).astype(np.float32)


def wavy(p: np.ndarray) -> np.ndarray:
    """No true distance: its slope goes from a third to two."""
    r = np.linalg.norm(p, axis=1)
    return (r - 0.6 + 0.08 * np.sin(9 * p[:, 0]) * np.sin(8 * p[:, 1] + 1)).astype(np.float32)


def rod(p: np.ndarray) -> np.ndarray:
    """Thinner than a cell, along the middles of the cells of a grid of 24; and a ball."""
    middle = 23 / 24 - 1
    x, off = np.abs(p[:, 0]) - 0.6, np.hypot(p[:, 1] - middle, p[:, 2] - middle) - 0.01
    inside = np.minimum(np.maximum(x, off), 0)
    outside = np.hypot(np.maximum(x, 0), np.maximum(off, 0))
    sphere = np.linalg.norm(p - np.float32([0.5, -0.6, -0.6]), axis=1) - 0.2
    return np.minimum(inside + outside, sphere).astype(np.float32)


@pytest.mark.parametrize("cells", [64, 96, 128])
@pytest.mark.parametrize("field", [torus_field, table, wavy, rod])
@pytest.mark.parametrize("truncation", [np.inf, 0.05])
def test_coarse_to_fine_gives_the_dense_grids_mesh(field, cells, truncation):
    def cut(p):
        return np.clip(field(p), -truncation, truncation)

    dense = dense_grid(cut, cells)
    sparse, known = sparse_grid(cut, cells, truncation)
    np.testing.assert_array_equal(sparse < 0, dense < 0)
    np.testing.assert_allclose(sparse[known], dense[known], atol=1e-6)
    a, b = extract(dense), extract(sparse)
    np.testing.assert_array_equal(a.faces, b.faces)
    np.testing.assert_allclose(a.vertices, b.vertices, atol=1e-6)


def test_coarse_to_fine_evaluates_a_small_part():
    asked = []

    def counting(p):
        asked.append(len(p))
        return torus_field(p)

    sparse_grid(counting, 128)
    assert sum(asked) < 0.15 * 129**3


def test_meshes_face_outward_and_enclose_the_volume():
    mesh = extract(dense_grid(torus_field, 96))
    assert statistics(mesh)["volume"] == pytest.approx(2 * np.pi**2 * 0.55 * 0.18**2, rel=0.02)


def test_normals_come_from_the_gradient():
    mesh = extract(dense_grid(torus_field, 64))
    normals = gradient_normals(torus_field, mesh.vertices)
    ring = mesh.vertices * [1, 1, 0]
    ring *= 0.55 / np.linalg.norm(ring, axis=1, keepdims=True)
    exact = mesh.vertices - ring
    exact /= np.linalg.norm(exact, axis=1, keepdims=True)
    assert (normals * exact).sum(1).min() > 0.99


def test_the_largest_piece_can_be_kept():
    mesh = extract(dense_grid(table, 96))
    kept = largest_component(mesh)
    assert statistics(mesh)["parts"] == 2
    assert statistics(kept)["parts"] == 1
    assert kept.vertices[:, 1].max() < 0.4  # the speck is gone


@pytest.mark.parametrize("value", [1.0, -1.0])
def test_a_field_without_surface_is_refused(value):
    with pytest.raises(WsdemoError, match="negative nowhere, or everywhere"):
        extract(np.full((9, 9, 9), value, dtype=np.float32))


def test_the_same_field_gives_the_same_bytes():
    first, again = (extract(sparse_grid(torus_field, 64)[0]) for _ in range(2))
    assert isinstance(first, Mesh)
    assert first.hash == again.hash
