"""What the manifold of shapes is trained on: copies are what they say. Its recipes:
test_shape_recipes.py."""

import pytest
import torch

from wsdemo.media.sdf import GRID, grid_points
from wsdemo.train.shapes.data import toy_shapes
from wsdemo.train.shapes.manifold import ShapeRows, balanced_error
from wsdemo.train.shapes.stretch import (
    draw_factors,
    gradients_of,
    mirror_axes,
    mirrored,
    sample_grid,
    stretched_distances,
)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


# ---- copies ----------------------------------------------------------------------------


def test_mirroring_is_along_the_axis_of_least_change():
    shapes = toy_shapes(6)
    grids = shapes.grids.clone()
    grids[:, 20:] += 0.3  # no longer alike along x
    grids[:, :, 24:] += 0.1  # nor along y, by less
    assert mirror_axes(grids, shapes.categories).tolist() == [2] * 6
    assert mirrored(torch.ones(2, 3), torch.tensor([2, 0])).tolist() == [[1, 1, -1], [-1, 1, 1]]


def test_stretched_spheres_have_first_order_distances_near_their_surface():
    """A stretched sphere is an ellipsoid, whose distance along an axis is known exactly."""
    nodes = torch.from_numpy(grid_points(GRID)).float()
    grids = (nodes.norm(dim=1) - 0.6).view(1, GRID, GRID, GRID)
    factors = torch.tensor([[1.0, 0.8, -0.9]])
    for axis in range(3):
        q = torch.zeros(1, 1, 3)
        q[..., axis] = 0.6 * factors[0, axis].abs() + 0.03
        p = q / factors[:, None]
        normals = sample_grid(gradients_of(grids), p)
        d = stretched_distances(sample_grid(grids[:, None], p)[..., 0], normals, factors)
        assert float(d) == pytest.approx(0.03, abs=0.004)


def test_factors_shrink_and_never_grow():
    factors = draw_factors(100, seeded())
    assert torch.equal(factors.amax(1), torch.ones(100))
    assert 0.85 <= float(factors.min()) < 0.95


def test_rows_are_shapes_then_mirror_images_then_stretched_ones():
    shapes = toy_shapes(4)
    rows = ShapeRows(shapes, 3)
    assert len(rows) == 12
    assert torch.equal(rows.categories, shapes.categories.repeat(3))
    assert bool((rows.factors[:4] == 1).all())
    assert rows.factors[4:8].prod(1).tolist() == [-1] * 4
    assert bool((rows.factors[8:] > 0).all())
    # A box is its own mirror image, but for what the nodes' sampling loses.
    plain, image = rows.inputs(torch.arange(12))[[1, 5]]
    assert float((plain - image).abs().mean()) < 0.02


def test_a_batch_agrees_with_the_grid_that_the_encoder_reads():
    rows = ShapeRows(toy_shapes(4), 3)
    index = torch.tensor([0, 3, 5, 8, 11])
    which, points, values = rows.batch(index, 400, seeded())
    assert torch.equal(which, index)
    assert points.shape == (5, 400, 3)
    assert values.shape == (5, 400, 1)
    seen = sample_grid(rows.inputs(index), points)
    clear = (values.abs() == 1) & (seen.abs() > 0.25)  # well away from the surface
    assert int(clear.sum()) > 100
    assert bool((seen[clear].sign() == values[clear]).float().mean() > 0.98)


def test_what_is_inside_weighs_as_much_as_what_is_outside():
    target = torch.cat([torch.full((1, 20, 1), -0.5), torch.full((1, 80, 1), 0.5)], 1)
    lost = torch.full((1, 100, 1), 0.5)  # the inside is missing
    assert float(balanced_error(lost, target)) == pytest.approx(0.5)
    assert float(balanced_error(target, target)) == 0
    rare = torch.cat([torch.full((1, 1, 1), -0.5), torch.full((1, 99, 1), 0.5)], 1)
    assert float(balanced_error(lost, rare)) == pytest.approx(0.05)  # not as much as half
