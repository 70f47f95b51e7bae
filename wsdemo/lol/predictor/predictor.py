"""A predictor: an ensemble per task, calibrated, that knows what it was trained on."""

import dataclasses
import math
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from wsdemo.errors import WsdemoError
from wsdemo.lol.data.pairs import Pairs, Signature, by_family_name, sides
from wsdemo.lol.data.probes import Probes
from wsdemo.lol.data.tasks import Task, class_label
from wsdemo.lol.models.networks import LolModel
from wsdemo.lol.models.parts import ModelConfig
from wsdemo.lol.models.probes import PROBED
from wsdemo.lol.predictor.envelope import Envelope, measured_features
from wsdemo.lora.base_model import KEYS, SIZES
from wsdemo.lora.modules import Lora
from wsdemo.lora.reading import Reading

COVERAGE = 0.9
"""Share of new LoRAs that an interval should hold."""
USUAL = 3.0
"""Standard deviations of the training labels on either side of their mean that a bar shows."""


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
        place: Of the interval's lower end, the value and the upper end within the training
            labels: 0 and 1 are USUAL standard deviations below and above their mean (of the
            logarithm, where the task learns it); None for a probability.
    """

    name: str
    value: float
    interval: tuple[float, float] | None
    probability: float | None
    unit: str
    task: str
    held_out: str = ""
    place: tuple[float, float, float] | None = None

    def to_dict(self) -> dict[str, Any]:
        """For JSON, as the command line documents it."""
        base = {"name": self.name, "value": round(self.value, 5), "unit": self.unit,
                "held_out": self.held_out}  # fmt: skip
        if self.interval is not None:
            return {**base, "interval": [round(v, 5) for v in self.interval]}
        fields = {**base, "probability": round(self.probability or 0.0, 5)}
        if self.name.startswith(start := class_label(self.task, "")):
            fields["class"] = self.name.removeprefix(start)
        return fields


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
        shift: Added to them then; of a regression, (k,), to the values.
        baseline: The MLP over raw factors, for comparison; None if it was not kept.
        baseline_config: Its configuration.
        measured: Figures of the test split, for the card.
        ranks: Ranks that it was trained or measured on; empty: those of its predictor.
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
    ranks: tuple[int, ...] = ()
    shift: float | Tensor = 0.0

    @torch.no_grad()
    def outputs(self, pairs: Pairs) -> Tensor:
        """(N, k) values (of the logarithm, where the task learns it) or calibrated logits."""
        parts = [torch.stack([m(part) for m in self.models]).mean(0) for part in pairs.chunks(256)]
        total = torch.cat(parts)
        if self.task.kind != "regression":
            return total / self.temperature + self.shift
        return total * self.std + self.mean + self.shift

    def probabilities(self, outputs: Tensor) -> Tensor | None:
        """(N, k) of such outputs; None where the labels are values."""
        if self.task.kind == "regression":
            return None
        return outputs.softmax(1) if self.task.kind == "nominal" else outputs.sigmoid()

    @torch.no_grad()
    def baseline_outputs(self, pairs: Pairs) -> Tensor:
        """(N, k) the same of the MLP baseline, uncalibrated."""
        assert self.baseline is not None
        out: Tensor = self.baseline(pairs)
        return out * self.std + self.mean if self.task.kind == "regression" else out

    def held_out(self, label: str) -> str:
        """How good predictions of a label are on the test LoRAs."""
        if self.task.kind == "binary":
            auc = self.measured.get("auc_by_label", {}).get(label)
            return f"AUC {auc:.2f}" if auc is not None and auc == auc else ""
        if self.task.kind == "nominal":
            accuracy = self.measured.get("accuracy")
            return f"accuracy {accuracy:.0%}" if accuracy is not None else ""
        by_label, mean = self.measured.get("spearman_rho_by_label"), ""
        if by_label is not None:
            rho = by_label.get(label)
        else:  # written before labels had figures of their own
            rho = self.measured.get("spearman_rho")
            mean = f"mean of {len(self.task.labels)}: " if len(self.task.labels) > 1 else ""
        return f"{mean}ρ {rho:.2f}" if rho is not None and rho == rho else ""

    def place(self, label: int, value: float) -> float:
        """Of a value within the training labels: 0 and 1 are USUAL deviations from their mean."""
        half = USUAL * float(self.std[label])
        return 0.5 + (value - float(self.mean[label])) / max(2 * half, 1e-9)

    def predictions(self, pairs: Pairs, is_baseline: bool = False) -> list[Prediction]:
        """Of a batch of one; of a nominal task the likeliest class alone."""
        row = (self.baseline_outputs if is_baseline else self.outputs)(pairs)[0]
        if self.task.kind == "nominal":
            likeliest, index = row.softmax(0).max(0)
            name, p = self.task.labels[int(index)], float(likeliest)
            return [Prediction(name, 1.0, None, p, "", self.task.name, self.held_out(name))]
        predictions = []
        for i, name in enumerate(self.task.labels):
            value = float(row[i])
            if self.task.kind == "binary":
                p = 1 / (1 + math.exp(-max(-60.0, min(60.0, value))))
                yes, held_out = float(p > 0.5), self.held_out(name)
                predictions.append(Prediction(name, yes, None, p, "", self.task.name, held_out))
                continue
            half = float(self.half_width[i])
            ends = [value - half, value + half]
            place = self.place(i, ends[0]), self.place(i, value), self.place(i, ends[1])
            if self.task.logarithm:
                value, *ends = (2 ** max(-60.0, min(60.0, v)) for v in (value, *ends))
            unit, task = self.task.unit, self.task.name
            interval = (ends[0], ends[1])
            held_out = self.held_out(name)
            predictions.append(Prediction(name, value, interval, None, unit, task, held_out, place))
        return predictions


def odd_ranks(lora: Lora, known: Collection[int]) -> list[int]:
    """The ranks of a LoRA's modules that are not among some ranks.

    A module of n x m has at most rank min(n, m), whatever the rank of the others: written anew,
    the three outputs of a LoRA of rank 4 come out at rank 3.
    """
    return sorted({
        m.stored_rank
        for m in lora.modules
        if m.stored_rank not in known
        and m.stored_rank not in {min(r, *sides(m)) for r in known}
    })  # fmt: skip


def always_adapted(pairs: Pairs, signature: Signature) -> tuple[str, ...]:
    """The modules that every one of some LoRAs adapts; of what a LoRA lacks, the pair is zero."""
    adapted = torch.cat(
        [U.flatten(2).any(-1) & V.flatten(2).any(-1) for U, V in pairs.groups], dim=1
    ).all(0)
    return tuple(n for n, every in zip(signature.names, adapted.tolist(), strict=True) if every)


def _listed(ranks: Iterable[int]) -> str:
    return ", ".join(map(str, sorted(ranks)))


@dataclass
class Predictor:
    """Everything that answers for one family of LoRAs.

    Attributes:
        name: Of the predictor.
        title: What the family is, in a few words.
        base: The base model that its LoRAs adapt; empty if their files do not say.
        kind: ``additive`` or ``multiplicative``.
        signature: Modules.
        ranks: Ranks that its tasks were trained or measured on, where they name none.
        tasks: Task → models.
        envelope: Of the training LoRAs.
        card: What it was trained on, in sentences.
        required: Modules that all training LoRAs adapt; None: all of its modules.
        probes: Of the base, which gradient-probes read LoRAs by; None: no model needs any.
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
    required: tuple[str, ...] | None = None
    probes: Probes | None = None

    def read(self, pairs: Pairs) -> Pairs:
        """LoRAs as its models read them: where all do by probes, what those say of them.

        Weaker modules and other strengths may then be made of that.
        """
        if self.probes is None or any(m.config.model != PROBED for m in self.tasks.values()):
            return pairs
        return self.probes.read(pairs)

    def matches(self, lora: Lora) -> bool:
        """Whether a LoRA adapts modules of this family, whatever else is wrong with it."""
        shapes, modules = self.signature.shapes, by_family_name(lora, self.signature)
        return lora.kind == self.kind and all(shapes.get(k) == sides(m) for k, m in modules.items())

    def task_of(self, label: str) -> tuple[TaskModels, int]:
        """The task that predicts a label, and the label's place in it.

        Raises:
            WsdemoError: None does.
        """
        for models in self.tasks.values():
            if label in models.task.labels:
                return models, models.task.labels.index(label)
        known = ", ".join(name for m in self.tasks.values() for name in m.task.labels)
        raise WsdemoError(
            "Unknown label", f"Found {label[:60]!r}; {self.name} predicts {known}.", "Choose one."
        )

    def unmeasured(self, lora: Lora) -> dict[str, str]:
        """Task → why it is not answered for a LoRA of these ranks; empty if all tasks are."""
        reasons = {}
        for name, models in self.tasks.items():
            known = models.ranks or self.ranks
            if odd := odd_ranks(lora, known):
                reasons[name] = f"its rank is {odd[0]}, measured on {_listed(known)}"
        return reasons

    def without(self, tasks: Collection[str]) -> "Predictor":
        """The predictor without some tasks."""
        kept = {name: models for name, models in self.tasks.items() if name not in tasks}
        return dataclasses.replace(self, tasks=kept)

    def reason_of_base(self, lora: Lora) -> str:
        """Why a LoRA may be one of another base; empty if it is of this one, or nobody says."""
        base_name = lora.base.name
        if not base_name or not self.base or base_name == self.base:
            return ""
        if all(source in (KEYS, SIZES) for source, _ in lora.base.evidence):
            return (
                f"The file does not say which base it adapts (its keys look like {base_name}); this"
                f" predictor knows {self.base}. Give it with its adapter_config.json."
            )
        if base_name.split("@")[0] != self.base.split("@")[0]:
            return (
                f"The file names the base model {base_name!r}; this predictor knows {self.base!r}."
            )
        if "@" in base_name and "@" in self.base:
            return (
                f"The file adapts another version of the base, {base_name!r} and not {self.base!r}."
            )
        return ""

    def reason_of_ranks(self, lora: Lora) -> str:
        """Why no task is answered for a LoRA of these ranks; empty if one is."""
        if len(self.unmeasured(lora)) < len(self.tasks):
            return ""
        known = {r for models in self.tasks.values() for r in models.ranks or self.ranks}
        odd = odd_ranks(lora, known) or list(lora.ranks)
        return f"Its rank is {odd[0]}; the predictor was measured on ranks {_listed(known)}."

    def reason_to_abstain(self, reading: Reading) -> str:
        """Why this predictor cannot answer for a LoRA that it matches; empty if it can."""
        lora = reading.lora
        if all(m.frobenius == 0 for m in reading.geometry.modules):
            return "The file is a no-op: every update is zero, so there is nothing to read."
        if any(m.magnitude is not None for m in lora.modules):
            return "It is a DoRA: its update depends on the base's weights, which are not here."
        if reason := self.reason_of_base(lora):
            return reason
        required = self.signature.names if self.required is None else self.required
        missing = set(required) - set(by_family_name(lora, self.signature))
        if missing:
            return (
                f"{len(missing)} of the {len(required)} modules that all training LoRAs adapt are"
                " missing."
            )
        if reason := self.reason_of_ranks(lora):
            return reason
        distance = float(self.envelope.nearest(measured_features(reading, self.signature)))
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
        predictions = []
        for models in self.tasks.values():
            if not is_baseline or models.baseline is not None:
                predictions += models.predictions(pairs, is_baseline)
        return predictions
