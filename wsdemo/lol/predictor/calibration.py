"""How sure an ensemble is, by held-out LoRAs, and how good its answers are, by test LoRAs."""

import math
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from wsdemo.lol.data.collection import Collection
from wsdemo.lol.data.tasks import Task
from wsdemo.lol.predictor.metrics import (
    binary_metrics,
    confidence,
    conformal_quantile,
    expected_calibration_error,
    fewest_residuals,
    label_aucs,
    nominal_metrics,
    regression_metrics,
    reliability,
)
from wsdemo.lol.predictor.predictor import COVERAGE, TaskModels


def regression_rows(out: Tensor, true: Tensor, std: Tensor) -> list[dict[str, float]]:
    """Figures of each of k labels."""
    return [regression_metrics(out[:, i], true[:, i], float(std[i])) for i in range(true.shape[1])]


def task_metrics(task: Task, out: Tensor, true: Tensor, std: Tensor) -> dict[str, float]:
    """Figures of (N, k) outputs; of a binary task's headline labels by themselves too."""
    if task.kind == "binary":
        figures = binary_metrics(out, true)
        if task.headline:
            columns = [task.labels.index(name) for name in task.headline]
            few = binary_metrics(out[:, columns], true[:, columns])
            figures |= {f"headline_{k}": v for k, v in few.items()}
        return figures
    if task.kind == "nominal":
        return nominal_metrics(out, true)
    rows = regression_rows(out, true, std)
    return {k: sum(r[k] for r in rows) / len(rows) for k in rows[0]}


def platt_scaling(logits: Tensor, true: Tensor) -> tuple[float, float]:
    """T > 0 and b for which logits / T + b say held-out yes-or-no labels best (Platt 1999).

    They minimise the cross-entropy to Platt's smoothed targets, (n₊ + 1) / (n₊ + 2) for yes and
    1 / (n₋ + 2) for no, so that they stay finite where the logits separate the labels.

    Args:
        logits: (n, k) of LoRAs that the models were not trained on.
        true: (n, k) labels, NaN where not known.
    """
    known = true.isfinite()
    x, y = logits[known].double(), true[known].double()
    yes, no = float(y.sum()), float((1 - y).sum())
    target = torch.where(y > 0.5, (yes + 1) / (yes + 2), 1 / (no + 2))
    slope_and_shift = torch.zeros(2, dtype=torch.float64, requires_grad=True)  # of log(1 / T) and b
    optimizer = torch.optim.LBFGS(
        [slope_and_shift], max_iter=100, tolerance_grad=1e-9, line_search_fn="strong_wolfe"
    )

    def loss() -> Tensor:
        optimizer.zero_grad()
        scaled = x * slope_and_shift[0].exp() + slope_and_shift[1]
        value = F.binary_cross_entropy_with_logits(scaled, target)
        value.backward()
        return value

    optimizer.step(loss)
    log_slope, shift = slope_and_shift.detach().tolist()
    return min(max(math.exp(-log_slope), 0.1), 10.0), shift


def temperature_scaling(logits: Tensor, true: Tensor) -> float:
    """T > 0 for which softmax(logits / T) says held-out classes best (Guo et al. 2017).

    Args:
        logits: (n, k) of LoRAs that the models were not trained on.
        true: (n, k) one-hot.
    """
    x, place = logits.double(), true.argmax(1)
    log_slope = torch.zeros((), dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS(
        [log_slope], max_iter=100, tolerance_grad=1e-9, line_search_fn="strong_wolfe"
    )

    def loss() -> Tensor:
        optimizer.zero_grad()
        value = F.cross_entropy(x * log_slope.exp(), place)
        value.backward()
        return value

    optimizer.step(loss)
    return min(max(math.exp(-float(log_slope.detach())), 0.1), 10.0)


SHIFTED = 1 / 3
"""Share of the calibration LoRAs whose mean error shifts the values of a regression."""


def shifting(count: int) -> Tensor:
    """(count,) bool: which of the calibration LoRAs serve the shift alone, drawn by lot.

    None do where too few would be left to promise an interval.
    """
    chosen = torch.zeros(count, dtype=torch.bool)
    few = int(count * SHIFTED)
    if count - few >= fewest_residuals(COVERAGE):
        chosen[torch.randperm(count, generator=torch.Generator().manual_seed(0))[:few]] = True
    return chosen


def calibrate(ensemble: TaskModels, collection: Collection, model: str) -> None:
    """Fits probabilities, or values and intervals, of an ensemble, and measures it on test LoRAs.

    Values are shifted by the mean error, as logits are by Platt's b, but on SHIFTED of the
    calibration LoRAs that the intervals do not come from: an error from which it was taken away
    is no longer exchangeable with that of a new LoRA, which split conformal prediction asks for.
    """
    task = ensemble.task
    ensemble.temperature, ensemble.shift = 1.0, 0.0
    held, test = collection.calibration.known(task), collection.splits["test"].known(task)
    out, true = ensemble.outputs(held.pairs), held.targets(task)
    measured: dict[str, Any] = {
        "model": model, "calibration_loras": len(held.names), "test_loras": len(test.names)
    }  # fmt: skip
    if task.kind == "binary":
        ensemble.temperature, ensemble.shift = platt_scaling(out, true)
    elif task.kind == "nominal":
        ensemble.temperature = temperature_scaling(out, true)
    else:
        chosen = shifting(len(held.names))
        measured["shift_loras"] = int(chosen.sum())
        shift = (true - out)[chosen].mean(0) if chosen.any() else torch.zeros(true.shape[1])
        ensemble.shift = shift if chosen.any() else 0.0
        errors = (out + shift - true)[~chosen]
        ensemble.half_width = torch.tensor([conformal_quantile(e, COVERAGE) for e in errors.T])
    out, true = ensemble.outputs(test.pairs), test.targets(task)
    measured |= task_metrics(task, out, true, ensemble.std)
    if task.kind == "binary":
        aucs = zip(task.labels, label_aucs(out, true), strict=True)
        measured["auc_by_label"] = {name: round(auc, 4) for name, auc in aucs}
        measured["ece"] = expected_calibration_error(out.sigmoid(), true)
        measured["reliability"] = [
            [round(v, 4) for v in row] for row in reliability(out.sigmoid(), true)
        ]
    elif task.kind == "nominal":
        sure, right = confidence(out, true)
        measured["ece"] = expected_calibration_error(sure, right)
        measured["reliability"] = [[round(v, 4) for v in row] for row in reliability(sure, right)]
    else:
        by_label = zip(task.labels, regression_rows(out, true, ensemble.std), strict=True)
        measured["spearman_rho_by_label"] = {k: round(v["spearman_rho"], 4) for k, v in by_label}
        inside = ((out - true).abs() <= ensemble.half_width).float().mean()
        measured["coverage_of_90_percent_intervals"] = float(inside)
    ensemble.measured = measured
