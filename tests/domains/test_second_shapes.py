"""The shapes' second generation: what ships of it, through the functions that all domains share."""

import numpy as np
import pytest
import torch

from tests.media.shapes import box
from wsdemo.domains.domain import FitOptions
from wsdemo.domains.fitting import fit_original
from wsdemo.domains.instances import check_ends, drawn_instance, open_instance
from wsdemo.domains.manifold import on_manifold
from wsdemo.domains.models import adapter_of, diffusion_of, encoder_of, nearest_training
from wsdemo.domains.sampling import sample
from wsdemo.domains.shapes import AIRPLANE, SHAPES, SHAPES_MANIFOLD, decode_shape
from wsdemo.errors import WsdemoError
from wsdemo.maps.place import place
from wsdemo.maps.weight_map import weight_map
from wsdemo.media.mesh_files import mesh_bytes
from wsdemo.media.meshes import vertex_components
from wsdemo.ui.fields.sample_tab import first_drawn


def drawn_of(category, count=4, seed=3):
    """Weights (n, D) of a category."""
    *_, last = sample(SHAPES_MANIFOLD, count, seed, steps=12, wishes={category: True})
    return last.instances


def instance(weights):
    return drawn_instance(SHAPES_MANIFOLD, diffusion_of(SHAPES_MANIFOLD).adapter, weights, 1.0)


@pytest.fixture(scope="module")
def cars():
    return drawn_of("car")


def test_draws_lie_on_the_manifold_and_differ(cars):
    manifold = on_manifold(SHAPES_MANIFOLD).manifold
    there = manifold.instances(manifold.project(cars))
    apart = (there - cars).norm() / (cars - cars.mean(0)).norm()
    assert float(apart) < 0.05  # the prior's basis is stored in a byte an entry
    assert float(torch.pdist(cars).min()) > 0


def test_a_wish_draws_its_own_category():
    """What is drawn as a sofa lies nearest to sofas, whatever else is drawn."""
    model = diffusion_of(SHAPES_MANIFOLD)
    for category in ("sofa", "humanoid"):
        near = [
            nearest_training(SHAPES_MANIFOLD, one, model.adapter).name
            for one in drawn_of(category, 3)
        ]
        assert sum(name.startswith(category) for name in near) >= 2, near


def test_cars_hold_together(cars):
    adapter = diffusion_of(SHAPES_MANIFOLD).adapter
    whole = 0
    for weights in cars:
        sizes = np.bincount(vertex_components(decode_shape(weights, adapter, 64)))
        whole += int(sizes.max() > 0.99 * sizes.sum())
    assert whole >= 3


def test_what_was_drawn_is_read_again_with_its_own_base(cars, tmp_path):
    instance(cars[0]).save(tmp_path / "car.safetensors")
    again = open_instance(tmp_path / "car.safetensors", "sdf")
    assert again.base_name == "shapes-manifold-base"
    assert torch.equal(again.weights, cars[0])


def test_the_two_generations_do_not_mix(cars):
    first = diffusion_of(SHAPES)
    other = drawn_instance(SHAPES, first.adapter, first.draw(1, seed=1, steps=2)[0], 0.75)
    with pytest.raises(WsdemoError, match="shapes-manifold-base"):
        check_ends(instance(cars[0]), other)


def test_the_page_opens_on_the_second():
    assert first_drawn([SHAPES, SHAPES_MANIFOLD, AIRPLANE]) is SHAPES_MANIFOLD


def test_a_drawn_shape_has_a_place_on_its_own_map(cars):
    drawn_on = weight_map("shapes-manifold")
    found = place(drawn_on, instance(drawn_on.weights(17)))
    assert found.neighbours[0][0] == 17
    assert place(drawn_on, instance(cars[0])).neighbours[0][1] > found.neighbours[0][1]


def test_a_fit_starts_on_the_manifold_and_gets_better(tmp_path):
    path = tmp_path / "box.ply"
    path.write_bytes(mesh_bytes(box(1, 0.5, 0.3), "ply"))
    original = SHAPES_MANIFOLD.open(SHAPES_MANIFOLD, path)
    signal = SHAPES_MANIFOLD.signal(original, None)
    adapter = adapter_of(SHAPES_MANIFOLD, "mlora-asym", 8, 0, "spread")
    began = encoder_of(SHAPES_MANIFOLD)(adapter, signal.inputs)
    manifold = on_manifold(SHAPES_MANIFOLD).manifold
    torch.testing.assert_close(manifold.instances(manifold.project(began)), began)
    *_, last = fit_original(SHAPES_MANIFOLD, original, FitOptions(steps=60))
    points, targets = signal.points.reshape(-1, 3)[:4000], signal.targets.reshape(-1, 1)[:4000]
    errors = [
        float((adapter.decode_points(w[None], points)[0].clamp(-1, 1) - targets).abs().mean())
        for w in (began[0], last.instance.weights)
    ]
    assert errors[1] < 0.8 * errors[0]
