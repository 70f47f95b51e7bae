"""Fitting: batched, deterministic, and it moves only what may move."""

import subprocess
import sys

import pytest
import torch

from tests.conftest import Clock, make_base
from wsdemo.fields import fit as fitting
from wsdemo.fields.adapters import REPRESENTATIONS, Adapter, AdapterConfig
from wsdemo.fields.base import evaluate, pixel_grid
from wsdemo.fields.fit import RECHECK, FitConfig, fit, fit_to_end, psnr_from_mse, warm_start


def problem(name: str, count: int = 3) -> tuple[Adapter, torch.Tensor, torch.Tensor]:
    """An adapter, points and smooth target pictures of 12x12 pixels."""
    adapter = Adapter(make_base(), AdapterConfig(name, 8))
    points = pixel_grid(12, 12).double()
    phase = torch.arange(count).double()[:, None, None]
    target = torch.sin(2 * points[None] @ torch.ones(2, 3).double() + phase) * 0.5
    return adapter, points, target


def seeded(seed: int = 5) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("name", REPRESENTATIONS)
def test_fitting_lowers_the_error_and_leaves_frozen_entries_bit_identical(name):
    adapter, points, target = problem(name)
    config = FitConfig(steps=60, points=0, learning_rate=0.02)
    instances = fit_to_end(adapter, points, target, config, seeded())
    features = adapter.features(points)
    before = (adapter.decode(adapter.start.expand(3, -1), features) - target).square().mean()
    after = (adapter.decode(instances, features) - target).square().mean()
    assert float(after) < 0.5 * float(before)
    frozen = ~adapter.trainable
    for instance in instances:
        assert torch.equal(instance[frozen], adapter.start[frozen])
        assert not torch.equal(instance, adapter.start)


def test_an_instance_comes_out_the_same_alone_and_in_a_batch():
    adapter, points, target = problem("mlora-asym", 4)
    config = FitConfig(steps=30, points=64)
    together = fit_to_end(adapter, points, target, config, seeded())
    alone = fit_to_end(adapter, points, target[2:3], config, seeded())
    torch.testing.assert_close(together[2:3], alone, rtol=1e-6, atol=1e-8)


def test_the_same_seed_gives_the_same_bits():
    adapter, points, target = problem("mlora-asym")
    config = FitConfig(steps=20, points=50)
    first, again = (fit_to_end(adapter, points, target, config, seeded()) for _ in range(2))
    assert torch.equal(first, again)


def test_fit_stops_at_the_target_psnr():
    adapter, points, target = problem("mlora", 1)
    config = FitConfig(steps=2000, points=0, target_psnr=20.0)
    last = list(fit(adapter, points, target, config, seeded()))[-1]
    assert last.is_last
    assert last.step < 2000
    assert float(psnr_from_mse(last.mse).mean()) >= 20.0


def test_the_target_is_reached_on_all_points_and_not_only_on_those_of_a_step():
    adapter, points, target = problem("mlora", 1)
    for seed in range(4):
        config = FitConfig(steps=2000, points=16, target_psnr=20.0)
        last = list(fit(adapter, points, target, config, seeded(seed)))[-1]
        shown = adapter.decode(last.instances, adapter.features(points))
        assert last.step < 2000
        assert float(psnr_from_mse((shown - target).square().mean())) >= 20.0


def test_the_target_may_be_judged_otherwise():
    adapter, points, target = problem("mlora", 1)
    asked = []

    def third(instances):
        asked.append(instances)
        return len(asked) == 3

    config = FitConfig(steps=500, points=0, target_psnr=0.0)
    last = list(fit(adapter, points, target, config, seeded(), is_enough=third))[-1]
    assert len(asked) == 3
    assert last.step == 1 + 2 * RECHECK


@pytest.mark.parametrize("tick", [0.001, 0.01, 0.03, 0.05])
def test_a_fit_ends_at_its_time_to_half_a_step(tick, monkeypatch):
    adapter, points, target = problem("mlora", 1)
    monkeypatch.setattr(fitting, "time", Clock(tick))
    config = FitConfig(steps=10**6, points=0, seconds=0.5)
    last = list(fit(adapter, points, target, config, seeded()))[-1]
    assert last.is_last
    assert abs(last.seconds - 0.5) <= 1.5 * tick  # a step takes two looks at the clock


def test_a_fit_that_is_counted_in_steps_does_not_look_at_the_clock(monkeypatch):
    adapter, points, target = problem("mlora", 1)
    found = []
    for tick in (0.0, 1000.0):
        monkeypatch.setattr(fitting, "time", Clock(tick))
        steps, seconds = fitting.budget(40, 5.0, 3.0)
        config = FitConfig(steps=steps, points=0, seconds=seconds)
        found.append(fit_to_end(adapter, points, target, config, seeded()))
    assert torch.equal(*found)


def test_what_the_start_took_is_not_left_for_the_fit():
    assert fitting.budget(None, 10.0, 4.0) == (fitting.MOST_STEPS, 6.0)
    assert fitting.budget(None, 10.0, 40.0) == (fitting.MOST_STEPS, 1.0)


def test_progress_is_reported_as_asked_and_ends_once():
    adapter, points, target = problem("lora", 1)
    reports = list(fit(adapter, points, target, FitConfig(steps=25, report_every=10), seeded()))
    assert [r.step for r in reports] == [10, 20, 25]
    assert [r.is_last for r in reports] == [False, False, True]


def test_pull_keeps_instances_near_the_start():
    adapter, points, target = problem("mlora")
    free, pulled = (
        fit_to_end(adapter, points, target, FitConfig(steps=80, points=0, pull=p), seeded())
        for p in (0.0, 3.0)
    )
    assert float((pulled - adapter.start).norm()) < 0.8 * float((free - adapter.start).norm())


def test_warm_start_shows_what_the_base_shows():
    adapter, points, _ = problem("mlp")
    base, features = adapter.base, adapter.features(points)
    own = evaluate(features, [W[None] for W in base.weights], list(base.biases))
    cold = (adapter.decode(adapter.start[None], features) - own).square().mean()
    warm = (adapter.decode(warm_start(adapter, points)[None], features) - own).square().mean()
    assert float(warm) < 0.2 * float(cold)  # eight channels cannot follow it all the way


def test_the_first_fit_of_a_process_has_its_whole_time():
    """What torch imports with its first optimiser is imported before the clock is looked at."""
    code = (
        "import sys, torch; from wsdemo.fields.fit import load_optimizer; load_optimizer();"
        " before = set(sys.modules); x = torch.zeros(9, requires_grad=True);"
        " o = torch.optim.Adam([x], fused=True); x.grad = x + 1; o.step();"
        " print(len(set(sys.modules) - before))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 10
