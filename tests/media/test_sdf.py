"""Signed distances: exact on simple solids, unmoved by holes, flips and inversion."""

import numpy as np
import pytest

from tests.conftest import little_work
from tests.media.shapes import ball, box, torus, torus_field
from wsdemo.errors import WsdemoError
from wsdemo.media import sdf
from wsdemo.media.meshes import Mesh
from wsdemo.media.sdf import (
    GRID,
    check_work,
    grid_points,
    near_faces,
    sample_sdf,
    signed_distance,
    solidity,
)


def points(count: int = 3000) -> np.ndarray:
    return np.random.default_rng(0).uniform(-1, 1, (count, 3))


def test_distance_to_a_box_is_exact():
    p, half = points(), np.array([0.5, 0.3, 0.2])
    q = np.abs(p) - half
    exact = np.linalg.norm(np.maximum(q, 0), axis=1) + np.minimum(q.max(1), 0)
    np.testing.assert_allclose(signed_distance(box(), p), exact, atol=1e-6)


def test_an_inside_out_mesh_is_the_same_solid():
    mesh = torus()
    turned = Mesh(mesh.vertices, mesh.faces[:, ::-1].copy())
    p = points()
    np.testing.assert_allclose(signed_distance(mesh, p), signed_distance(turned, p), atol=1e-9)


@pytest.mark.parametrize("damage", ["flipped", "holes"])
def test_flipped_faces_and_holes_move_few_signs(damage):
    mesh, rng = torus(), np.random.default_rng(1)
    hit = rng.random(len(mesh.faces)) < 0.15
    faces = mesh.faces.copy()
    if damage == "flipped":
        faces[hit] = faces[hit][:, ::-1]
    else:
        faces = faces[~hit]
    p = points()
    wrong = (signed_distance(Mesh(mesh.vertices, faces), p) < 0) != (torus_field(p) < 0)
    assert wrong.mean() < 0.02


def test_a_solid_is_told_from_a_sheet():
    assert solidity(ball()).shell == 0
    corners = np.array([[-0.8, -0.6, 0.0], [0.8, -0.6, 0.0], [0.8, 0.6, 0.0], [-0.8, 0.6, 0.0]])
    flat = Mesh(corners, np.array([[0, 1, 2], [0, 2, 3]]))
    assert solidity(flat).shell > 0
    assert signed_distance(flat, np.array([[0.0, 0.0, 0.0]]), 0.015)[0] < 0


def test_thin_parts_are_reported():
    assert solidity(box(1.6, 1.2, 0.02)).thin_share > 0.9
    assert solidity(ball()).thin_share < 0.05


def test_samples_hold_the_distances_of_their_points_and_lie_near():
    samples = sample_sdf(torus(), near=2000, seed=3)
    assert samples.grid.shape == (GRID, GRID, GRID)
    exact = torus_field(samples.points.astype(np.float32))
    np.testing.assert_allclose(samples.distances, exact, atol=0.02)  # the mesh is a polygon
    np.testing.assert_allclose(
        samples.grid.ravel(), torus_field(grid_points(GRID).astype(np.float32)), atol=0.02
    )
    assert np.abs(samples.distances).mean() < 0.04


def test_the_cache_is_keyed_by_content(tmp_path):
    first = sample_sdf(torus(), near=100, cache=tmp_path)
    assert len(list(tmp_path.glob("*.npz"))) == 1
    again = sample_sdf(torus(), near=100, cache=tmp_path)
    np.testing.assert_array_equal(first.points, again.points)
    sample_sdf(ball(), near=100, cache=tmp_path)
    sample_sdf(ball(), near=100, cache=tmp_path, shell=0.01)
    assert len(list(tmp_path.glob("*.npz"))) == 3


def heap(count: int, size: float = 2.0) -> Mesh:
    rng = np.random.default_rng(0)
    return Mesh(
        rng.uniform(-size / 2, size / 2, (3 * count, 3)), np.arange(3 * count).reshape(-1, 3)
    )


def test_meshes_whose_distances_take_minutes_are_refused_at_once():
    assert near_faces(ball()) < 40
    check_work(ball())
    check_work(heap(200))
    refused = pytest.raises(WsdemoError, match="of its triangles reach an average point")
    with refused, little_work():
        check_work(heap(20_000))


def test_what_may_take_long_is_timed(monkeypatch):
    monkeypatch.setattr(sdf, "winding_seconds", lambda _: 1.0)
    check_work(heap(100))  # too few to be timed
    with pytest.raises(WsdemoError, match="would take 16384 s"):
        check_work(heap(1000))


def test_the_cache_is_bounded_and_the_oldest_results_go(tmp_path):
    kept = [tmp_path / "0.npz"]
    sample_sdf(torus(), near=100, cache=tmp_path)
    size = next(tmp_path.iterdir()).stat().st_size
    for i in range(4):
        before = set(tmp_path.iterdir())
        sample_sdf(ball(0.5 + i / 50), near=100, cache=tmp_path, most=2.5 * size)
        kept += set(tmp_path.iterdir()) - before
    assert set(tmp_path.iterdir()) == set(kept[-2:])
