"""What is predicted of LoRAs, and LoRAs with their labels."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from wsdemo.lol.data.pairs import Pairs


@dataclass(frozen=True)
class Task:
    """What is predicted together by one model.

    Attributes:
        name: Of the task.
        labels: Columns of the manifest.
        kind: ``regression``, ``binary``, or ``nominal``: exactly one of the labels is 1, which are
            the classes that one column names (``class_label``).
        logarithm: Whether the label is learnt as log₂ of itself.
        unit: Of the predicted value.
        headline: Labels that are also reported by themselves.
    """

    name: str
    labels: tuple[str, ...]
    kind: str
    logarithm: bool = False
    unit: str = ""
    headline: tuple[str, ...] = ()


def class_label(column: str, name: str) -> str:
    """The yes-or-no label of one class of a column."""
    return f"{column} = {name}"


@dataclass(frozen=True)
class LabelledLoras:
    """LoRAs and their labels.

    Attributes:
        pairs: N LoRAs.
        labels: Column → (N,) float; NaN where it is not known.
        names: N names.
    """

    pairs: Pairs
    labels: dict[str, Tensor]
    names: tuple[str, ...]

    def known(self, task: Task) -> "LabelledLoras":
        """Those that have every label of a regression, or any label of a binary task.

        Yes-or-no labels are learnt and judged each by itself, with the missing ones left out.
        """
        each = torch.stack([torch.isfinite(self.labels[c]) for c in task.labels])
        have = each.any(0) if task.kind == "binary" else each.all(0)
        return self if bool(have.all()) else self.pick(have.nonzero().flatten())

    def pick(self, index: Tensor) -> "LabelledLoras":
        """The LoRAs of an index, with their labels and names."""
        return LabelledLoras(
            self.pairs.pick(index),
            {k: v[index] for k, v in self.labels.items()},
            tuple(self.names[i] for i in index.tolist()),
        )

    @staticmethod
    def join(parts: Sequence["LabelledLoras"]) -> "LabelledLoras":
        """One after the other; all must have the same labels."""
        return LabelledLoras(
            Pairs.join([p.pairs for p in parts]),
            {k: torch.cat([p.labels[k] for p in parts]) for k in parts[0].labels},
            tuple(name for p in parts for name in p.names),
        )

    def targets(self, task: Task) -> Tensor:
        """(N, k) labels of a task, before standardisation."""
        values = torch.stack([self.labels[c] for c in task.labels], dim=1)
        return values.log2() if task.logarithm else values
