"""The six representations of an instance: weights ε that adapt one frozen base.

Paper A, section 3.3. With W a frozen matrix (d_out, d_in), A (r, d_in), B (d_out, r):

    MLP     W' = ε            a smaller field of its own, no base
    LoRA    W' = W + B A
    mLoRA   W' = W ⊙ (B A)    literal: no "+ 1"

The ``-asym`` variants freeze some entries in every row of A (of W for an MLP)
with one mask that all instances share, which removes the symmetries of the
factorisation. All instances of a representation are rows of one (n, D) tensor,
so one instance and ten thousand run through the same code.
"""

import dataclasses
import math
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from wsdemo.errors import WsdemoError
from wsdemo.fields.base import FieldConfig, FrozenBase, evaluate, fourier_features
from wsdemo.limits import MAX_MLP_WIDTH

REPRESENTATIONS = ("mlp", "mlp-asym", "lora", "lora-asym", "mlora", "mlora-asym")

KAPPA = 6.0
"""Scale of the frozen entries of LoRA-Asym and MLP-Asym (Paper A)."""
INIT_SPREAD = 1.0
"""Ours: spread of log A at mLoRA's spread start. Ranks that start alike would learn alike."""
STARTS = ("spread", "carried")
"""Ours: two starts of mLoRA with B A = 1 (``AdapterConfig.start``)."""


@dataclass(frozen=True)
class AdapterConfig:
    """Which representation, and everything that all its instances share."""

    representation: str = "mlora-asym"
    """One of REPRESENTATIONS."""
    rank: int = 8
    """r; for an MLP the hidden width."""
    seed: int = 0
    """Draws the mask, its frozen values and the shared initialisation."""
    start: str = "spread"
    """mLoRA's ε₀. ``spread``: all ranks share B A = 1, by which like instances stay alike.
    ``carried``: one rank carries it in each column and the others begin as LoRA's do, B = 0 and
    A ~ N(0, 1 / d_in), by which all ranks learn from the first step: fits come out sharper."""

    @property
    def is_asymmetric(self) -> bool:
        return self.representation.endswith("-asym")

    @property
    def kind(self) -> str:
        """``mlp``, ``lora`` or ``mlora``: the representation without its mask."""
        return self.representation.removesuffix("-asym")


@dataclass(frozen=True)
class Slot:
    """One tensor of an instance: its name and place in the flat vector."""

    name: str
    start: int
    shape: tuple[int, int]

    @property
    def stop(self) -> int:
        return self.start + self.shape[0] * self.shape[1]


def frozen_per_row(rank: int, d_out: int) -> int:
    """k = max(r − 1, ⌊√d_out⌋): with fewer, rank mixing would survive the mask (spec A4)."""
    return max(rank - 1, math.isqrt(d_out))


def row_mask(rows: int, columns: int, frozen: int, generator: torch.Generator) -> Tensor:
    """Returns (rows, columns) bool, False at ``frozen`` random entries of every row."""
    order = torch.rand(rows, columns, generator=generator).argsort(dim=1)
    return order >= min(frozen, columns - 1)


def _generator(seed: int, *key: object) -> torch.Generator:
    # crc32 rather than hash(): the same on every machine and in every process.
    mixed = zlib.crc32(repr((seed, *key)).encode())
    return torch.Generator().manual_seed(mixed)


class Adapter:
    """A representation on a base: layout, shared start, mask, effective weights.

    Args:
        base: The frozen base. An MLP only takes its Fourier frequencies.
        config: Representation, rank and seed.

    Attributes:
        size: D, the length of an instance's vector, frozen entries included.
        trainable: (D,) bool, False at frozen entries.
        start: (D,) float, the vector that every fit starts from, ε₀. For LoRA and mLoRA it
            decodes to the base's own picture. Only where a mask freezes a column of A in every
            rank, as at rank 1 and from rank 126 of the shipped bases, those inputs are lost.

    Raises:
        WsdemoError: The representation is unknown or the rank out of range.
    """

    def __init__(self, base: FrozenBase, config: AdapterConfig) -> None:
        if config.representation not in REPRESENTATIONS:
            raise WsdemoError(
                "Unknown representation",
                f"Found {config.representation!r}; expected one of {', '.join(REPRESENTATIONS)}.",
                "mlora-asym is the one that the shipped diffusion model draws.",
            )
        if config.start not in STARTS:
            raise WsdemoError(
                "Unknown start",
                f"Found {config.start!r}; expected one of {', '.join(STARTS)}.",
                "The shipped instances began at spread.",
            )
        limit = MAX_MLP_WIDTH if config.kind == "mlp" else base.config.width
        if not 1 <= config.rank <= limit:
            raise WsdemoError(
                "Rank out of range",
                f"Found rank {config.rank}; this base takes 1 to {limit}.",
                "Rank 8 is a good start.",
            )
        self.base, self.config = base, config
        self.device, self.dtype = base.frequencies.device, base.frequencies.dtype
        self.field_config = base.config
        if config.kind == "mlp":
            self.field_config = dataclasses.replace(base.config, width=config.rank)
        self.slots = self._layout()
        self.size = self.slots[-1].stop
        self._build()

    # ---- layout ------------------------------------------------------------

    def _layout(self) -> list[Slot]:
        slots: list[Slot] = []
        start, r = 0, self.config.rank
        for name, d_out, d_in in self.field_config.layer_shapes():
            if self.config.kind == "mlp":
                shapes = [(f"{name}.weight", (d_out, d_in)), (f"{name}.bias", (d_out, 1))]
            else:
                shapes = [(f"{name}.A", (r, d_in)), (f"{name}.B", (d_out, r))]
            for slot_name, shape in shapes:
                slots.append(Slot(slot_name, start, shape))
                start = slots[-1].stop
        return slots

    def _build(self) -> None:
        start, trainable = torch.empty(self.size), torch.ones(self.size, dtype=torch.bool)
        shapes = {name: (o, i) for name, o, i in self.field_config.layer_shapes()}
        for slot in self.slots:
            layer, part = slot.name.rsplit(".", 1)
            d_out, d_in = shapes[layer]
            mask = torch.ones(slot.shape, dtype=torch.bool)
            if part in ("A", "weight"):
                mask = self._mask(part, d_out, d_in)
            values = self._initial(slot, part, d_in, mask)
            if self.config.kind == "mlora" and self.config.start == "carried":
                values = self._carried(slot, part, self._mask("A", d_out, d_in))
            start[slot.start : slot.stop] = values.flatten()
            trainable[slot.start : slot.stop] = mask.flatten()
        self.start = start.to(self.device, self.dtype)
        self.trainable = trainable.to(self.device)

    def _mask(self, part: str, d_out: int, d_in: int) -> Tensor:
        """The free entries of A (r, d_in) or of a weight (d_out, d_in): one for every shape."""
        rows = self.config.rank if part == "A" else d_out
        if not self.config.is_asymmetric:
            return torch.ones(rows, d_in, dtype=torch.bool)
        frozen = frozen_per_row(self.config.rank, d_out) if part == "A" else math.isqrt(d_out)
        return row_mask(rows, d_in, frozen, _generator(self.config.seed, "mask", d_out, d_in))

    def _initial(self, slot: Slot, part: str, d_in: int, mask: Tensor) -> Tensor:
        g = _generator(self.config.seed, "start", slot.name)
        noise = torch.randn(slot.shape, generator=g)
        if part == "bias" or (part == "B" and self.config.kind == "lora"):
            return torch.zeros(slot.shape)
        # mLoRA: B A = 1 exactly, so that the start is the base itself. B is constant, the free
        # entries of each column of A share 1 at random, and both factors have the same size,
        # as Adam moves both alike.
        root = math.sqrt(self.config.rank)
        if part == "B":
            return torch.full(slot.shape, 1 / root)
        if self.config.kind == "mlora":
            shares = torch.where(mask, (INIT_SPREAD * noise).exp(), 0.0)
            return root * shares / shares.sum(0, keepdim=True).clamp(min=1e-12)
        gain = math.sqrt(2.0) if self.config.kind == "mlp" else 1.0
        if slot.name.endswith(".1.weight"):
            gain = 0.3
        std = gain / math.sqrt(d_in)
        # Frozen entries of an MLP are κ times its own initial spread: N(0, κ²) itself
        # makes a field of this depth overflow. LoRA takes the paper's N(0, κ²).
        kappa = KAPPA * std if self.config.kind == "mlp" else KAPPA
        return noise * torch.where(mask, std, kappa)

    def _carried(self, slot: Slot, part: str, free: Tensor) -> Tensor:
        """A or B with B A = 1 by the first rank that is free in each column of A (r, d_in)."""
        first = free.int().argmax(0, keepdim=True)
        carriers = int(first.max()) + 1
        if part == "B":
            return (torch.arange(slot.shape[1]) < carriers).float().expand(slot.shape)
        noise = torch.randn(slot.shape, generator=_generator(self.config.seed, "start", slot.name))
        A = torch.where(free, noise / math.sqrt(slot.shape[1]), 0.0)
        A[:carriers] = 0.0
        return A.scatter(0, first, free.any(0, keepdim=True).float())

    @property
    def weight_count(self) -> int:
        """Trainable weights of one instance; frozen entries are shared and not counted."""
        return int(self.trainable.sum())

    # ---- instances -----------------------------------------------------------

    def tensors(self, instances: Tensor) -> dict[str, Tensor]:
        """Splits (n, D) instances into named (n, rows, columns) views."""
        n = instances.shape[0]
        return {s.name: instances[:, s.start : s.stop].view(n, *s.shape) for s in self.slots}

    def flatten(self, tensors: dict[str, Tensor]) -> Tensor:
        """The inverse of ``tensors``: named (n, rows, columns) → (n, D)."""
        return torch.cat([tensors[s.name].flatten(1) for s in self.slots], dim=1)

    def effective(self, instances: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """Returns W' (n, d_out, d_in) and b per layer for (n, D) instances."""
        t = self.tensors(instances)
        names = [name for name, _, _ in self.field_config.layer_shapes()]
        if self.config.kind == "mlp":
            biases = [t[f"{n}.bias"].squeeze(-1) for n in names]
            return [t[f"{n}.weight"] for n in names], biases
        products = [t[f"{n}.B"] @ t[f"{n}.A"] for n in names]
        if self.config.kind == "mlora":
            return [W * P for W, P in zip(self.base.weights, products, strict=True)], [
                *self.base.biases
            ]
        return [W + P for W, P in zip(self.base.weights, products, strict=True)], [
            *self.base.biases
        ]

    def features(self, points: Tensor) -> Tensor:
        """Fourier features (P, 2F) of (P, in_dim) points; compute once, use in every step."""
        return fourier_features(points.to(self.device, self.dtype), self.base.frequencies)

    def decode(self, instances: Tensor, features: Tensor) -> Tensor:
        """Evaluates (n, D) instances at (P, 2F) features → (n, P, out_dim)."""
        return evaluate(features, *self.effective(instances))

    def prepare(self, instances: Tensor) -> Callable[[Tensor, int], Tensor]:
        """Builds the effective weights of (n, D) instances once, for many evaluations.

        Returns:
            A function of (P, in_dim) points and a chunk size → (n, P, out_dim), without
            gradients. Points go through in chunks, which a CPU's caches prefer to one pass.
        """
        with torch.no_grad():
            weights, biases = self.effective(instances)

        @torch.no_grad()
        def at(points: Tensor, chunk: int) -> Tensor:
            parts = [evaluate(self.features(p), weights, biases) for p in points.split(chunk)]
            return torch.cat(parts, dim=1)

        return at

    def decode_points(self, instances: Tensor, points: Tensor, chunk: int = 4096) -> Tensor:
        """Evaluates (n, D) instances at (P, in_dim) points without gradients."""
        return self.prepare(instances)(points, chunk)


def equal_budget(
    config: FieldConfig, weights: int, representations: Sequence[str] = REPRESENTATIONS
) -> dict[str, AdapterConfig]:
    """Ranks (widths for MLPs) that bring every representation closest to a budget.

    Counted are the stored weights D, so that a mask costs nothing extra.
    """
    empty = FrozenBase(
        config,
        torch.zeros(config.frequencies, config.in_dim),
        tuple(torch.zeros(o, i) for _, o, i in config.layer_shapes()),
        tuple(torch.zeros(o) for _, o, _ in config.layer_shapes()),
    )
    chosen = {}
    for name in representations:
        kind = name.removesuffix("-asym")
        candidates = range(4, 129) if kind == "mlp" else range(1, 65)
        sizes = {r: Adapter(empty, AdapterConfig(kind, r)).size for r in candidates}
        best = min(sizes, key=lambda r: abs(sizes[r] - weights))
        chosen[name] = AdapterConfig(name, best)
    return chosen
