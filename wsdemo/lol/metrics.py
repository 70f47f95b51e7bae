"""How good predictions are: rank correlation, R², accuracy, AUC, calibration."""

import math

import numpy as np
import torch
from scipy import stats
from torch import Tensor

from wsdemo.analysis.generation import area_under_roc


def regression_metrics(predicted: Tensor, true: Tensor, spread: float) -> dict[str, float]:
    """Of (n,) predictions: MSE in units of the training labels' variance, τ, ρ, R²."""
    p, t = predicted.double(), true.double()
    error = float((p - t).square().mean())
    variance = float((t - t.mean()).square().mean())
    is_constant = bool((p == p[0]).all() or (t == t[0]).all())
    return {
        "mse": error / spread**2,
        # Correlation with a constant is undefined, and as a score it is 0.
        "kendall_tau": 0.0 if is_constant else float(stats.kendalltau(p, t).statistic),
        "spearman_rho": 0.0 if is_constant else float(stats.spearmanr(p, t).statistic),
        "r2": 1 - error / variance if variance > 0 else float("nan"),
    }


def binary_metrics(logits: Tensor, true: Tensor) -> dict[str, float]:
    """Of (n, k) logits and labels, means over the k: accuracy, majority class, AUC."""
    accuracy = ((logits > 0).float() == true).float().mean()
    share = true.float().mean(0)
    aucs = [area_under_roc(logits[:, i], true[:, i]) for i in range(true.shape[1])]
    known = [a for a in aucs if not math.isnan(a)]
    return {
        "accuracy": float(accuracy),
        "majority": float(torch.maximum(share, 1 - share).mean()),
        "auc": float(np.mean(known)) if known else float("nan"),
    }


def reliability(probabilities: Tensor, true: Tensor, bins: int = 10) -> list[list[float]]:
    """(mean probability, share of true labels, count) of the bins that are not empty."""
    p, t = probabilities.flatten().double(), true.flatten().double()
    place = (p * bins).long().clamp(0, bins - 1)
    rows = [place == b for b in range(bins)]
    return [
        [float(p[inside].mean()), float(t[inside].mean()), int(inside.sum())]
        for inside in rows
        if bool(inside.any())
    ]


def expected_calibration_error(probabilities: Tensor, true: Tensor, bins: int = 10) -> float:
    """ECE: Σ_b (n_b / n) |mean probability − share of positives| over equal-width bins."""
    rows = reliability(probabilities, true, bins)
    return sum(count * abs(p - t) for p, t, count in rows) / max(1, probabilities.numel())


def conformal_quantile(residuals: Tensor, coverage: float) -> float:
    """Split conformal prediction: the ⌈(n + 1) c⌉-th smallest of n held-out |residuals|.

    Intervals of that half-width hold at least a share c of new labels, if these are
    exchangeable with the held-out ones. Infinite where n is too small to promise it.
    """
    n = len(residuals)
    place = math.ceil((n + 1) * coverage)
    if place > n:
        return float("inf")
    return float(residuals.abs().sort().values[place - 1])
