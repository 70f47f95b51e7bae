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


def label_aucs(logits: Tensor, true: Tensor) -> list[float]:
    """AUC of each of k labels, over the LoRAs that have it; NaN where one class is missing."""
    columns = zip(logits.T, true.T, strict=True)
    return [area_under_roc(x[y.isfinite()], y[y.isfinite()]) for x, y in columns]


def binary_metrics(logits: Tensor, true: Tensor) -> dict[str, float]:
    """Of (n, k) logits and labels, NaN where not known: accuracy, majority class, AUC.

    Majority and AUC are means over the labels.
    """
    known = true.isfinite()
    share = true.float().nanmean(0)
    aucs = [a for a in label_aucs(logits, true) if not math.isnan(a)]
    return {
        "accuracy": float(((logits > 0).float() == true)[known].float().mean()),
        "majority": float(torch.maximum(share, 1 - share).nanmean()),
        "auc": float(np.mean(aucs)) if aucs else float("nan"),
    }


def nominal_metrics(logits: Tensor, true: Tensor) -> dict[str, float]:
    """Of (n, k) logits and one-hot labels: accuracy, that of the commonest class, AUC, log loss.

    The AUC is the mean over the classes of telling one from all others.
    """
    log_p, place = logits.double().log_softmax(1), true.argmax(1)
    aucs = [a for a in label_aucs(log_p.exp(), true) if not math.isnan(a)]
    return {
        "accuracy": float((log_p.argmax(1) == place).double().mean()),
        "majority": float(true.double().mean(0).max()),
        "auc": float(np.mean(aucs)) if aucs else float("nan"),
        "log_loss": float(-log_p.gather(1, place[:, None]).mean()),
    }


def confidence(logits: Tensor, true: Tensor) -> tuple[Tensor, Tensor]:
    """(n, 1) the probability of the class that is named, and whether it is the true one."""
    highest, named = logits.softmax(1).max(1, keepdim=True)
    return highest, (named[:, 0] == true.argmax(1)).float()[:, None]


def reliability(probabilities: Tensor, true: Tensor, bins: int = 10) -> list[list[float]]:
    """(mean probability, share of true labels, count) of the bins that are not empty.

    Labels that are not known (NaN) are left out.
    """
    known = true.isfinite()
    p, t = probabilities[known].double(), true[known].double()
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
    error = sum(count * abs(p - t) for p, t, count in rows)
    return error / max(1, sum(count for *_, count in rows))


def conformal_quantile(residuals: Tensor, coverage: float) -> float:
    """Split conformal prediction: the ⌈(n + 1) c⌉-th smallest of n held-out |residuals|.

    Intervals of that half-width hold at least a share c of new labels, if these are
    exchangeable with the held-out ones. Infinite where n < ``fewest_residuals(c)``, which is
    too small to promise it.
    """
    n = len(residuals)
    place = math.ceil((n + 1) * coverage)
    if place > n:
        return float("inf")
    return float(residuals.abs().sort().values[place - 1])


def fewest_residuals(coverage: float) -> int:
    """The least n of which a ⌈(n + 1) c⌉-th smallest exists: 9 for a coverage of 0.9."""
    return next(n for n in range(1, 1000) if math.ceil((n + 1) * coverage) <= n)
