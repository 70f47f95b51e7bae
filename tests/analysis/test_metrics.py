"""Metrics against references: scipy, scikit-image, closed forms, and their own bounds."""

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm
from skimage.metrics import peak_signal_noise_ratio

from wsdemo.analysis.generation import (
    area_under_roc,
    coverage,
    frechet_distance,
    mmd_gaussian,
    mmd_polynomial,
    nearest_distances,
)
from wsdemo.analysis.reconstruction import psnr, ssim


def draw(n: int, d: int = 6, seed: int = 0, shift: float = 0.0) -> torch.Tensor:
    g = torch.Generator().manual_seed(seed)
    mix = torch.randn(d, d, generator=torch.Generator().manual_seed(99))
    return torch.randn(n, d, generator=g) @ mix + shift


def test_frechet_distance_equals_the_matrix_root_formula():
    x, y = draw(300).double(), draw(200, seed=1, shift=0.5).double() * 1.3
    cx, cy = np.cov(x.numpy().T), np.cov(y.numpy().T)
    root = sqrtm(cx @ cy).real
    mean = float((x.mean(0) - y.mean(0)).square().sum())
    assert frechet_distance(x, y) == pytest.approx(mean + np.trace(cx + cy - 2 * root), rel=1e-6)


def test_distances_vanish_on_the_same_set_and_grow_with_a_shift():
    x = draw(400)
    assert frechet_distance(x, x) == pytest.approx(0, abs=1e-6)
    near, far = draw(400, seed=1), draw(400, seed=1, shift=2.0)
    for metric in (frechet_distance, mmd_gaussian, mmd_polynomial):
        assert metric(far, x) > 3 * abs(metric(near, x))


def test_unbiased_mmd_averages_to_zero_for_one_distribution():
    values = [mmd_gaussian(draw(80, seed=2 * s), draw(80, seed=2 * s + 1)) for s in range(30)]
    assert abs(np.mean(values)) < 3 * np.std(values) / np.sqrt(30) + 1e-4
    assert min(values) < 0 < max(values)


def test_coverage_of_halves_is_near_its_ideal_and_of_strangers_zero():
    x = draw(1000)
    precision, covered = coverage(x[:500], x[500:])
    assert precision > 0.9
    assert covered > 0.9
    assert coverage(x[:500] + 100, x[500:]) == (0.0, 0.0)
    collapsed = x[:1].expand(500, -1)
    assert coverage(collapsed, x[500:])[1] < 0.05


def test_nearest_distance_of_a_copy_is_zero():
    x = draw(50)
    assert float(nearest_distances(x[3:4], x)) == pytest.approx(0, abs=1e-3)


def test_auc_counts_ordered_pairs_with_ties_by_half():
    scores = torch.tensor([0.1, 0.4, 0.4, 0.8])
    labels = torch.tensor([0, 0, 1, 1])
    assert area_under_roc(scores, labels) == pytest.approx((1 + 1 + 0.5 + 1) / 4)
    assert np.isnan(area_under_roc(scores, torch.ones(4)))
    assert np.isnan(area_under_roc(scores / 0, labels))


def test_psnr_equals_scikit_image():
    g = torch.Generator().manual_seed(0)
    a, b = (torch.randint(0, 256, (3, 16, 16), generator=g).to(torch.uint8) for _ in range(2))
    assert psnr(a, b) == pytest.approx(
        peak_signal_noise_ratio(a.numpy(), b.numpy(), data_range=255)
    )
    assert psnr(a, a) == 99.0


def test_ssim_is_one_for_equals_and_lower_for_noise():
    g = torch.Generator().manual_seed(0)
    a = torch.randint(0, 256, (3, 32, 32), generator=g).to(torch.uint8)
    assert ssim(a, a) == pytest.approx(1)
    assert ssim(a, a.flip(1)) < 0.5
