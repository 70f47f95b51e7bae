"""What the models share: their sizes, their head, the scale of their inputs, norms of updates."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from wsdemo.lol.data.pairs import Pairs, Signature


@dataclass(frozen=True)
class ModelConfig:
    """One model and its sizes."""

    model: str = "gl-net"
    """One of MODELS."""
    outputs: int = 1
    """Numbers predicted."""
    width: int = 16
    """GL-net: rows of the equivariant maps' outputs."""
    layers: int = 1
    """GL-net: equivariant layers; σ_GL stands between them."""
    head: str = "full"
    """GL-net: ``full`` keeps every module's product, ``mean`` averages them over modules."""
    hidden: int = 64
    """Hidden width of the MLP (of tokens for the transformer)."""
    dropout: float = 0.1
    """In the head."""
    standardise: bool = False
    """GL-net: whether every entry of the products is standardised by training's moments."""
    rank: int = 4
    """The rank that models of raw factors are built for; others are padded or cut."""
    left_out: float = 0.1
    """gl-net-shared, gradient-probes: chance of a module to be left out of a LoRA in training."""
    least_energy: float = 0.8
    """gl-net-shared: smallest share of ‖U Vᵀ‖² that its directions keep then."""
    texts: tuple[int, ...] = ()
    """gradient-probes: of every output, which of the probes' texts it is of; empty: of none."""


def normal(*shape: int, times: float = 1.0, over: float = 1.0) -> Tensor:
    """Standard normal values of a shape, times and over a number: where a parameter starts.

    On the device ``meta`` there are none: for arithmetic there torch would import its compiler,
    which takes as long as all else that opening a predictor does.
    """
    values = torch.empty(shape)
    return values if values.is_meta else torch.randn(shape) * times / over


def mlp(d_in: int, config: ModelConfig) -> nn.Sequential:
    """Normalisation, one hidden layer, dropout: the head of every model but the linear one."""
    return nn.Sequential(
        nn.Dropout(config.dropout),
        nn.Linear(d_in, config.hidden), nn.LayerNorm(config.hidden), nn.GELU(),
        nn.Dropout(config.dropout),
        nn.Linear(config.hidden, config.outputs),
    )  # fmt: skip


class InputScale(nn.Module):
    """Divides U and V of every module by √(mean ‖U Vᵀ‖_F) over the training LoRAs.

    One number a module, and the same for both factors, so that invariance is untouched.
    """

    def __init__(self, signature: Signature) -> None:
        super().__init__()
        for i, (_, names) in enumerate(signature.groups):
            self.register_buffer(f"scale{i}", torch.ones(len(names)))

    @torch.no_grad()
    def fit(self, pairs: Pairs) -> None:
        """Measures √(mean ‖U Vᵀ‖_F) of every module over the training LoRAs."""
        norms: list[list[Tensor]] = [[] for _ in pairs.groups]
        for part in pairs.chunks():
            for norms_of_group, (U, V) in zip(norms, part.groups, strict=True):
                # ‖U Vᵀ‖² = tr(UᵀU VᵀV): never multiplied out.
                square = ((U.mT @ U) * (V.mT @ V)).sum((-1, -2)).clamp(min=0)
                norms_of_group.append(square.sqrt())
        for i in range(len(pairs.groups)):
            mean = torch.cat(norms[i]).mean(0)
            floor = mean.max().clamp(min=1e-12) * 1e-3
            getattr(self, f"scale{i}").copy_(mean.clamp(min=floor).sqrt())

    def forward(self, pairs: Pairs) -> Pairs:
        groups = []
        for i, (U, V) in enumerate(pairs.groups):
            s = getattr(self, f"scale{i}")[:, None, None].to(U)
            groups.append((U / s, V / s))
        return Pairs(tuple(groups), pairs.is_canonical)


def log_norms(pairs: Pairs) -> Tensor:
    """(N, L) log ‖U Vᵀ‖_F = ½ log tr(UᵀU VᵀV) of every module, never multiplied out."""
    squares = [((U.mT @ U) * (V.mT @ V)).sum((-1, -2)) for U, V in pairs.groups]
    return (torch.cat(squares, 1).clamp(min=0) + 1e-8).log() / 2
