"""What is learnt of the LoRAs that ``smollm2_loras`` made, and how it holds for unseen sources."""

import dataclasses
from pathlib import Path
from typing import Any

import torch

from wsdemo.lol.data.collection import Collection, load_collection, read_labels
from wsdemo.lol.data.probes import load_probes
from wsdemo.lol.data.tasks import Task
from wsdemo.lol.predictor.calibration import regression_rows
from wsdemo.lol.predictor.envelope import spectrum_features
from wsdemo.lol.predictor.predictor import Predictor
from wsdemo.lol.predictor.unseen import load_unseen
from wsdemo.train.loras.smollm2_probes import PROBES
from wsdemo.train.loras.smollm2_texts import GENERAL, UNSEEN

FOLDER = "smollm2-loras"
RANK = 8
"""Directions kept of every module: 210 modules of 1,000 LoRAs are 5 GB then."""
RANKS = range(2, 65)
"""Ranks that are answered: training LoRAs have some of them, and no more than the RANK strongest
directions are read of any."""
TITLE = (
    "LoRAs of SmolLM2-135M-Instruct on any of its linear layers, of any rank, as people make them"
)
LESS = "nats a token, less the base's"


def family_tasks(columns: list[str]) -> tuple[Task, ...]:
    """What is predicted, from the columns of the manifest: nothing of the unseen sources.

    Not the size of the data set, nor the loss on general text: so few LoRAs do not teach these
    (ρ .05 on 13 test LoRAs, R² below 0 on 20).
    """
    general = f"loss {GENERAL}"
    unseen = {f"{what} {name}" for name in UNSEEN for what in ("has", "loss")}
    known = [c for c in columns if c not in unseen]
    losses = tuple(c for c in known if c.startswith("loss ") and c != general)
    has = tuple(c for c in known if c.startswith("has "))
    return (
        Task("sources", has, "binary"),
        Task("loss by source", losses, "regression", unit=LESS),
        Task("steps x rate", ("steps_x_rate",), "regression", logarithm=True),
    )


def smollm2(runs: Path) -> Collection:
    """The LoRAs of SmolLM2 and their labels, without those of the unseen sources."""
    folder = runs / FOLDER
    _, columns = read_labels(folder / "manifest.csv")
    collection = load_collection(folder, folder / "manifest.csv", family_tasks(columns), RANK)
    return dataclasses.replace(collection, probes=load_probes(runs / PROBES, collection.signature))


def unseen_figures(predictor: Predictor, runs: Path) -> dict[str, Any]:
    """How good a predictor is on LoRAs of sources that no training LoRA saw, by task and label.

    Returns:
        ``loras``; ``within``: the share that lies inside the predictor's envelope; task → label
        → Spearman's ρ, R², and the share of intervals that hold the value.
    """
    folder = runs / FOLDER
    loras, _ = load_unseen(folder, folder / "unseen.csv", predictor, (), RANK)
    nearest = predictor.envelope.nearest(spectrum_features(loras.pairs))
    within = (nearest <= predictor.envelope.threshold).float().mean()
    figures: dict[str, Any] = {"loras": len(loras.names), "within": float(within)}
    for name, models in predictor.tasks.items():
        if models.task.kind != "regression":
            continue
        out, true = models.outputs(loras.pairs), loras.targets(models.task)
        held = ((out - true).abs() <= models.half_width).double().mean(0)
        rows = regression_rows(out, true, torch.ones_like(models.std))
        figures[name] = {
            label: {"spearman_rho": row["spearman_rho"], "r2": row["r2"], "coverage": float(c)}
            for label, row, c in zip(models.task.labels, rows, held, strict=True)
        }
    return figures
