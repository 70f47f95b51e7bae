"""Measures of shapes: exact cases, and the identities that HyperDiffusion's must obey."""

import numpy as np
import pytest

from tests.media.shapes import ball, box, torus
from wsdemo.analysis.shapes import (
    chamfer_distance,
    compare_clouds,
    compare_meshes,
    coverage_of,
    fscore,
    minimum_matching_distance,
    one_nearest_neighbour_accuracy,
    pairwise_chamfer,
    standard_cloud,
    volume_iou,
)
from wsdemo.media.meshes import Mesh


def test_chamfer_distance_of_a_shift():
    a = np.array([[0.0, 0, 0], [5, 0, 0]])
    b = a + np.array([0.3, 0, 0])
    assert chamfer_distance(a, b) == pytest.approx(2 * 0.09)
    assert chamfer_distance(a, a) == 0


def test_chamfer_distance_agrees_with_the_plain_formula():
    rng = np.random.default_rng(0)
    a, b = rng.random((40, 3)), rng.random((50, 3))
    square = ((a[:, None] - b[None]) ** 2).sum(-1)
    assert chamfer_distance(a, b) == pytest.approx(square.min(1).mean() + square.min(0).mean())
    assert pairwise_chamfer([a], [b])[0, 0] == pytest.approx(chamfer_distance(a, b))


def test_fscore_counts_points_within_the_radius():
    a = np.array([[0.0, 0, 0], [1, 0, 0]])
    b = np.array([[0.0, 0, 0.01], [1, 0, 0.5]])
    assert fscore(a, b, 0.02) == pytest.approx(0.5)
    assert fscore(a, a, 0.02) == 1


def test_iou_of_two_boxes():
    a, b = box(1, 1, 1), Mesh(box(1, 1, 1).vertices + np.array([0.5, 0, 0]), box().faces)
    assert volume_iou(a, b) == pytest.approx(1 / 3, abs=0.01)
    assert volume_iou(a, a) == 1


def test_a_mesh_compared_with_itself_is_nearly_perfect():
    same = compare_meshes(torus(), torus())
    assert same["chamfer"] < 1e-3
    assert same["fscore"] > 0.99
    assert same["iou"] == 1
    assert same["normals"] > 0.97
    other = compare_meshes(torus(), ball())
    assert other["fscore"] < 0.3
    assert other["iou"] < 0.6


def clouds(seed: int, count: int = 24) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [
        standard_cloud(box(*rng.uniform(0.2, 1.0, 3)), 128, seed=int(rng.integers(1e6)))
        for _ in range(count)
    ]


def test_clouds_are_standardised():
    cloud = standard_cloud(box(), 500)
    np.testing.assert_allclose(cloud.mean(0), 0, atol=1e-12)
    assert cloud.std() == pytest.approx(1)


def test_identities_of_the_protocol():
    x = clouds(0)
    own = pairwise_chamfer(x, x)
    assert minimum_matching_distance(own) == 0
    assert coverage_of(own) == 1


def test_two_halves_of_one_set_cannot_be_told_apart_and_two_sets_can():
    x, y = clouds(0, 60), clouds(1, 60)
    xx, yy, xy = pairwise_chamfer(x, x), pairwise_chamfer(y, y), pairwise_chamfer(x, y)
    assert 0.3 < one_nearest_neighbour_accuracy(xx, yy, xy) < 0.7
    z = [c * [1, 1, 3] for c in y]
    zz, xz = pairwise_chamfer(z, z), pairwise_chamfer(x, z)
    assert one_nearest_neighbour_accuracy(xx, zz, xz) > 0.9


# ---- to the surface ------------------------------------------------------------------


@pytest.mark.parametrize("mesh", [box(1.8, 1.8, 1.8), ball(), torus(), box(1.8, 1, 0.01)])
def test_a_mesh_has_the_best_scores_with_itself_whatever_its_area(mesh):
    own = compare_meshes(mesh, mesh)
    assert own == {"chamfer": pytest.approx(0, abs=1e-12), "fscore": 1, "iou": 1,
                   "normals": pytest.approx(1)}  # fmt: skip
    assert compare_clouds(box(1.8, 1.8, 1.8), box(1.8, 1.8, 1.8))["fscore_cloud"] < 0.9


def test_a_shift_is_measured_to_the_surface():
    a = box(1, 1, 1)
    near = Mesh(a.vertices + np.array([0.015, 0, 0]), a.faces)
    far = Mesh(a.vertices + np.array([0.05, 0, 0]), a.faces)
    assert compare_meshes(a, near)["fscore"] == 1
    # Two of six sides are off by the shift, and of the other four a strip of 5 % at one end.
    assert compare_meshes(a, near)["chamfer"] == pytest.approx(2 * 0.015**2 / 3, rel=0.1)
    assert compare_meshes(a, far)["fscore"] == pytest.approx(2 / 3, abs=0.05)


def test_scores_are_the_same_every_time():
    assert compare_meshes(torus(), ball()) == compare_meshes(torus(), ball())
