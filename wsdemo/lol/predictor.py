"""A predictor: an ensemble per task, calibrated, that knows what it was trained on."""

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from wsdemo.lol.fitting import Task
from wsdemo.lol.models import LolModel, ModelConfig
from wsdemo.lol.pairs import Pairs, Signature
from wsdemo.lora.modules import Lora

COVERAGE = 0.9
"""Share of new LoRAs that an interval should hold."""
NEIGHBOURS = 5
"""The envelope is the distance to this many-th nearest training LoRA."""
MARGIN = 1.25
"""Abstain beyond this many times the largest such distance among validation LoRAs."""


@dataclass(frozen=True)
class Prediction:
    """One predicted label.

    Attributes:
        name: Of the label.
        value: Predicted value; for a yes-or-no label 1 or 0.
        interval: 90 % interval of a value (split conformal); None for a probability.
        probability: Of yes; None for a value.
        unit: Of the value.
        task: That it belongs to.
        held_out: How good such predictions are on the test LoRAs: "AUC 0.95", "ρ 0.88".
    """

    name: str
    value: float
    interval: tuple[float, float] | None
    probability: float | None
    unit: str
    task: str
    held_out: str = ""

    def to_dict(self) -> dict[str, Any]:
        """For JSON, as the command line documents it."""
        base = {"name": self.name, "value": round(self.value, 5), "unit": self.unit,
                "held_out": self.held_out}  # fmt: skip
        if self.interval is not None:
            return {**base, "interval": [round(v, 5) for v in self.interval]}
        return {**base, "probability": round(self.probability or 0.0, 5)}


@dataclass
class TaskModels:
    """The models of one task and their calibration.

    Attributes:
        task: What they predict.
        config: Of the models.
        models: The ensemble; predictions are means over it.
        mean, std: (k,) of the training labels.
        half_width: (k,) of the 90 % interval, before a logarithm is undone. Regression only.
        temperature: Logits are divided by it. Binary only.
        baseline: The MLP over raw factors, for comparison; None if it was not kept.
        baseline_config: Its configuration.
        measured: Figures of the test split, for the card.
    """

    task: Task
    config: ModelConfig
    models: list[LolModel]
    mean: Tensor
    std: Tensor
    half_width: Tensor
    temperature: float
    baseline: LolModel | None = None
    baseline_config: ModelConfig | None = None
    measured: dict[str, Any] = dataclasses.field(default_factory=dict)

    @torch.no_grad()
    def outputs(self, pairs: Pairs) -> Tensor:
        """(N, k) values (of the logarithm, where the task learns it) or calibrated logits."""
        total = torch.stack([m(pairs) for m in self.models]).mean(0)
        if self.task.kind == "binary":
            return total / self.temperature
        return total * self.std + self.mean

    @torch.no_grad()
    def baseline_outputs(self, pairs: Pairs) -> Tensor:
        """(N, k) the same of the MLP baseline, uncalibrated."""
        assert self.baseline is not None
        out: Tensor = self.baseline(pairs)
        return out if self.task.kind == "binary" else out * self.std + self.mean

    def held_out(self, label: str) -> str:
        """How good predictions of a label are on the test LoRAs."""
        if self.task.kind == "binary":
            auc = self.measured.get("auc_by_label", {}).get(label)
            return f"AUC {auc:.2f}" if auc is not None and auc == auc else ""
        rho = self.measured.get("spearman_rho")
        return f"ρ {rho:.2f}" if rho is not None else ""

    def predictions(self, pairs: Pairs, is_baseline: bool = False) -> list[Prediction]:
        """Of a batch of one."""
        row = (self.baseline_outputs if is_baseline else self.outputs)(pairs)[0]
        found = []
        for i, name in enumerate(self.task.labels):
            value = float(row[i])
            if self.task.kind == "binary":
                p = 1 / (1 + math.exp(-max(-60.0, min(60.0, value))))
                yes, held_out = float(p > 0.5), self.held_out(name)
                found.append(Prediction(name, yes, None, p, "", self.task.name, held_out))
                continue
            half = float(self.half_width[i])
            ends = [value - half, value + half]
            if self.task.logarithm:
                value, *ends = (2 ** max(-60.0, min(60.0, v)) for v in (value, *ends))
            unit, task = self.task.unit, self.task.name
            own = (ends[0], ends[1])
            found.append(Prediction(name, value, own, None, unit, task, self.held_out(name)))
        return found


# ---- the envelope ---------------------------------------------------------------------


def spectrum_features(pairs: Pairs) -> Tensor:
    """(N, 2 L): log ‖ΔW‖_F and effective rank of every module. GL-invariant."""
    norms, ranks = [], []
    for U, V in pairs.groups:
        Ru = torch.linalg.qr(U.double(), mode="r").R
        Rv = torch.linalg.qr(V.double(), mode="r").R
        square = torch.linalg.svdvals(Ru @ Rv.mT).square()
        total = square.sum(-1)
        share = square / total.clamp(min=1e-30)[..., None]
        entropy = -(share * share.clamp(min=1e-30).log()).sum(-1)
        norms.append((total.sqrt() + 1e-8).log())
        ranks.append(entropy.exp())
    return torch.cat([*norms, *ranks], dim=1).float()


@dataclass(frozen=True)
class Envelope:
    """Where the training LoRAs lie, as standardised spectrum features.

    Attributes:
        features: (N, 2 L) of the training LoRAs.
        mean, std: (2 L,) of theirs.
        threshold: Largest accepted distance to the fifth nearest training LoRA.
        names: Of the training LoRAs.
    """

    features: Tensor
    mean: Tensor
    std: Tensor
    threshold: float
    names: tuple[str, ...]

    @classmethod
    def fit(cls, train: Pairs, validation: Pairs, names: Sequence[str]) -> "Envelope":
        """Measures the training LoRAs; the threshold comes from the validation LoRAs."""
        raw = spectrum_features(train)
        mean, std = raw.mean(0), raw.std(0).clamp(min=0.05)
        features = ((raw - mean) / std).half().float()
        own = cls(features, mean, std, 0.0, tuple(names))
        distances = own.distances(validation).kthvalue(min(NEIGHBOURS, len(names)), 1).values
        return dataclasses.replace(own, threshold=MARGIN * float(distances.max()))

    def distances(self, pairs: Pairs) -> Tensor:
        """(N, M) root-mean-square distance to every training LoRA."""
        x = (spectrum_features(pairs) - self.mean) / self.std
        return torch.cdist(x, self.features) / x.shape[1] ** 0.5

    def distance(self, pairs: Pairs) -> float:
        """Of a batch of one, to its fifth nearest training LoRA."""
        d = self.distances(pairs)[0]
        return float(d.kthvalue(min(NEIGHBOURS, len(d))).values)


# ---- the predictor ----------------------------------------------------------------------


@dataclass
class Predictor:
    """Everything that answers for one family of LoRAs.

    Attributes:
        name: Of the predictor.
        title: What the family is, in a few words.
        base: The base model that its LoRAs adapt.
        kind: ``additive`` or ``multiplicative``.
        signature: Modules.
        ranks: Ranks that it was trained or tested on.
        tasks: Task → models.
        envelope: Of the training LoRAs.
        card: What it was trained on, in sentences.
    """

    name: str
    title: str
    base: str
    kind: str
    signature: Signature
    ranks: tuple[int, ...]
    tasks: dict[str, TaskModels]
    envelope: Envelope
    card: str = ""

    def matches(self, lora: Lora) -> bool:
        """Whether a LoRA adapts modules of this family, whatever else is wrong with it."""
        own = self.signature.shapes
        return lora.kind == self.kind and all(
            own.get(m.name) == (m.U.shape[0], m.V.shape[0]) for m in lora.modules
        )

    def reason_to_abstain(self, lora: Lora, pairs: Pairs) -> str:
        """Why this predictor cannot answer for a LoRA that it matches; empty if it can."""
        if all(not bool(m.U.any() and m.V.any()) for m in lora.modules):
            return "The file is a no-op: every update is zero, so there is nothing to read."
        if any(m.magnitude is not None for m in lora.modules):
            return "It is a DoRA: its update depends on the base's weights, which are not here."
        told = lora.base.name
        if told and self.base and all(s == "keys and shapes" for s, _ in lora.base.evidence):
            return (
                f"The file does not say which base it adapts (its keys look like {told}); this"
                f" predictor knows {self.base}. Give it with its adapter_config.json."
            )
        if told and self.base and told.split("@")[0] != self.base.split("@")[0]:
            return f"The file names the base model {told!r}; this predictor knows {self.base!r}."
        if told != self.base and "@" in told and "@" in self.base:
            return f"The file adapts another version of the base, {told!r} and not {self.base!r}."
        missing = len(self.signature) - len(lora.modules)
        if missing:
            return (
                f"{missing} of the {len(self.signature)} modules that all training LoRAs adapt are"
                " missing."
            )
        odd = sorted(set(lora.ranks) - set(self.ranks))
        if odd:
            known = ", ".join(map(str, self.ranks))
            return f"Its rank is {odd[0]}; the predictor was measured on ranks {known}."
        distance = self.envelope.distance(pairs)
        if distance > self.envelope.threshold:
            reason = (
                "Its singular values lie outside the training LoRAs: distance"
                f" {distance:.2f}, accepted up to {self.envelope.threshold:.2f}."
            )
            # Of ours, where the visitor can do something about it.
            if self.base.startswith("wsdemo/faces-base@"):
                reason += " Fit it as the training faces were: a preset of Fit, fit --comparable."
            return reason
        return ""

    def predict(self, pairs: Pairs, is_baseline: bool = False) -> list[Prediction]:
        """All labels of a batch of one."""
        found = []
        for models in self.tasks.values():
            if not is_baseline or models.baseline is not None:
                found += models.predictions(pairs, is_baseline)
        return found
