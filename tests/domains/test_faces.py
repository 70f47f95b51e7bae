"""Faces: the shipped checkpoints through the functions that app and command line share."""

from pathlib import Path

import pytest
import torch

from tests.conftest import Clock
from wsdemo.analysis.reconstruction import psnr
from wsdemo.checkpoints import DIRECTORY, load_checkpoint
from wsdemo.domains import fitting, instances
from wsdemo.domains.domain import FitOptions, Original
from wsdemo.domains.faces import FACES, render_faces
from wsdemo.domains.fitting import fit_original
from wsdemo.domains.instances import between, make_instance
from wsdemo.domains.models import (
    adapter_of,
    diffusion_of,
    encoder_of,
    nearest_training,
    neighbours_of,
)
from wsdemo.errors import WsdemoError
from wsdemo.fields import fit
from wsdemo.fields.adapters import REPRESENTATIONS, Adapter, AdapterConfig
from wsdemo.fields.gauges import canonicalise, regauge
from wsdemo.fields.signal import image_to_signal
from wsdemo.generate import diffusion
from wsdemo.limits import MAX_INSTANCE_BYTES, MAX_MLP_WIDTH
from wsdemo.maps.place import place
from wsdemo.maps.weight_map import weight_map


@pytest.fixture(scope="module")
def weights() -> torch.Tensor:
    """Fitted weights of training faces, as shipped."""
    return load_checkpoint(DIRECTORY / "faces-weights.safetensors")[0]["instances"].float()


@pytest.fixture(scope="module")
def adapter():
    return diffusion_of(FACES).adapter


def test_a_training_face_is_its_own_nearest_neighbour(weights, adapter):
    for index in (0, 7, 123):
        found = nearest_training(FACES, weights[index], adapter)
        assert found.index == index
        assert found.percentile == 0


def test_a_sample_is_no_copy_of_a_training_face(adapter):
    drawn = diffusion_of(FACES).draw(4, seed=3, steps=20)
    for sample in drawn:
        assert nearest_training(FACES, sample, adapter).percentile > 1


def test_neighbour_decodes_to_something_like_the_training_face(weights, adapter):
    found = nearest_training(FACES, weights[5], adapter)
    shown = render_faces(torch.stack([found.weights, weights[5]]), adapter)
    assert float(psnr(shown[:1], shown[1:])) > 16


def test_regauged_instance_shows_the_same_picture(weights, adapter):
    changed = regauge(adapter, weights[:3], torch.Generator().manual_seed(0))
    first, second, third = (
        render_faces(x, adapter).int()
        for x in (weights[:3], changed, canonicalise(adapter, changed))
    )
    assert float((weights[:3] - changed).norm() / weights[:3].norm()) > 0.1
    assert int((first - second).abs().max()) <= 1
    assert int((first - third).abs().max()) <= 1


def test_shipped_weights_show_smooth_and_different_pictures(weights, adapter):
    """They are smooth where noise is not, and differ from each other."""
    pictures = render_faces(weights[:50], adapter).float()
    step = (pictures[..., 1:] - pictures[..., :-1]).abs().mean()
    noise = torch.randint(0, 256, pictures.shape, generator=torch.Generator().manual_seed(0))
    assert float(step) < 0.2 * float((noise[..., 1:] - noise[..., :-1]).abs().float().mean())
    assert float(pictures.std(0).mean()) > 20


def test_blend_ends_at_its_two_faces(weights, adapter):
    a, b = (make_instance(FACES, adapter, w) for w in weights[:2])
    assert torch.equal(between(a, b, 0.0).weights, a.weights)
    torch.testing.assert_close(between(a, b, 1.0).weights, b.weights)


def test_instances_of_different_rank_do_not_blend(weights, adapter):
    a = make_instance(FACES, adapter, weights[0])
    other = adapter_of(FACES, "mlora", 4, 0)
    b = make_instance(FACES, other, other.start)
    with pytest.raises(WsdemoError, match="other has representation mlora, rank 4"):
        between(a, b, 0.5)
    with pytest.raises(WsdemoError, match="Training faces are stored as"):
        nearest_training(FACES, other.start, other)


def test_fit_starts_on_the_manifold_of_faces(weights, adapter):
    """The encoder's start shows a face better than the shared start does."""
    face = render_faces(weights[3:4], adapter)
    guess = encoder_of(FACES)(adapter, image_to_signal(face))
    shown = render_faces(torch.cat([guess, adapter.start[None]]), adapter)
    guessed, shared = psnr(shown, face.expand(2, -1, -1, -1)).tolist()
    assert guessed > shared + 4


def test_fit_reports_and_ends_with_its_measures(weights, adapter):
    face = render_faces(weights[3:4], adapter)[0]
    reports = list(fit_original(FACES, Original(face), FitOptions(seconds=2.0)))
    assert reports[-1].is_last
    assert not any(r.is_last for r in reports[:-1])
    assert set(reports[-1].instance.measured) == {"psnr", "ssim", "seconds", "steps"}
    assert reports[-1].psnr > 20
    assert reports[-1].seconds_left == 0


def test_the_target_is_reached_by_the_picture_that_is_shown(weights, adapter):
    for face in render_faces(weights[:3], adapter):
        options = FitOptions(seconds=60, target_psnr=27.0)
        last = list(fit_original(FACES, Original(face), options))[-1]
        assert last.psnr >= 27
        assert last.step < fit.MOST_STEPS


def test_the_carried_start_shows_more_of_a_photo_and_mixes_with_its_like_alone():
    photo = Path(instances.__file__).parent.parent / "ui" / "examples" / "astronaut.png"
    face = FACES.open(FACES, photo).value
    fits = {
        start: list(fit_original(FACES, Original(face), FitOptions(steps=80, start=start)))
        for start in ("spread", "carried")
    }
    spread, carried = fits["spread"][-1], fits["carried"][-1]
    assert carried.psnr > spread.psnr + 1
    assert carried.instance.adapter.weight_count == spread.instance.adapter.weight_count
    with pytest.raises(WsdemoError, match="One has start spread; the other has start carried"):
        between(spread.instance, carried.instance, 0.5)
    with pytest.raises(WsdemoError, match="start carried"):
        place(weight_map("faces"), carried.instance)


def test_the_start_of_an_mlp_does_not_take_the_time_of_its_fit(weights, adapter, monkeypatch):
    made = adapter_of(FACES, "mlp", 4, 0)

    clock = Clock(0.01)

    def slow(*_):
        clock.now += 100
        return made

    monkeypatch.setattr(fitting, "adapter_of", slow)
    monkeypatch.setattr(fitting, "time", clock)
    monkeypatch.setattr(fit, "time", clock)
    face = render_faces(weights[3:4], adapter)[0]
    last = list(fit_original(FACES, Original(face), FitOptions("mlp", 4, seconds=1.0)))[-1]
    assert last.step > 3
    assert last.instance.measured["seconds"] == pytest.approx(1.0, abs=0.1)


def test_a_fit_of_so_many_steps_gives_the_same_bytes_and_one_in_time_says_when_it_had_too_few(
    weights, adapter, monkeypatch
):
    face = render_faces(weights[3:4], adapter)[0]
    files = []
    for tick in (0.001, 7.0):  # however busy the machine
        clock = Clock(tick)
        monkeypatch.setattr(fitting, "time", clock)
        monkeypatch.setattr(fit, "time", clock)
        last = list(fit_original(FACES, Original(face), FitOptions(steps=12)))[-1]
        assert last.step == 12
        assert not last.notes  # it was asked for
        files.append(last.instance.to_bytes())
        last = list(fit_original(FACES, Original(face), FitOptions(is_comparable=True)))[-1]
        files.append(last.instance.to_bytes())
    assert files[:2] == files[2:]
    last = list(fit_original(FACES, Original(face), FitOptions(seconds=100)))[-1]
    assert last.step < FACES.enough_steps
    assert f"Only {last.step} steps" in last.notes[0]
    enough = FitOptions(seconds=100, target_psnr=5.0)
    assert not list(fit_original(FACES, Original(face), enough))[-1].notes


def test_every_rank_that_may_be_fitted_gives_a_file_that_may_be_opened():
    base = FACES.base[0]
    for name in REPRESENTATIONS:
        config = AdapterConfig(name, min(MAX_MLP_WIDTH, base.config.width))
        assert Adapter(base, config).size * 4 < 0.9 * 2**20 < MAX_INSTANCE_BYTES
    with pytest.raises(WsdemoError, match="takes 1 to 128"):
        Adapter(base, AdapterConfig("mlp-asym", MAX_MLP_WIDTH + 1))


def test_canonical_factors_are_marked_and_do_not_mix_with_fitted_ones(weights, adapter, tmp_path):
    raw = make_instance(FACES, adapter, weights[0])
    assert b"canonical" not in raw.to_bytes()
    instances.canonical(raw).save(tmp_path / "c.safetensors")
    fixed = instances.open_instance(tmp_path / "c.safetensors")
    assert fixed.is_canonical
    assert instances.canonical(fixed).is_canonical
    instances.check_ends(fixed, fixed)
    with pytest.raises(WsdemoError, match="One has factors as fitted; the other has factors can"):
        between(raw, fixed, 0.5)
    mlp = adapter_of(FACES, "mlp", 4, 0)
    assert not instances.canonical(make_instance(FACES, mlp, mlp.start)).is_canonical


@pytest.mark.parametrize(
    "options",
    [
        FitOptions(seconds=0),
        FitOptions(steps=0),
        FitOptions(steps=10**6),
        FitOptions(seconds=1e9),
        FitOptions(seed=-1),
        FitOptions(rank=0),
    ],
)
def test_options_out_of_range_are_refused(options):
    with pytest.raises(WsdemoError):
        next(fit_original(FACES, Original(torch.zeros(3, 64, 64, dtype=torch.uint8)), options))


def test_a_missing_checkpoint_is_named(tmp_path):
    with pytest.raises(WsdemoError, match="gone"):
        load_checkpoint(tmp_path / "gone.safetensors")


@pytest.mark.slow
@pytest.mark.timeout(900)  # 1,200 steps, however busy the machine
def test_a_face_fitted_as_the_training_faces_were_is_answered_and_a_long_fit_is_not(tmp_path):
    from wsdemo.lol.predictor.answers import answer
    from wsdemo.lol.predictor.shipped import shipped_predictors
    from wsdemo.lora.reader import read_lora

    model = diffusion_of(FACES)
    picture = render_faces(model.draw(1, seed=4, steps=20), model.adapter)[0]

    def asked(options, path):
        last = list(fit_original(FACES, Original(picture), options))[-1]
        last.instance.save(path)
        return last, answer(read_lora(path), shipped_predictors())

    path = tmp_path / "x.safetensors"
    last, found = asked(FitOptions(is_comparable=True), path)
    assert last.step == FACES.comparable.steps
    assert not found.abstained
    assert len(found.predictions) == 40
    _, found = asked(FitOptions(steps=1200), path)
    assert found.abstained
    assert "--comparable" in found.reason


def test_the_prior_of_a_model_is_hashed_once(monkeypatch):
    neighbours_of(FACES)
    monkeypatch.setattr(diffusion, "tensors_hash", lambda *_: pytest.fail("hashed again"))
    neighbours_of(FACES)
