"""Meshes: pose, areas, surface points, normals."""

import numpy as np
import pytest

from tests.media.shapes import ball, box
from wsdemo.media.meshes import (
    EXTENT,
    Mesh,
    face_normals,
    normalise,
    statistics,
    surface_points,
    vertex_components,
    vertex_normals,
)


def test_normalising_centres_and_scales_and_can_be_undone():
    original = Mesh(box().vertices * 37 + [5, -2, 100], box().faces)
    mesh, pose = normalise(original)
    np.testing.assert_allclose(mesh.vertices.max(0), -mesh.vertices.min(0), atol=1e-12)
    assert np.abs(mesh.vertices).max() == pytest.approx(EXTENT)
    np.testing.assert_allclose(pose.undo(mesh).vertices, original.vertices, rtol=1e-12)


def test_surface_points_lie_on_their_faces_in_proportion_to_area():
    mesh = box(1.0, 1.0, 0.1)
    points, face = surface_points(mesh, 20_000, seed=1)
    normals, areas = face_normals(mesh)
    corner = mesh.vertices[mesh.faces[face, 0]]
    assert np.abs(((points - corner) * normals[face]).sum(1)).max() < 1e-9
    assert (np.abs(points) <= [0.5 + 1e-9, 0.5 + 1e-9, 0.05 + 1e-9]).all()
    share = np.bincount(face, minlength=len(areas)) / len(face)
    np.testing.assert_allclose(share, areas / areas.sum(), atol=0.02)


def test_surface_points_are_the_same_for_a_seed_and_differ_for_another():
    first, again, other = (surface_points(ball(), 50, s)[0] for s in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 0.01


def test_vertex_normals_of_a_ball_point_outward():
    mesh = ball()
    outward = mesh.vertices / np.linalg.norm(mesh.vertices, axis=1, keepdims=True)
    assert ((vertex_normals(mesh) * outward).sum(1)).min() > 0.99


def test_statistics_of_a_box():
    facts = statistics(box(1.0, 0.6, 0.4))
    assert facts["area"] == pytest.approx(2 * (0.6 + 0.4 + 0.24))
    assert facts["volume"] == pytest.approx(0.24)
    assert (facts["width"], facts["height"], facts["depth"]) == pytest.approx((1.0, 0.6, 0.4))
    assert facts["parts"] == 1


def test_statistics_do_not_depend_on_the_place():
    far = Mesh(ball(1.0).vertices + np.array([5e5, 5.4e6, 300]), ball().faces)
    assert statistics(far)["volume"] == pytest.approx(statistics(ball(1.0))["volume"], rel=1e-6)


def test_components_of_two_balls():
    a, b = ball(), ball(0.2)
    both = Mesh(
        np.concatenate([a.vertices, b.vertices]),
        np.concatenate([a.faces, b.faces + len(a.vertices)]),
    )
    labels = vertex_components(both)
    assert len(set(labels)) == 2
    assert len(set(labels[: len(a.vertices)])) == 1
