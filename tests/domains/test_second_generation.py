"""The second generations: what ships of them, through the functions that all domains share."""

from functools import cache

import pytest
import torch

from wsdemo.analysis.reconstruction import psnr
from wsdemo.domains.domain import FitOptions, Original
from wsdemo.domains.faces import FACES, FACES_MANIFOLD, LABELS, render_faces
from wsdemo.domains.fitting import fit_original
from wsdemo.domains.instances import check_ends, drawn_instance, open_instance
from wsdemo.domains.manifold import on_manifold
from wsdemo.domains.models import adapter_of, diffusion_of, encoder_of, nearest_training
from wsdemo.domains.sampling import sample
from wsdemo.domains.shapes import SHAPES, SHAPES_MANIFOLD
from wsdemo.errors import WsdemoError
from wsdemo.fields.manifold import load_manifold, save_manifold
from wsdemo.fields.manifold_start import load_manifold_start
from wsdemo.fields.signal import image_to_signal
from wsdemo.maps.place import place
from wsdemo.maps.weight_map import editable_maps, weight_map
from wsdemo.ui.fields.sample_tab import first_drawn

PAIRS = [(FACES_MANIFOLD, FACES), (SHAPES_MANIFOLD, SHAPES)]
"""The second generations, each with its first."""
EACH = pytest.mark.parametrize(("domain", "first"), PAIRS, ids=["faces", "shapes"])


@cache
def drawn_of(domain):
    """Four draws, (4, D)."""
    *_, last = sample(domain, 4, 3, steps=12)
    return last.instances


@pytest.fixture
def drawn():
    """Four faces."""
    return drawn_of(FACES_MANIFOLD)


def instance(domain, weights):
    return drawn_instance(domain, diffusion_of(domain).adapter, weights, 1.0)


@EACH
def test_draws_lie_on_the_manifold(domain, first):
    drawn, manifold = drawn_of(domain), on_manifold(domain).manifold
    there = manifold.instances(manifold.project(drawn))
    apart = (there - drawn).norm() / (drawn - drawn.mean(0)).norm()
    assert float(apart) < 0.05  # the prior's basis is stored in a byte an entry


def test_faces_are_no_copies(drawn):
    adapter = diffusion_of(FACES_MANIFOLD).adapter
    assert all(nearest_training(FACES_MANIFOLD, one, adapter).percentile > 1 for one in drawn)


@EACH
def test_what_was_drawn_is_read_again_with_its_own_base(domain, first, tmp_path):
    weights = drawn_of(domain)[0]
    instance(domain, weights).save(tmp_path / "one.safetensors")
    again = open_instance(tmp_path / "one.safetensors", domain.kind)
    assert again.base_name == f"{domain.name}-base"
    assert torch.equal(again.weights, weights)


def test_wishes_are_heard_by_the_same_names_as_in_the_first_generation():
    names = diffusion_of(FACES_MANIFOLD).attribute_names
    assert set(names) == set(LABELS) == set(diffusion_of(FACES).attribute_names)


@EACH
def test_the_two_generations_do_not_mix(domain, first):
    other = instance(first, diffusion_of(first).draw(1, seed=1, steps=2)[0])
    with pytest.raises(WsdemoError, match=f"{domain.name}-base"):
        check_ends(instance(domain, drawn_of(domain)[0]), other)


def test_the_page_opens_on_the_second_and_files_are_fitted_on_the_first():
    assert first_drawn([FACES, FACES_MANIFOLD]) is FACES_MANIFOLD
    assert first_drawn([FACES]) is FACES


@EACH
def test_what_is_drawn_has_a_place_on_its_own_map(domain, first):
    drawn_on = weight_map(domain.name)
    found = place(drawn_on, instance(domain, drawn_on.weights(17)))
    assert found.neighbours[0][0] == 17
    away = place(drawn_on, instance(domain, drawn_of(domain)[0]))
    assert away.neighbours[0][1] > found.neighbours[0][1]


def test_faces_have_directions_to_be_edited_along():
    assert "faces-manifold" in [one.name for one in editable_maps()]


# ---- where fits start ------------------------------------------------------------------


def a_face(drawn):
    """A picture that the encoder knows what to do with, (3, 64, 64) uint8."""
    return render_faces(drawn[:1], diffusion_of(FACES_MANIFOLD).adapter)[0]


def test_a_fit_starts_at_the_manifolds_point_and_gets_better(drawn):
    picture = a_face(drawn)
    adapter = adapter_of(FACES_MANIFOLD, "mlora-asym", 8, 0, "carried")
    began = encoder_of(FACES_MANIFOLD)(adapter, image_to_signal(picture[None]))
    at_first = psnr(render_faces(began, adapter)[0], picture)
    unstarted = psnr(render_faces(adapter.start[None], adapter)[0], picture)
    assert at_first > unstarted + 3
    options = FitOptions(steps=120, start="carried")
    *_, last = fit_original(FACES_MANIFOLD, Original(picture), options)
    assert last.instance.measured["psnr"] > at_first + 3


def test_nothing_is_fitted_as_the_training_faces_which_were_not(drawn):
    with pytest.raises(WsdemoError, match="were not fitted"):
        list(fit_original(FACES_MANIFOLD, Original(a_face(drawn)), FitOptions(is_comparable=True)))


def test_other_ranks_start_where_they_always_do(drawn):
    adapter = adapter_of(FACES_MANIFOLD, "mlora-asym", 4, 0, "carried")
    began = encoder_of(FACES_MANIFOLD)(adapter, image_to_signal(a_face(drawn)[None]))
    assert torch.equal(began, adapter.start[None])


def test_a_manifold_of_another_base_is_refused(tmp_path):
    source = FACES_MANIFOLD.folder / "faces-manifold.safetensors"
    manifold, meta = load_manifold(source)
    with pytest.raises(WsdemoError, match="another version of its base"):
        load_manifold_start(source, "0" * 64)
    manifold.biases[0].data += 1
    save_manifold(tmp_path / "faces-manifold.safetensors", manifold, {"name": "x", "parts": 2})
    second = FACES_MANIFOLD.folder / "faces-manifold-2.safetensors"
    (tmp_path / second.name).write_bytes(second.read_bytes())
    _, other = load_manifold(tmp_path / "faces-manifold.safetensors")
    assert other["hash"] != meta["hash"]
    with pytest.raises(WsdemoError, match="not written together"):
        load_manifold_start(tmp_path / "faces-manifold.safetensors", other["hash"])
