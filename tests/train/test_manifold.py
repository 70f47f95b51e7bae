"""The stages of a manifold on made-up faces: each learns, resumes, and starts from a file alone."""

import argparse
import itertools
import shutil

import pytest
import torch
from torch import nn

from wsdemo.checkpoints import load_checkpoint, save_checkpoint
from wsdemo.errors import WsdemoError
from wsdemo.generate.diffusion import load_diffusion
from wsdemo.train.faces import manifold as faces_manifold
from wsdemo.train.faces import manifold_diffusion as faces_manifold_diffusion
from wsdemo.train.faces.data import toy_faces
from wsdemo.train.faces.manifold import FaceViews, shifted
from wsdemo.train.loop import Run
from wsdemo.train.manifold.adversarial import (
    ADVERSARIAL,
    Adversary,
    Gaussian,
    store,
    train_adversarial,
)
from wsdemo.train.manifold.autoencoder import Best
from wsdemo.train.manifold.discriminator import Discriminator, leaky_bound, outside, r1_penalty
from wsdemo.train.manifold.files import load_stage, save_stage


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def options(root, stage, steps, *more):
    return [
        "--toy", "--runs", str(root / "runs"), "--out", str(root / "out"), "--stage", stage,
        "--steps", str(steps), "--instances", "6", "--points", "64", *more,
    ]  # fmt: skip


@pytest.fixture(scope="module")
def stages(tmp_path_factory):
    """The folder of a run, with a copy of the checkpoint that each stage ended with."""
    root = tmp_path_factory.mktemp("manifold")
    for stage, steps in (("autoencoder", 60), ("adversarial", 8), ("drawn", 8)):
        faces_manifold.main(options(root, stage, steps))
        shutil.copytree(root / "out", root / stage)
    return root


def checkpoint(folder):
    opponent = Discriminator(3, 2, 64)
    model, meta = load_stage(folder / "faces-manifold.safetensors", opponent)
    return model, opponent, meta


def test_autoencoder_shows_unseen_faces(stages):
    _, _, meta = checkpoint(stages / "autoencoder")
    assert meta["measured"]["psnr"] > 14  # before training: 6
    assert meta["toy"] is True


def test_frozen_entries_stay_zero_through_all_stages(stages):
    model, _, _ = checkpoint(stages / "drawn")
    frozen = ~model.manifold.layout.trainable
    assert not model.manifold.directions[:, frozen].any()
    assert not model.manifold.origin[frozen].any()


def test_the_encoder_learns_beside_a_discriminator_and_rests_in_the_last_stage(stages):
    first, second, third = (
        load_checkpoint(stages / s / "faces-manifold-2.safetensors")[0] for s in
        ("autoencoder", "adversarial", "drawn")
    )  # fmt: skip
    encoder = [name for name in first if name.startswith("encoder.")]
    assert encoder
    assert any(not torch.equal(first[name], second[name]) for name in encoder)
    for name in encoder:  # packing twice may round a byte
        a, b = second[name].float(), third[name].float()
        assert float((a - b).abs().max()) <= (1 if second[name].dtype == torch.int8 else 1e-6)


def test_every_stage_moves_the_field_and_is_listed_with_its_cost(stages):
    names = ("autoencoder", "adversarial", "drawn")
    models = [checkpoint(stages / name) for name in names]
    assert [s["stage"] for s in models[-1][2]["stages"]] == list(names)
    assert all(s["minutes"] > 0 for s in models[-1][2]["stages"])
    for (a, _, _), (b, _, _) in itertools.pairwise(models):
        assert not torch.equal(a.manifold.directions, b.manifold.directions)
    assert {"psnr", "fd_reconstructed", "fd_drawn"} <= set(models[-1][2]["measured"])


def test_discriminator_goes_on_where_the_stage_before_left_it(stages):
    _, before, _ = checkpoint(stages / "adversarial")
    _, after, _ = checkpoint(stages / "drawn")
    fresh = Discriminator(3, 2, 64)
    pairs = zip(before.parameters(), after.parameters(), strict=True)
    with torch.no_grad():
        moved = max(float((a - b).abs().max()) for a, b in pairs)
    assert 0 < moved < 0.05
    apart = next(fresh.parameters()) - next(after.parameters())
    assert float(apart.detach().abs().max()) > 0.05


def test_a_stage_resumes_where_it_stopped(stages, capsys):
    faces_manifold.main(options(stages, "drawn", 9))
    assert "resumed" in capsys.readouterr().err


def test_any_stage_starts_from_a_checkpoint_alone(stages, tmp_path):
    source = stages / "adversarial/faces-manifold.safetensors"
    before = checkpoint(stages / "adversarial")[2]["measured"]["psnr"]
    for stage in ("autoencoder", "drawn"):
        root = tmp_path / stage
        faces_manifold.main(options(root, stage, 1, "--from-checkpoint", str(source)))
        _, _, meta = checkpoint(root / "out")
        assert [s["stage"] for s in meta["stages"]] == ["autoencoder", "adversarial", stage]
        assert abs(meta["measured"]["psnr"] - before) < 0.5


@pytest.mark.parametrize("is_last", [False, True])
def test_the_last_average_is_kept_if_asked_for_and_else_the_best(stages, tmp_path, is_last):
    """In bfloat16, by a validation that likes every average less than the one before."""
    opponent = Discriminator(3, 2, 64)
    model, _ = load_stage(stages / "adversarial/faces-manifold.safetensors", opponent)
    faces = FaceViews(toy_faces(16))
    adversary = Adversary(model, opponent, faces, ADVERSARIAL, 1e-4)
    scores = itertools.count()

    def validate(_):
        score = next(scores)
        return float(score), {"score": score}

    args = argparse.Namespace(
        instances=4, compile=False, bfloat16=True, last=is_last, seed=0, validate_minutes=0.0
    )
    best = train_adversarial(adversary, validate, Run(tmp_path / "state.pt", 1.0, 3), args)
    assert best.figures == {"score": 3 if is_last else 0}
    assert all(bool(torch.isfinite(p).all()) for p in best.model.parameters())


def test_without_a_stage_all_of_them_run_in_order(tmp_path):
    given = options(tmp_path, "all", 2)
    faces_manifold.main(given)
    _, _, meta = checkpoint(tmp_path / "out")
    assert [s["stage"] for s in meta["stages"]] == ["autoencoder", "adversarial", "drawn"]
    assert all(s["steps"] == 2 for s in meta["stages"])


def test_a_later_stage_without_a_checkpoint_says_what_is_missing(tmp_path):
    with pytest.raises(WsdemoError, match="not in"):
        faces_manifold.main(options(tmp_path, "adversarial", 1))


def test_parts_of_two_stages_are_not_mixed(stages, tmp_path):
    for part, stage in (("", "autoencoder"), ("-2", "drawn")):
        shutil.copy(stages / stage / f"faces-manifold{part}.safetensors", tmp_path)
    with pytest.raises(WsdemoError, match="not written together"):
        load_stage(tmp_path / "faces-manifold.safetensors")


def test_saving_a_stage_keeps_what_it_shows(stages, tmp_path):
    model, opponent, meta = checkpoint(stages / "drawn")
    save_stage(tmp_path / "again.safetensors", model, opponent, meta)
    again, _ = load_stage(tmp_path / "again.safetensors")
    views = FaceViews(toy_faces(4, seed=1))
    index = torch.arange(4)
    a, b = (m.coordinates(views, index) for m in (model, again))
    torch.testing.assert_close(a, b, atol=0.02, rtol=0.02)


def test_a_diffusion_model_draws_weights_on_the_manifold(stages):
    given = ["--toy", "--runs", str(stages / "runs"), "--out", str(stages / "out")]
    faces_manifold_diffusion.main(
        [*given, "--steps", "20", "--width", "32", "--draw", "6", "--components", "2"]
    )
    model, _, _ = checkpoint(stages / "out")
    path = stages / "out/faces-manifold-diffusion.safetensors"
    diffusion, meta = load_diffusion(path, model.manifold.base())
    assert diffusion.network.config.components == 2
    assert meta["measured"]["validation_loss_with_mixture"] > 0
    weights = diffusion.draw(3, seed=5, steps=10)
    z = model.manifold.project(weights)
    frozen = ~model.manifold.layout.trainable
    assert not weights[:, frozen].any()
    apart = (model.manifold.instances(z) - weights).norm() / weights.std(0).norm()
    assert float(apart.detach()) < 0.05  # the basis is stored in a byte an entry
    latents = stages / "runs/faces-manifold-latents.safetensors"
    assert load_checkpoint(latents)[0]["z"].shape == (6, 8)
    faces_manifold.main(options(stages, "drawn", 10, "--latents", str(latents), "--unchanged"))


# ---- parts -------------------------------------------------------------------


def test_training_points_carry_the_picture_and_augmentation_is_seen_by_both_sides():
    views = FaceViews(toy_faces(3))
    inputs, points, values = views.batch(torch.tensor([0, 4, 2]), 500, seeded())
    pixels = ((points + 1) * 32).long().clamp(max=63)
    nearest = inputs[torch.arange(3)[:, None], :, pixels[..., 1], pixels[..., 0]]
    assert float((nearest - values).abs().mean()) < 0.05
    assert float((views.inputs(torch.tensor([0, 4, 2])) - inputs).abs().max()) > 0.05


def test_pixels_move_by_whole_steps_and_in_the_right_direction():
    images = torch.rand(2, 3, 8, 8, generator=seeded())
    moved = shifted(images, torch.tensor([[1, -2], [0, 0]]))
    assert torch.equal(moved[0, :, 1:, :-2], images[0, :, :-1, 2:])
    assert torch.equal(moved[1], images[1])


def test_a_change_is_the_same_at_every_call_and_another_the_next_time():
    views, images = FaceViews(toy_faces(4)), torch.rand(4, 3, 64, 64) * 2 - 1
    g = seeded()
    first, second = views.change(4, g), views.change(4, g)
    assert torch.equal(first(images), first(images))
    assert not torch.equal(first(images), second(images))


def test_values_outside_the_range_still_have_a_gradient_and_cost_something():
    x = torch.tensor([[[-3.0, 0.5, 2.0]]], requires_grad=True)
    leaky_bound(x).sum().backward()
    torch.testing.assert_close(x.grad, torch.tensor([[[0.1, 1.0, 0.1]]]))
    torch.testing.assert_close(leaky_bound(x.detach()), torch.tensor([[[-1.2, 0.5, 1.1]]]))
    assert float(outside(x.detach())) == pytest.approx(4 + 1)
    assert float(outside(x.detach().clamp(-1, 1))) == 0


def test_r1_of_a_linear_discriminator_is_half_its_squared_norm():
    linear = nn.Linear(12, 1)

    class Flat(nn.Module):
        def forward(self, x):
            return linear(x.flatten(1)).squeeze(1), []

    penalty = r1_penalty(Flat(), torch.randn(5, 3, 2, 2, generator=seeded()))
    torch.testing.assert_close(penalty, 0.5 * linear.weight.square().sum())


@pytest.mark.parametrize(("dims", "size", "widths"), [(2, 64, (8, 8, 8, 8)), (3, 16, (8, 8))])
def test_a_discriminator_learns_to_tell_two_kinds_apart(dims, size, widths):
    torch.manual_seed(0)
    opponent = Discriminator(1, dims, size, widths)
    optimizer = torch.optim.Adam(opponent.parameters(), lr=1e-3)
    g = seeded()
    for _ in range(30):
        noise = torch.randn(8, 1, *(size,) * dims, generator=g)
        logits, features = opponent(torch.cat([noise, noise + 0.5]))
        loss = nn.functional.softplus(torch.cat([-logits[:8], logits[8:]])).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert len(features) == len(widths)
    assert float(loss) < 0.3


def test_gaussian_draws_have_the_mean_and_covariance_of_the_coordinates():
    g = seeded()
    z = torch.randn(2000, 3, generator=g) @ torch.tensor([[2.0, 0, 0], [1, 1, 0], [0, 0, 0.1]]) + 3
    drawn = Gaussian(z)(20_000, g)
    torch.testing.assert_close(drawn.mean(0), z.mean(0), atol=0.05, rtol=0)
    torch.testing.assert_close(torch.cov(drawn.T), torch.cov(z.T), atol=0.15, rtol=0.05)


def test_draws_of_a_store_are_different_until_it_is_used_up():
    z = torch.arange(5.0)[:, None]
    draw = store(z)
    assert draw(5, seeded()).flatten().sort().values.tolist() == [0, 1, 2, 3, 4]
    assert sorted(draw(10, seeded()).flatten().tolist()) == sorted(2 * [0, 1, 2, 3, 4])
    assert not torch.equal(draw(5, seeded()), draw(5, seeded(1)))


def test_a_discriminator_sees_pictures_as_they_are_if_asked():
    images = torch.rand(3, 3, 64, 64)
    assert torch.equal(FaceViews(toy_faces(3), False).change(3, seeded())(images), images)
    assert not torch.equal(FaceViews(toy_faces(3)).change(3, seeded())(images), images)


def test_the_best_average_is_kept_and_not_the_last(stages):
    model, _, _ = checkpoint(stages / "autoencoder")
    best = Best(model)
    best.offer(model, 2.0, {"psnr": 1.0})
    first = model.manifold.origin.clone()
    with torch.no_grad():
        model.manifold.origin.add_(1)
    best.offer(model, 3.0, {"psnr": 0.0})
    best.offer(model, float("nan"), {"psnr": float("nan")})
    assert torch.equal(best.model.manifold.origin, first)
    assert best.figures == {"psnr": 1.0}


def test_a_store_of_latents_is_no_manifold(tmp_path):
    save_checkpoint(tmp_path / "z.safetensors", {"z": torch.zeros(1)}, {"kind": "latents"})
    with pytest.raises(WsdemoError, match="latents"):
        load_stage(tmp_path / "z.safetensors")
