"""The seven models of Paper B and five beside them, from N LoRAs to (N, outputs).

Every model reads ``Pairs``: per group of modules of one shape, U (N, L, n, r), V (N, L, m, r).
A model is GL-invariant if (U R, V R⁻ᵀ) gives the same output for every invertible R:

    model             invariant under   sees all of U Vᵀ
    gl-net            GL(r)             yes
    gl-net-norms      GL(r)             yes; ours: log ‖U Vᵀ‖ of every module enters a second head
    gl-net-shared     GL(r)             yes; ours: maps shared by all layers (shared.py)
    w2t               GL(r)             yes, up to a rank; a token a singular triple (w2t.py)
    mlp-dense         GL(r)             yes; needs O(n m) memory
    mlp-svd           GL(r)             no: only singular values
    spectral          GL(r)             no: five statistics of them (spectral.py)
    gradient-probes   GL(r)             no: along the base's gradients; ours (probes.py)
    mlp-o-align       O(r)              yes
    mlp, transformer, linear   nothing  yes

(Theorems 1 and 2.) Inputs are scaled by ``InputScale``; products enter GL-net's head through
asinh, as they span orders of magnitude with the learning rate that made them, or standardised, as
fits from one shared start differ little from their mean: all three are ours.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wsdemo.lol.data.canonical import singular_values
from wsdemo.lol.data.pairs import Pairs, Signature
from wsdemo.lol.data.probes import Probes
from wsdemo.lol.models.parts import InputScale, ModelConfig, log_norms, mlp, normal
from wsdemo.lol.models.probes import PROBED, ProbeNet
from wsdemo.lol.models.shared import SharedGlNet
from wsdemo.lol.models.spectral import SpectralLinear
from wsdemo.lol.models.w2t import W2t

MODELS = (
    "gl-net", "gl-net-norms", "gl-net-shared", "w2t", "mlp", "mlp-o-align", "mlp-svd", "mlp-dense",
    "transformer", "linear", "spectral",
)  # fmt: skip


# ---- GL-net --------------------------------------------------------------------------


class EquivariantLinear(nn.Module):
    """U → Φ U, V → Ψ V with a matrix a module: all linear equivariant maps (Proposition 1)."""

    def __init__(self, shapes: Sequence[tuple[int, int, int]], width: int) -> None:
        super().__init__()
        self.left = nn.ParameterList(
            nn.Parameter(normal(count, width, n, over=n**0.5)) for count, n, _ in shapes
        )
        self.right = nn.ParameterList(
            nn.Parameter(normal(count, width, m, over=m**0.5)) for count, _, m in shapes
        )

    def forward(self, pairs: Pairs) -> Pairs:
        groups = [
            (phi @ U, psi @ V)  # (L, h, n) @ (N, L, n, r) → (N, L, h, r)
            for (U, V), phi, psi in zip(pairs.groups, self.left, self.right, strict=True)
        ]
        return Pairs(tuple(groups))


def gl_gate(pairs: Pairs) -> Pairs:
    """σ_GL: rows of U and V are kept where the sums of U Vᵀ over the other side are positive.

    Row j of U is scaled by ReLU(sign Σ_k (U Vᵀ)_jk), row k of V by ReLU(sign Σ_j (U Vᵀ)_jk).
    The sums need no product: U (Vᵀ 1) and V (Uᵀ 1).
    """
    groups = []
    for U, V in pairs.groups:
        rows = (U @ V.sum(-2, keepdim=True).mT > 0).to(U)
        columns = (V @ U.sum(-2, keepdim=True).mT > 0).to(V)
        groups.append((U * rows, V * columns))
    return Pairs(tuple(groups))


class Standardised(nn.Module):
    """Every entry less its mean, over its standard deviation: of the batch while training, after
    it of the running moments (batch normalisation without parameters)."""

    def __init__(self, entries: int) -> None:
        super().__init__()
        self.register_buffer("running_mean", torch.zeros(entries))
        self.register_buffer("running_var", torch.ones(entries))

    def forward(self, x: Tensor) -> Tensor:
        """(N, entries) → the same; a batch of one has no moments of its own."""
        mean, var = self.get_buffer("running_mean"), self.get_buffer("running_var")
        return F.batch_norm(x, mean, var, training=self.training and len(x) > 1)


class GlNet(nn.Module):
    """Equivariant layers, the invariant products Ũ Ṽᵀ, and an MLP. Accepts any rank."""

    def __init__(self, signature: Signature, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.scale = InputScale(signature)
        h = config.width
        first = [(len(names), n, m) for (n, m), names in signature.groups]
        inner = [(count, h, h) for count, _, _ in first]
        shapes = [first] + [inner] * (config.layers - 1)
        self.maps = nn.ModuleList(EquivariantLinear(s, h) for s in shapes)
        modules = len(signature) if config.head == "full" else 1
        self.has_norms = config.model == "gl-net-norms"
        self.out = mlp(modules * h * h, config)
        if self.has_norms:
            self.strength = mlp(len(signature), config)
        if config.standardise:
            self.moments = Standardised(modules * h * h)

    def invariants(self, pairs: Pairs) -> Tensor:
        """(N, L, h, h) products Ũ Ṽᵀ of all modules."""
        pairs = self.scale(pairs)
        for i, layer in enumerate(self.maps):
            pairs = layer(gl_gate(pairs) if i else pairs)
        return torch.cat([U @ V.mT for U, V in pairs.groups], dim=1)

    def forward(self, pairs: Pairs) -> Tensor:
        products = self.invariants(pairs)
        if not self.config.standardise:
            products = (4 * products).asinh()
        if self.config.head == "mean":
            products = products.mean(1, keepdim=True)
        products = products.flatten(1)
        if self.config.standardise:
            products = self.moments(products).asinh()
        out: Tensor = self.out(products)
        if self.has_norms:  # strength, which a small MLP finds hard to read off the entries
            out = out + self.strength(log_norms(self.scale(pairs)))
        return out


# ---- the baselines --------------------------------------------------------------------


def flat_factors(pairs: Pairs, rank: int) -> Tensor:
    """(N, Σ (n + m) r) every entry of U and V at one rank."""
    parts = [torch.cat([U.flatten(1), V.flatten(1)], 1) for U, V in pairs.padded(rank).groups]
    return torch.cat(parts, 1)


class FactorMlp(nn.Module):
    """MLP (or, ``linear``, one linear map) over the flattened factors: no invariance."""

    def __init__(self, signature: Signature, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.scale = InputScale(signature)
        d_in = sum(n + m for n, m in signature.shapes.values()) * config.rank
        linear = config.model == "linear"
        self.out = nn.Linear(d_in, config.outputs) if linear else mlp(d_in, config)

    def fit(self, pairs: Pairs) -> None:
        """Nothing but the scale is learnt beforehand."""

    def features(self, pairs: Pairs) -> Tensor:
        return flat_factors(self.scale(pairs), self.config.rank)

    def forward(self, pairs: Pairs) -> Tensor:
        out: Tensor = self.out(self.features(pairs))
        return out


class AlignedMlp(FactorMlp):
    """MLP over factors turned to a template LoRA's by orthogonal Procrustes (MLP + O-Align).

    Q = argmin ‖U Q − U_t‖² + ‖V Q − V_t‖² = P Sᵀ of the SVD of UᵀU_t + VᵀV_t. O(r)-invariant.
    """

    def __init__(self, signature: Signature, config: ModelConfig) -> None:
        super().__init__(signature, config)
        for i, ((n, m), names) in enumerate(signature.groups):
            self.register_buffer(f"template_U{i}", torch.zeros(len(names), n, config.rank))
            self.register_buffer(f"template_V{i}", torch.zeros(len(names), m, config.rank))

    def fit(self, pairs: Pairs) -> None:
        """Takes the training LoRA of median norm as the template."""
        scaled = self.scale(pairs.padded(self.config.rank))
        norms = sum((U.square().sum((1, 2, 3)) for U, _ in scaled.groups), torch.zeros(len(pairs)))
        middle = int(norms.argsort()[len(norms) // 2])
        for i, (U, V) in enumerate(scaled.groups):
            getattr(self, f"template_U{i}").copy_(U[middle])
            getattr(self, f"template_V{i}").copy_(V[middle])

    def features(self, pairs: Pairs) -> Tensor:
        groups = []
        with torch.no_grad():
            for i, (U, V) in enumerate(self.scale(pairs.padded(self.config.rank)).groups):
                U_t = getattr(self, f"template_U{i}").to(U)
                V_t = getattr(self, f"template_V{i}").to(V)
                left, _, right = torch.linalg.svd((U.mT @ U_t + V.mT @ V_t).double())
                Q = (left @ right).to(U)
                groups.append((U @ Q, V @ Q))
        return flat_factors(Pairs(tuple(groups)), self.config.rank)


class SpectrumMlp(nn.Module):
    """MLP over the logarithms of the r singular values of every U Vᵀ (MLP + SVD)."""

    FLOOR = 1e-4

    def __init__(self, signature: Signature, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.scale = InputScale(signature)
        self.out = mlp(len(signature) * config.rank, config)

    def features(self, pairs: Pairs) -> Tensor:
        parts, scaled = [], self.scale(pairs)
        with torch.no_grad():
            for s, (U, _) in zip(singular_values(scaled), scaled.groups, strict=True):
                s = F.pad(s[..., : self.config.rank], (0, max(0, self.config.rank - s.shape[-1])))
                parts.append((s.to(U) + self.FLOOR).log().flatten(1))
        return torch.cat(parts, 1)

    def forward(self, pairs: Pairs) -> Tensor:
        out: Tensor = self.out(self.features(pairs))
        return out


class DenseMlp(nn.Module):
    """MLP over every entry of every U Vᵀ (MLP + Dense): invariant, and O(n m)."""

    def __init__(self, signature: Signature, config: ModelConfig) -> None:
        super().__init__()
        self.scale = InputScale(signature)
        # Without dropout of its 10⁵ to 10⁶ inputs, which would cost more than the model.
        self.out = mlp(sum(n * m for n, m in signature.shapes.values()), config)[1:]

    def forward(self, pairs: Pairs) -> Tensor:
        products = [(U @ V.mT).flatten(1) for U, V in self.scale(pairs).groups]
        # Entries are about 1/√(nm) of the norm; brought to order one for the MLP.
        d = sum(p.shape[1] for p in products)
        out: Tensor = self.out(torch.cat(products, 1) * (d**0.5 / 4))
        return out


class PairTransformer(nn.Module):
    """One token a module, a linear map of its raw factors; two blocks; the mean token."""

    def __init__(self, signature: Signature, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.scale = InputScale(signature)
        width = config.hidden
        self.read = nn.ParameterList(
            nn.Parameter(
                normal(
                    len(names),
                    (n + m) * config.rank,
                    width,
                    over=((n + m) * config.rank) ** 0.5,
                )
            )
            for (n, m), names in signature.groups
        )
        self.positions = nn.Parameter(normal(len(signature), width, times=0.02))
        layer = nn.TransformerEncoderLayer(
            width, 4, 2 * width, config.dropout, batch_first=True, norm_first=True
        )
        self.blocks = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.out = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, config.outputs))

    def forward(self, pairs: Pairs) -> Tensor:
        tokens = []
        groups = self.scale(pairs).padded(self.config.rank).groups
        for (U, V), read in zip(groups, self.read, strict=True):
            flat = torch.cat([U.flatten(2), V.flatten(2)], 2)
            tokens.append(torch.einsum("nld,ldw->nlw", flat, read))
        h = self.blocks(torch.cat(tokens, 1) + self.positions)
        out: Tensor = self.out(h.mean(1))
        return out


LolModel = (
    GlNet
    | SharedGlNet
    | W2t
    | FactorMlp
    | SpectrumMlp
    | DenseMlp
    | PairTransformer
    | SpectralLinear
    | ProbeNet
)


def build_model(
    signature: Signature, config: ModelConfig, probes: Probes | None = None
) -> LolModel:
    """The model that a configuration names; gradient-probes needs the base's probes."""
    if config.model == PROBED:
        if probes is None:
            raise ValueError("no probes")
        return ProbeNet(signature, config, probes)
    classes: dict[str, Callable[[Signature, ModelConfig], LolModel]] = {
        "gl-net": GlNet, "gl-net-norms": GlNet, "mlp": FactorMlp, "linear": FactorMlp,
        "mlp-o-align": AlignedMlp, "mlp-svd": SpectrumMlp, "mlp-dense": DenseMlp,
        "transformer": PairTransformer, "gl-net-shared": SharedGlNet, "w2t": W2t,
        "spectral": SpectralLinear,
    }  # fmt: skip
    return classes[config.model](signature, config)
