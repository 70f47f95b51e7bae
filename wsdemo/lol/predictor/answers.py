"""What predictors say of one LoRA: the answer, its evidence, doses, and a block for a card."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from wsdemo.lol.data.pairs import Pairs, pack
from wsdemo.lol.predictor.predictor import NEIGHBOURS, Prediction, Predictor
from wsdemo.lora.modules import Lora

WEAKER = 0.9
"""Strength of the one module that evidence weakens.

So weakened, the shipped examples stay inside the envelopes of their predictors, whose answers
mean something there. At half strength the mLoRA faces do not, and without a module none does.
"""


@dataclass(frozen=True)
class Answer:
    """What the predictors say of one LoRA.

    Attributes:
        family: Title of the family, or "unknown".
        predictor: Name of the predictor; empty if none knows the family.
        abstained: Whether nothing is predicted.
        reason: Why, in a sentence.
        predictions: One a label.
        baseline: The MLP's, for comparison.
        neighbours: Names of the nearest training LoRAs, by their spectra.
        distance: To them, as a share of what is accepted.
        not_answered: Task → why it alone is not answered.
    """

    family: str
    predictor: str
    abstained: bool
    reason: str
    predictions: tuple[Prediction, ...] = ()
    baseline: tuple[Prediction, ...] = ()
    neighbours: tuple[str, ...] = ()
    distance: float = float("nan")
    not_answered: Mapping[str, str] = field(default_factory=dict)

    def to_dict(self, seconds: float) -> dict[str, Any]:
        """For JSON, as the command line documents it."""
        return {
            "family": self.family,
            "predictor": self.predictor,
            "abstained": self.abstained,
            "reason": self.reason,
            "predictions": [p.to_dict() for p in self.predictions],
            "not_answered": dict(self.not_answered),
            "seconds": round(seconds, 4),
        }


def answer(lora: Lora, predictors: Sequence[Predictor]) -> Answer:
    """Asks the first predictor that knows a LoRA's family and answers; else says why none does."""
    return ask(lora, predictors)[0]


def ask(lora: Lora, predictors: Sequence[Predictor]) -> tuple[Answer, Predictor | None]:
    """The answer, and the predictor that gave it, with those tasks alone that it answered."""
    matching = [p for p in predictors if p.matches(lora)]
    if not matching:
        known = "; ".join(p.title for p in predictors)
        first = lora.modules[0].name
        return Answer(
            "unknown", "", True,
            f"No predictor was trained on LoRAs of these modules ({len(lora.modules)}, such as"
            f" {first[:60]}). Known families: {known or 'none'}.",
        ), None  # fmt: skip
    refusals = []
    for found in matching:
        pairs = pack(lora, found.signature)
        reason = found.reason_to_abstain(lora, pairs)
        if not reason:
            silent = found.unmeasured(lora)
            asked = found.without(silent)
            return _answered(asked, pairs, silent), asked
        refusals.append(Answer(found.title, found.name, True, reason))
    return refusals[0], None


def _answered(found: Predictor, pairs: Pairs, not_answered: Mapping[str, str]) -> Answer:
    order = found.envelope.distances(pairs)[0].argsort()[:3].tolist()
    return Answer(
        found.title, found.name, False, "", tuple(found.predict(pairs)),
        tuple(found.predict(pairs, is_baseline=True)),
        tuple(found.envelope.names[i] for i in order),
        found.envelope.distance(pairs) / found.envelope.threshold,
        not_answered,
    )  # fmt: skip


def weakened(pairs: Pairs) -> Pairs:
    """L LoRAs of one: each with another of its L modules at WEAKER of its strength.

    In the order of ``Signature.names``. The scale of U Vᵀ is no matter of its factors.
    """
    variants = []
    for g, (U, _) in enumerate(pairs.groups):
        for i in range(U.shape[1]):
            groups = [(U.clone(), V) for U, V in pairs.groups]
            groups[g][0][:, i] *= WEAKER
            variants.append(Pairs(tuple(groups)))
    return Pairs.join(variants)


def outside(predictor: Predictor, variants: Pairs) -> int:
    """How many of some LoRAs the predictor would not answer, by its envelope."""
    distances = predictor.envelope.distances(variants)
    nearest = distances.kthvalue(min(NEIGHBOURS, distances.shape[1]), 1).values
    return int((nearest > predictor.envelope.threshold).sum())


def module_evidence(predictor: Predictor, pairs: Pairs) -> dict[str, list[float]]:
    """Label → change of its prediction when one module is at WEAKER of its strength.

    In standard deviations of the training labels, as the task learns them (probabilities for
    yes-or-no labels), in the order of ``predictor.signature.names``. Positive: the module raises
    the prediction.
    """
    everything = Pairs.join([pairs, weakened(pairs)])
    found = {}
    for models in predictor.tasks.values():
        out = models.outputs(everything)
        out = out.sigmoid() if models.task.kind == "binary" else out / models.std
        for i, name in enumerate(models.task.labels):
            found[name] = [float(v) for v in out[0, i] - out[1:, i]]
    return found


def dose_curve(
    predictor: Predictor, pairs: Pairs, scales: Sequence[float]
) -> dict[str, list[float]]:
    """Label → its prediction (or probability) at several strengths of the same LoRA."""
    everything = Pairs.join([pairs.scaled(s) for s in scales])
    return _curve(predictor, everything)


def rank_curve(predictor: Predictor, pairs: Pairs) -> dict[str, list[float]]:
    """Label → its prediction with every update cut to rank 1, 2, … r (best approximation)."""
    parts = []
    for rank in range(1, pairs.rank + 1):
        groups = []
        for U, V in pairs.groups:
            Qu, Ru = torch.linalg.qr(U.double())
            Qv, Rv = torch.linalg.qr(V.double())
            left, s, right = torch.linalg.svd(Ru @ Rv.mT, full_matrices=False)
            s = s * (torch.arange(s.shape[-1]) < rank)
            groups.append(((Qu @ left * s[..., None, :]).to(U), (Qv @ right.mT).to(V)))
        parts.append(Pairs(tuple(groups)))
    return _curve(predictor, Pairs.join(parts))


def _curve(predictor: Predictor, pairs: Pairs) -> dict[str, list[float]]:
    found = {}
    for models in predictor.tasks.values():
        out = models.outputs(pairs)
        for i, name in enumerate(models.task.labels):
            column = out[:, i]
            if models.task.kind == "binary":
                column = column.sigmoid()
            elif models.task.logarithm:
                column = column.exp2()
            found[name] = [float(v) for v in column]
    return found


def model_index(name: str, predictions: Sequence[Prediction]) -> str:
    """A ``model-index`` block for a model card, every value marked as predicted."""
    lines = ["model-index:", f"- name: {json.dumps(name)}", "  results:"]
    for p in predictions:
        value = p.probability if p.probability is not None else p.value
        lines += [
            "  - task: {type: other, name: predicted from the weights}",
            "    dataset: {type: none, name: not run; predicted by wsdemo}",
            f"    metrics: [{{type: predicted, name: {json.dumps('predicted ' + p.name)},"
            f" value: {value:.4f}, verified: false}}]",
        ]
    return "\n".join(lines) + "\n"
