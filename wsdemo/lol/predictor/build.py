"""From a collection to a predictor: train the models, compare, choose, calibrate.

The choice is made by the validation LoRAs, among models whose answer cannot depend on how the
same update was factored (GL-net, MLP+SVD, MLP+Dense) and that are small enough to ship. Intervals
and probabilities are calibrated on the calibration LoRAs, or on the validation LoRAs where there
are none. The test LoRAs serve the report alone.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from wsdemo.errors import WsdemoError
from wsdemo.lol.data.collection import Collection, short_name
from wsdemo.lol.data.pairs import Pairs, regauge_pairs
from wsdemo.lol.data.tasks import Task
from wsdemo.lol.models.fitting import Budget, Fitted, train_model
from wsdemo.lol.models.networks import MODELS, LolModel
from wsdemo.lol.models.parts import ModelConfig
from wsdemo.lol.models.probes import PROBED, texts_of
from wsdemo.lol.predictor.calibration import calibrate, task_metrics
from wsdemo.lol.predictor.envelope import Envelope
from wsdemo.lol.predictor.predictor import Predictor, TaskModels, always_adapted
from wsdemo.lol.predictor.provenance import (
    answered_badly,
    calibration_sentence,
    not_answered,
    provenance,
)

INVARIANT = (
    "gl-net", "gl-net-norms", "gl-net-shared", "w2t", "mlp-svd", "mlp-dense", "spectral", PROBED
)  # fmt: skip
"""Models whose prediction is the same for every factorisation of an update."""
USEFUL_AUC, USEFUL_RHO = 0.65, 0.3
"""A task whose ensemble does worse on the validation LoRAs is not answered."""
COMMON_SHARE = 0.95
"""Models of raw factors are built for the smallest rank that covers this share of LoRAs."""
SHIPPED_PARAMETERS = 1_000_000
"""The most parameters of a model that goes into a predictor of this repository."""
OWN_PARAMETERS = 50_000_000
"""The same of a predictor that a user trains. GL-net has 2.6 million on q and v of Stable Diffusion
1.4, 7.9 million on those of Llama 8B, 35 million on FLUX's 304 modules; 50 million are 100 MB a
model in half precision, less than one LoRA of such a base often takes."""


@dataclass(frozen=True)
class Row:
    """One model on one task, over several seeds.

    Attributes:
        model: Of MODELS.
        validation: Mean validation loss.
        test: Metric → values, one a seed.
        gauge: Mean change of a test prediction under a random re-factoring, in standard
            deviations of the predictions.
        parameters: Of the model.
        seconds: Mean training time.
        fitted: The trained models.
    """

    model: str
    validation: float
    test: dict[str, list[float]]
    gauge: float
    parameters: int
    seconds: float
    fitted: list[Fitted]
    config: ModelConfig

    def to_dict(self) -> dict[str, Any]:
        """The figures alone, without models and configuration."""
        skipped = {"fitted", "config"}
        return {
            f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name not in skipped
        }


MANY = 4000
"""Training LoRAs beyond which GL-net's head is wide, and its products are standardised."""


def model_config(name: str, outputs: int, rank: int, loras: int) -> ModelConfig:
    """The sizes that a model has here; small collections want small models."""
    if name.startswith("gl-net") and loras > MANY:
        return ModelConfig(name, outputs, hidden=256, dropout=0.5, standardise=True, rank=rank)
    # Dense reads 10⁵ to 10⁶ numbers a LoRA: its first layer is by far the largest of all.
    return ModelConfig(name, outputs, rank=rank, hidden=16 if name == "mlp-dense" else 64)


def common_rank(ranks: Mapping[int, int]) -> int:
    """The smallest rank that covers COMMON_SHARE of the LoRAs, of rank → how many."""
    most, total = 0, sum(ranks.values())
    for rank in sorted(ranks):
        most += ranks[rank]
        if most >= COMMON_SHARE * total:
            return rank
    raise ValueError("no LoRAs")


def training_budget(name: str, loras: int) -> Budget:
    """Chosen on validation LoRAs; equal for all but models whose first or second layer is large."""
    if name.startswith("gl-net") and loras > MANY:
        epochs = 20 if loras > 10_000 else 30
        return Budget(epochs, 64, learning_rate=1e-3, weight_decay=0.1, patience=8)
    # Dense layers of 10⁵ and more inputs need a smaller rate.
    rate = 5e-4 if name in ("mlp-dense", "linear") else 2e-3
    if name == "mlp-dense":  # tens of millions of weights: it overfits early, and is slow
        return Budget(epochs=15, batch=16 if loras <= 2000 else 64, learning_rate=rate, patience=5)
    if loras > 10_000:
        return Budget(epochs=12, batch=64, learning_rate=rate, patience=5)
    if loras > MANY:
        return Budget(epochs=25, batch=64, learning_rate=rate, patience=8)
    if loras > 1000:
        return Budget(epochs=40, batch=32, learning_rate=rate, patience=12)
    return Budget(learning_rate=rate)


def test_metrics(task: Task, fitted: Fitted, collection: Collection) -> dict[str, float]:
    """Figures of one model on the test LoRAs."""
    test = collection.splits["test"].known(task)
    return task_metrics(task, fitted.predict(test.pairs), test.targets(task), fitted.std)


def gauge_change(task: Task, fitted: Fitted, collection: Collection) -> float:
    """Mean |change| of test predictions when every LoRA is re-factored, over their spread."""
    pairs = next(collection.splits["test"].known(task).pairs.chunks(64))
    turned = regauge_pairs(pairs, torch.Generator().manual_seed(0))
    before, after = fitted.predict(pairs), fitted.predict(turned)
    spread = before.std(0).clamp(min=1e-9)
    return float(((after - before).abs().mean(0) / spread).mean())


def compare_models(
    collection: Collection,
    task: Task,
    models: Sequence[str] = MODELS,
    seeds: int = 3,
    report: Callable[[str], None] = lambda _: None,
) -> list[Row]:
    """Trains every model with every seed on one task."""
    rows = []
    train = collection.splits["train"].known(task)
    common = min(common_rank(collection.ranks), train.pairs.rank)
    for name in models:
        config = model_config(name, len(task.labels), common, len(train.names))
        if name == PROBED and collection.probes is not None:
            config = dataclasses.replace(config, texts=texts_of(task.labels, collection.probes))
        fitted = [
            train_model(
                collection.signature, config, task, train, collection.splits["validation"], seed,
                training_budget(name, len(train.names)), collection.probes,
            )
            for seed in range(seeds)
        ]  # fmt: skip
        figures = [test_metrics(task, f, collection) for f in fitted]
        row = Row(
            name,
            sum(f.validation_loss for f in fitted) / seeds,
            {k: [round(f[k], 5) for f in figures] for k in figures[0]},
            gauge_change(task, fitted[0], collection),
            sum(p.numel() for p in fitted[0].model.parameters()),
            sum(f.seconds for f in fitted) / seeds,
            fitted,
            config,
        )
        rows.append(row)
        key = "spearman_rho" if task.kind == "regression" else "auc"
        mean = sum(row.test[key]) / seeds
        report(f"{task.name}: {name} validation {row.validation:.4f}, test {key} {mean:.3f},"
               f" {row.seconds:.0f} s")  # fmt: skip
    return rows


def best_row(rows: Sequence[Row], most_parameters: int = SHIPPED_PARAMETERS) -> Row:
    """The row whose models a predictor takes: invariant, small enough, best by validation.

    Where none is both, it is an invariant one, and else the best: ``caveat`` says so.
    """
    return min(
        rows,
        key=lambda r: (r.model not in INVARIANT, r.parameters > most_parameters, r.validation),
    )


def caveat(task: Task, row: Row, most_parameters: int = SHIPPED_PARAMETERS) -> str:
    """What is wrong with the model that was chosen for a task; empty if nothing is."""
    if row.model not in INVARIANT:
        return (
            f"{task.name} is answered by {row.model}, as no invariant model was trained: its answer"
            " depends on how an update was factored"
        )
    if row.parameters > most_parameters:
        return f"{task.name} is answered by {row.model} of {row.parameters:,} parameters"
    return ""


def calibrated(collection: Collection, task: Task, row: Row, baseline: Row | None) -> TaskModels:
    """The ensemble of a row, calibrated, and measured on the test LoRAs."""
    first = row.fitted[0]
    models: list[LolModel] = [f.model for f in row.fitted]
    half = torch.zeros(len(task.labels))
    ensemble = TaskModels(task, row.config, models, first.mean, first.std, half, 1.0)
    if baseline is not None:
        ensemble.baseline, ensemble.baseline_config = baseline.fitted[0].model, baseline.config
    calibrate(ensemble, collection, row.model)
    return ensemble


def build_predictor(
    collection: Collection,
    rows: Mapping[str, Sequence[Row]],
    name: str,
    title: str,
    kind: str,
    ranks: Sequence[int] = (),
    keep_baseline: bool = True,
    *,
    ranks_by_task: Mapping[str, Sequence[int]] | None = None,
    most_parameters: int = SHIPPED_PARAMETERS,
    keep_all: bool = False,
    only_useful: bool = False,
) -> Predictor:
    """Chooses and calibrates a model per task.

    Args:
        collection: What the rows were trained on.
        rows: Task → its comparison.
        name: Of the predictor.
        title: Of the family.
        kind: ``additive`` or ``multiplicative``.
        ranks: Measured beyond those of the training LoRAs, of all tasks.
        keep_baseline: Keep the MLP of raw factors, of the first task, for comparison.
        ranks_by_task: The same as ``ranks``, of some tasks alone.
        most_parameters: Of a model that is chosen.
        keep_all: Answer every task, however badly; for toys, whose few LoRAs teach nothing.
        only_useful: Do not answer the only task either if it is hardly better than chance.

    Raises:
        WsdemoError: No task is worth answering.
    """
    trained = {*collection.ranks, *ranks}
    tasks, silent, notes = {}, [], []
    for i, task in enumerate(collection.tasks):
        compared = list(rows[task.name])
        row = best_row(compared, most_parameters)
        is_kept = keep_baseline and i == 0 and row.model != "mlp"
        raw = next((r for r in compared if r.model == "mlp"), None) if is_kept else None
        models = calibrated(collection, task, row, raw)
        if ranks_by_task is not None:
            models.ranks = tuple(sorted({*trained, *ranks_by_task.get(task.name, ())}))
        is_good = is_useful(models, collection)
        if not (is_good or keep_all):
            silent.append(task.name)
        if is_good or keep_all or (len(collection.tasks) == 1 and not only_useful):
            tasks[task.name] = models
            notes.append(caveat(task, row, most_parameters))
    if not tasks:
        raise WsdemoError(
            "Nothing was learnt",
            f"On the validation LoRAs no task is better than chance: {', '.join(silent)}. An answer"
            f" needs an AUC of {USEFUL_AUC}, or a rank correlation of {USEFUL_RHO}.",
            "Check the labels, add LoRAs, or predict something else.",
        )
    bad = [t for t in silent if t in tasks]
    missing = [t for t in silent if t not in tasks]
    train = collection.splits["train"]
    held_out = [part.pairs for s, part in collection.splits.items() if s not in ("train", "test")]
    counts = provenance(collection)["counts"]
    return Predictor(
        name, title, collection.base, kind, collection.signature, tuple(sorted(trained)), tasks,
        Envelope.fit(train.pairs, Pairs.join(held_out), [short_name(n) for n in train.names]),
        card_text(collection, counts, missing, bad, notes),
        always_adapted(train.pairs, collection.signature),
        collection.probes if any(m.config.model == PROBED for m in tasks.values()) else None,
    )  # fmt: skip


def card_text(
    collection: Collection, counts: Mapping[str, int], missing: Sequence[str],
    bad: Sequence[str] = (), notes: Sequence[str] = (),
) -> str:  # fmt: skip
    """What a predictor's card says of its LoRAs, and of tasks ``missing`` or answered badly."""
    listed = ", ".join(f"{count} {split}" for split, count in counts.items())
    card = [
        f"LoRAs: {listed}. Base: {collection.base or 'not named'}.",
        not_answered(missing),
        answered_badly(bad),
        f"Intervals and probabilities are {calibration_sentence(collection)}.",
        *(f"{text}." for text in (*notes, *collection.notes) if text),
    ]
    return " ".join(text for text in card if text)


def recalibrated(
    predictor: Predictor,
    collection: Collection,
    counts: Mapping[str, int],
    ranks_by_task: Mapping[str, Sequence[int]] | None = None,
) -> Predictor:
    """The models of a predictor, calibrated and measured again on a collection, not trained.

    Args:
        predictor: Its models are changed; what it knows of its training LoRAs stays, but it
            accepts LoRAs as far from those as the ones that calibrate it.
        collection: Other LoRAs for calibration and for test; the rest of it is not read.
        counts: Split → LoRAs that trained, chose, calibrate and measure it, for the card.
        ranks_by_task: As of ``build_predictor``.
    """
    for name, models in predictor.tasks.items():
        calibrate(models, collection, str(models.measured["model"]))
        if ranks_by_task is not None:
            models.ranks = tuple(sorted({*predictor.ranks, *ranks_by_task.get(name, ())}))
    missing = [t.name for t in collection.tasks if t.name not in predictor.tasks]
    return dataclasses.replace(
        predictor,
        card=card_text(collection, counts, missing),
        envelope=predictor.envelope.widened(collection.calibration.pairs),
    )


def is_useful(models: TaskModels, collection: Collection) -> bool:
    """Whether a task is worth answering, by the validation LoRAs: AUC or rank correlation."""
    validation = collection.splits["validation"].known(models.task)
    out, true = models.outputs(validation.pairs), validation.targets(models.task)
    figures = task_metrics(models.task, out, true, models.std)
    if models.task.kind != "regression":
        return figures["auc"] >= USEFUL_AUC
    return figures["spearman_rho"] >= USEFUL_RHO
