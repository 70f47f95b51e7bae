"""What predictors say of one LoRA: the answer, its evidence, doses, and a block for a card."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
import yaml

from wsdemo.lol.data.pairs import Pairs, pack
from wsdemo.lol.predictor.envelope import log_norm, measured_features
from wsdemo.lol.predictor.predictor import Prediction, Predictor
from wsdemo.lora.modules import Lora
from wsdemo.lora.reading import Reading

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


@dataclass(frozen=True)
class Grounds:
    """What an answer was made of.

    Attributes:
        reading: The LoRA.
        predictor: That answered, with those tasks alone that it answered.
        pairs: The LoRA as the predictor reads it.
    """

    reading: Reading
    predictor: Predictor
    pairs: Pairs


def answer(lora: Lora, predictors: Sequence[Predictor]) -> Answer:
    """Asks the first predictor that knows a LoRA's family and answers; else says why none does."""
    return ask(Reading.of(lora), predictors)[0]


def ask(reading: Reading, predictors: Sequence[Predictor]) -> tuple[Answer, Grounds | None]:
    """Asks the first predictor that knows a LoRA's family and answers, of a LoRA that was read.

    Returns:
        The answer, or why there is none; what it was made of, if there is one.
    """
    lora = reading.lora
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
    for predictor in matching:
        reason = predictor.reason_to_abstain(reading)
        if not reason:
            return _answered(reading, predictor)
        refusals.append(Answer(predictor.title, predictor.name, True, reason))
    return refusals[0], None


def _answered(reading: Reading, predictor: Predictor) -> tuple[Answer, Grounds]:
    not_answered = predictor.unmeasured(reading.lora)
    predictor = predictor.without(not_answered)
    pairs = predictor.read(pack(reading.whole(), predictor.signature))
    envelope, features = predictor.envelope, measured_features(reading, predictor.signature)
    order = envelope.distances(features)[0].argsort()[:3].tolist()
    answer = Answer(
        predictor.title, predictor.name, False, "", tuple(predictor.predict(pairs)),
        tuple(predictor.predict(pairs, is_baseline=True)),
        tuple(envelope.names[i] for i in order),
        float(envelope.nearest(features)) / envelope.threshold,
        not_answered,
    )  # fmt: skip
    return answer, Grounds(reading, predictor, pairs)


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


def weakened_outside(grounds: Grounds) -> int:
    """How many of the LoRAs of ``weakened`` the predictor would not answer, by its envelope.

    A weaker module has another norm and the same effective rank, so nothing is factored.
    """
    predictor = grounds.predictor
    features = measured_features(grounds.reading, predictor.signature)
    count = len(predictor.signature)
    variants = features.repeat(count, 1)
    norms = features[0, :count].double().exp() - 1e-8
    variants[:, :count].diagonal().copy_(log_norm(WEAKER * norms.clamp(min=0)))
    return int((predictor.envelope.nearest(variants) > predictor.envelope.threshold).sum())


def module_evidence(predictor: Predictor, pairs: Pairs, label: str) -> list[float]:
    """Change of the prediction of a label when one module is at WEAKER of its strength.

    In standard deviations of the training labels, as the task learns them (probabilities for
    yes-or-no labels), in the order of ``predictor.signature.names``. Positive: the module raises
    the prediction.
    """
    models, i = predictor.task_of(label)
    out = models.outputs(Pairs.join([pairs, weakened(pairs)]))
    probabilities = models.probabilities(out)
    out = out / models.std if probabilities is None else probabilities
    return [float(v) for v in out[0, i] - out[1:, i]]


def dose_curve(
    predictor: Predictor, pairs: Pairs, label: str, scales: Sequence[float]
) -> list[float]:
    """Prediction (or probability) of a label at several strengths of the same LoRA."""
    return _curve(predictor, Pairs.join([pairs.scaled(s) for s in scales]), label)


def rank_curve(grounds: Grounds, label: str) -> list[float]:
    """Predictions of a label with every update cut to its best approximation of rank 1 to r."""
    whole = pack(grounds.reading.decomposed(), grounds.predictor.signature)
    cuts = (torch.arange(whole.rank) < rank for rank in range(1, whole.rank + 1))
    predictor = grounds.predictor
    parts = [predictor.read(Pairs(tuple((U * cut, V) for U, V in whole.groups))) for cut in cuts]
    return _curve(predictor, Pairs.join(parts), label)


def _curve(predictor: Predictor, pairs: Pairs, label: str) -> list[float]:
    models, i = predictor.task_of(label)
    out = models.outputs(pairs)
    probabilities = models.probabilities(out)
    column = (out if probabilities is None else probabilities)[:, i]
    if probabilities is None and models.task.logarithm:
        column = column.exp2()
    return [float(v) for v in column]


def model_index(name: str, predictions: Sequence[Prediction]) -> str:
    """A ``model-index`` block for a model card, every value marked as predicted."""
    results = []
    for p in predictions:
        value = p.probability if p.probability is not None else p.value
        metric = {"type": "predicted", "name": f"predicted {p.name}", "value": round(value, 4),
                  "verified": False}  # fmt: skip
        results.append({
            "task": {"type": "other", "name": "predicted from the weights"},
            "dataset": {"type": "none", "name": "not run; predicted by wsdemo"},
            "metrics": [metric],
        })  # fmt: skip
    block = {"model-index": [{"name": name, "results": results}]}
    return yaml.safe_dump(block, sort_keys=False, allow_unicode=True)
