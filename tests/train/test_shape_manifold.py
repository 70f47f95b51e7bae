"""The manifold of shapes: deformations are what they say, and the recipe runs on made-up shapes."""

import pytest
import torch

from wsdemo.media.sdf import GRID, grid_points
from wsdemo.train.manifold.files import load_stage
from wsdemo.train.shapes import manifold as shapes_manifold
from wsdemo.train.shapes.data import toy_shapes
from wsdemo.train.shapes.deform import Deformation, mirror_axes, normals_of, sample_grid
from wsdemo.train.shapes.manifold import ShapeViews


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def some_points(n, count=200):
    return torch.rand(n, count, 3, generator=seeded(1)) * 1.6 - 0.8


def test_deforming_backwards_undoes_deforming_forwards():
    change = Deformation.draw(torch.tensor([0, 1, 2, 0]), seeded())
    p = some_points(4)
    torch.testing.assert_close(change.backwards(change.forwards(p)), p, atol=1e-5, rtol=1e-5)
    assert float((change.forwards(p) - p).abs().max()) > 0.1


def test_stretch_is_that_of_the_jacobian():
    change = Deformation.draw(torch.tensor([2]), seeded(3))
    p = some_points(1, 5)
    normals = torch.nn.functional.normalize(torch.randn(1, 5, 3, generator=seeded()), dim=-1)
    expected = []
    for k in range(5):
        J = torch.autograd.functional.jacobian(
            lambda x: change.forwards(x[None, None])[0, 0], p[0, k]
        )
        expected.append((torch.linalg.inv(J).T @ normals[0, k]).norm())
    torch.testing.assert_close(change.stretch_of(p, normals)[0], torch.stack(expected))


def test_mirroring_is_along_the_axis_of_least_change():
    shapes = toy_shapes(6)
    grids = shapes.grids.clone()
    grids[:, 20:] += 0.3  # no longer alike along x
    grids[:, :, 24:] += 0.1  # nor along y, by less
    assert mirror_axes(grids, shapes.categories).tolist() == [2] * 6


def test_deformed_spheres_have_first_order_distances_near_their_surface():
    """A stretched sphere is an ellipsoid, whose distance along an axis is known exactly."""
    nodes = torch.from_numpy(grid_points(GRID)).float()
    grids = (nodes.norm(dim=1) - 0.6).view(1, GRID, GRID, GRID)
    factors = torch.tensor([[1.0, 0.8, -0.9]])
    change = Deformation(factors, torch.zeros(1), torch.tensor([[0, 1]]))
    for axis in range(3):
        q = torch.zeros(1, 1, 3)
        q[..., axis] = 0.6 * factors[0, axis].abs() + 0.03
        p = change.backwards(q)
        normal = torch.nn.functional.normalize(sample_grid(normals_of(grids), p), dim=-1)
        d = sample_grid(grids[:, None], p)[..., 0] / change.stretch_of(p, normal)
        assert float(d) == pytest.approx(0.03, abs=0.004)


def test_a_batch_agrees_with_the_grid_that_the_encoder_reads():
    views = ShapeViews(toy_shapes(4))
    inputs, points, values = views.batch(torch.arange(4), 400, seeded())
    assert inputs.shape == (4, 1, GRID, GRID, GRID)
    assert points.shape == (4, 400, 3)
    assert values.shape == (4, 400, 1)
    seen = sample_grid(inputs, points)
    clear = (values.abs() == 1) & (seen.abs() > 0.25)  # well away from the surface
    assert int(clear.sum()) > 100
    assert bool((seen[clear].sign() == values[clear]).float().mean() > 0.98)


def test_every_look_at_a_shape_is_another():
    views, g = ShapeViews(toy_shapes(12)), seeded()
    first, second = (views.batch(torch.arange(12), 8, g)[0] for _ in range(2))
    apart = (first - second).abs().flatten(1).amax(1)
    assert int((apart > 0.02).sum()) > 6


def test_recipe_learns_and_goes_on_from_its_checkpoint(tmp_path):
    given = ["shapes", "--toy", "--out", str(tmp_path / "out"), "--points", "128"]
    given += ["--instances", "8"]
    shapes_manifold.main([*given, "--runs", str(tmp_path / "a"), "--steps", "2"])
    path = tmp_path / "out/shapes-manifold.safetensors"
    start = load_stage(path)[1]["measured"]["validation_error"]
    shapes_manifold.main([*given, "--runs", str(tmp_path / "a"), "--steps", "60"])
    model, meta = load_stage(path)
    learnt = meta["measured"]["validation_error"]
    assert learnt < 0.85 * start
    assert model.manifold.config.out_dim == 1
    more = ["--steps", "1", "--from-checkpoint", str(path)]
    shapes_manifold.main([*given, "--runs", str(tmp_path / "b"), *more])
    again = load_stage(path)[1]
    assert len(again["stages"]) == 2
    assert again["measured"]["validation_error"] < 0.5 * (start + learnt)
