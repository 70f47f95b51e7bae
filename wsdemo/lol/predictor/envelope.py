"""The envelope: where the training LoRAs lie, outside of which a predictor does not answer."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from wsdemo.lol.data.canonical import singular_values
from wsdemo.lol.data.pairs import Pairs, Signature, by_family_name
from wsdemo.lora.geometry import effective_rank
from wsdemo.lora.reading import Reading

NEIGHBOURS = 5
"""The envelope is the distance to this many-th nearest training LoRA."""
MARGIN = 1.25
"""Abstain beyond this many times the largest such distance among held-out LoRAs, those that chose
and calibrated the predictor."""


def spectrum_features(pairs: Pairs) -> Tensor:
    """(N, 2 L): log ‖ΔW‖_F and effective rank of every module, by group. GL-invariant."""
    return torch.cat([_spectrum_features(singular_values(part)) for part in pairs.chunks()])


def _spectrum_features(values: Sequence[Tensor]) -> Tensor:
    norms, ranks = [], []
    for s in values:
        norms.append(log_norm(s.square().sum(-1).sqrt()))
        ranks.append(effective_rank(s))
    return torch.cat([*norms, *ranks], dim=1).float()


def log_norm(norm: Tensor) -> Tensor:
    """log ‖ΔW‖_F, finite for a module that changes nothing."""
    return (norm + 1e-8).log()


def measured_features(reading: Reading, signature: Signature) -> Tensor:
    """(1, 2 L): ``spectrum_features`` of a LoRA by what was already measured of it."""
    measured = {m.name: m for m in reading.geometry.modules}
    modules = by_family_name(reading.lora, signature)
    rows = [measured[modules[n].name] if n in modules else None for n in signature.names]
    norms = torch.tensor([m.frobenius if m else 0.0 for m in rows], dtype=torch.float64)
    # A zero update has one "direction", as effective_rank says; its passport shows 0.
    ranks = [m.effective_rank if m and m.frobenius > 0 else 1.0 for m in rows]
    return torch.cat([log_norm(norms), torch.tensor(ranks).double()])[None].float()


ABSENT = -100.0
"""Stands for both features of a module that a LoRA does not change."""
UNLIKE = 2.0
"""Distance, in standard deviations, of a module that only one of two LoRAs changes."""


def absent_modules(features: Tensor) -> Tensor:
    """(N, 2 L) bool: features of modules without an update, of what spectrum_features returned."""
    norms = features[:, : features.shape[1] // 2]
    return (norms <= float(log_norm(torch.zeros(()))) + 1e-3).repeat(1, 2)


@dataclass(frozen=True)
class Envelope:
    """Where the training LoRAs lie, as standardised spectrum features.

    Attributes:
        features: (N, 2 L) of the training LoRAs; ABSENT where one does not change a module.
        mean, std: (2 L,) of theirs, where they are there.
        threshold: Largest accepted distance to the fifth nearest training LoRA.
        names: Of the training LoRAs.
    """

    features: Tensor
    mean: Tensor
    std: Tensor
    threshold: float
    names: tuple[str, ...]

    @classmethod
    def fit(cls, train: Pairs, held_out: Pairs, names: Sequence[str]) -> "Envelope":
        """Measures the training LoRAs; the threshold comes from held-out ones."""
        raw = spectrum_features(train)
        present = (~absent_modules(raw)).float()
        count = present.sum(0)
        mean = (raw * present).sum(0) / count.clamp(min=1)
        square = ((raw - mean).square() * present).sum(0) / (count - 1).clamp(min=1)
        envelope = cls(raw, mean, square.sqrt().clamp(min=0.05), 0.0, tuple(names))
        return dataclasses.replace(envelope, features=envelope.standardised(raw)).widened(held_out)

    def standardised(self, features: Tensor) -> Tensor:
        """Spectrum features as they are compared, and kept in half precision."""
        scaled = ((features - self.mean) / self.std).half().float()
        return scaled.where(~absent_modules(features), ABSENT)

    def widened(self, held_out: Pairs) -> "Envelope":
        """The same with a threshold of at least MARGIN times the largest of these distances."""
        nearest = self.nearest(spectrum_features(held_out))
        threshold = max(self.threshold, MARGIN * float(nearest.max()))
        return dataclasses.replace(self, threshold=threshold)

    def distances(self, features: Tensor) -> Tensor:
        """(N, M) root-mean-square distance of spectrum features to every training LoRA.

        Over the modules that either changes; one that only one of them changes counts as UNLIKE.
        """
        x, absent = (features - self.mean) / self.std, absent_modules(features)
        known = self.features == ABSENT
        if not absent.any() and not known.any():
            return torch.cdist(x, self.features) / x.shape[1] ** 0.5
        x_present, y_present = (~absent).to(x), (~known).to(x)
        x, y = x * x_present, self.features * y_present
        both = x_present @ y_present.mT
        apart = x_present.sum(1, keepdim=True) + y_present.sum(1) - 2 * both
        square = (x.square() @ y_present.mT) - 2 * (x @ y.mT) + x_present @ y.square().mT
        total = square.clamp(min=0) + UNLIKE**2 * apart
        return (total / (both + apart).clamp(min=1)).sqrt()

    def nearest(self, features: Tensor) -> Tensor:
        """(N,) distance of spectrum features to their fifth nearest training LoRA."""
        distances = self.distances(features)
        return distances.kthvalue(min(NEIGHBOURS, distances.shape[1]), 1).values
