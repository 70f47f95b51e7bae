"""The shapes' second generation: what is its own. What it shares with that of the faces:
test_second_generation.py."""

import numpy as np
import pytest
import torch

from tests.media.shapes import box
from wsdemo.domains.domain import FitOptions
from wsdemo.domains.fitting import fit_original
from wsdemo.domains.manifold import on_manifold
from wsdemo.domains.models import adapter_of, diffusion_of, encoder_of, nearest_training
from wsdemo.domains.sampling import sample
from wsdemo.domains.shapes import AIRPLANE, SHAPES, SHAPES_MANIFOLD, decode_shape
from wsdemo.media.mesh_files import mesh_bytes
from wsdemo.media.meshes import vertex_components
from wsdemo.ui.fields.sample_tab import first_drawn


def drawn_of(category, count=4, seed=3):
    """Weights (n, D) of a category."""
    *_, last = sample(SHAPES_MANIFOLD, count, seed, steps=12, wishes={category: True})
    return last.instances


@pytest.fixture(scope="module")
def cars():
    return drawn_of("car")


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


def test_the_page_opens_on_the_second():
    assert first_drawn([SHAPES, SHAPES_MANIFOLD, AIRPLANE]) is SHAPES_MANIFOLD


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
