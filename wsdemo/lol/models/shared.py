"""GL-net whose maps are shared by all layers: small, and for LoRAs of any modules and any rank.

GL-net has a matrix a side of every module: five million numbers for 210 modules of a language
model of 135 million, and an answer that has seen each of them in few LoRAs. Here modules of one
kind (q_proj of every layer) share the maps Φ and Ψ, an embedding of the layer stretches their
rows, and what the products say is summed over the layers of a kind:

    Ũ = diag(1 + g(e_l)) Φ U,  Ṽ = diag(1 + g'(e_l)) Ψ V,  t = read(asinh(4 Ũ Ṽᵀ)) ∘ (1 + w(e_l))
    out = head(Σ_l t of every kind, grams) + strength(log ‖U Vᵀ‖, presence of every module)

Beside the products stand the Gram matrices of the outputs (``grams``), which see what a LoRA was
trained on though its inputs are drawn at random.

All of it depends on U Vᵀ alone. A module that is not there has a product of zero, adds nothing to
the sum, and says so to the second head. While it is trained, modules and weak directions are left
out at random (``thinned``). Ours.
"""

import torch
from torch import Tensor, nn

from wsdemo.lol.data.canonical import canonical, thinned
from wsdemo.lol.data.kinds import kinds_of, layer_count
from wsdemo.lol.data.pairs import Pairs, Signature
from wsdemo.lol.models.grams import OutputGrams
from wsdemo.lol.models.parts import InputScale, ModelConfig, log_norms, mlp, normal

LAYER = 8
"""Numbers of a layer's embedding."""
TOKEN = 32
"""Numbers that are summed over the layers of a kind."""
LEAST = -6.0
"""Log norms below it, of what is scaled to one, count as it."""


class SharedGlNet(nn.Module):
    """See the module. Accepts any rank, of which it reads the ``config.rank`` strongest directions,
    and modules that are zero."""

    def __init__(self, signature: Signature, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.scale = InputScale(signature)
        self.kinds = kinds_of(signature)
        h = config.width
        self.left, self.right, self.read = (nn.ParameterList() for _ in range(3))
        self.stretch, self.weigh = nn.ModuleList(), nn.ModuleList()
        for kind in self.kinds:
            n, m = kind.shape
            self.left.append(nn.Parameter(normal(h, n, over=n**0.5)))
            self.right.append(nn.Parameter(normal(h, m, over=m**0.5)))
            self.read.append(nn.Parameter(normal(h * h, TOKEN, over=h)))
            self.stretch.append(nn.Linear(LAYER, 2 * h, bias=False))
            self.weigh.append(nn.Linear(LAYER, TOKEN, bias=False))
        self.layers = nn.Parameter(normal(layer_count(self.kinds), LAYER))
        self.grams = OutputGrams(signature, TOKEN)
        self.out = mlp((len(self.kinds) + 1) * TOKEN, config)
        self.strength = mlp(2 * len(signature), config)

    @torch.no_grad()
    def fit(self, pairs: Pairs) -> None:
        """Starts the maps at the directions that the training LoRAs of each kind have most of.

        Those of Σ |U Vᵀ| over LoRAs and layers: random rows of 1,536 would see a hundredth.
        """
        sides = [(sketch, 0) for sketch in self.left] + [(sketch, 1) for sketch in self.right]
        grams = [torch.zeros(sketch.shape[1], sketch.shape[1]) for sketch, _ in sides]
        for part in pairs.chunks():
            scaled = self.scale(canonical(part, self.config.rank))
            for gram, (_, side), kind in zip(grams, sides, 2 * self.kinds, strict=True):
                factor = scaled.groups[kind.group][side][:, list(kind.rows)]
                columns = factor.transpose(-1, -2).flatten(0, 2).to(gram)
                gram += columns.mT @ columns
        for gram, (sketch, _) in zip(grams, sides, strict=True):
            directions = torch.linalg.eigh(gram.double()).eigenvectors
            leading = directions[:, -len(sketch) :].mT.flip(0)
            sketch[: len(leading)] = 2 * leading.to(sketch)
        self.grams.fit(pairs)

    def products(self, pairs: Pairs) -> list[Tensor]:
        """Per kind (N, layers, h, h) Ũ Ṽᵀ of scaled LoRAs."""
        products = []
        for i, kind in enumerate(self.kinds):
            U, V = (x[:, list(kind.rows)] for x in pairs.groups[kind.group])
            stretch = 1 + 0.1 * self.stretch[i](self.layers[list(kind.layers)])
            a, b = stretch.chunk(2, -1)  # (layers, h) each
            products.append(
                (a[..., None] * (self.left[i] @ U)) @ (b[..., None] * (self.right[i] @ V)).mT
            )
        return products

    def tokens(self, pairs: Pairs) -> Tensor:
        """(N, (kinds + 1) · TOKEN) what scaled LoRAs say, summed over layers: products, grams."""
        tokens = []
        for i, (kind, product) in enumerate(zip(self.kinds, self.products(pairs), strict=True)):
            spoken = (4 * product).asinh().flatten(2) @ self.read[i]
            weight = 1 + 0.3 * self.weigh[i](self.layers[list(kind.layers)])
            tokens.append((spoken * weight).sum(1) / len(kind.rows) ** 0.5)
        return torch.cat([*tokens, self.grams(pairs)], -1)

    def scaled(self, pairs: Pairs) -> Pairs:
        """The strongest ``config.rank`` directions of every module, scaled; fewer in training."""
        if self.training or pairs.rank > self.config.rank:
            pairs = canonical(pairs, self.config.rank)
        if self.training:
            pairs = thinned(pairs, self.config.left_out, self.config.least_energy)
        return self.scale(pairs)

    def embedding(self, pairs: Pairs) -> Tensor:
        """(N, (kinds + 1) · TOKEN) by which LoRAs are compared."""
        return self.tokens(self.scaled(pairs))

    def forward(self, pairs: Pairs) -> Tensor:
        """N LoRAs → (N, outputs)."""
        pairs = self.scaled(pairs)
        norms = log_norms(pairs).clamp(min=LEAST)
        present = (norms > LEAST).to(norms)
        out: Tensor = self.out(self.tokens(pairs))
        return out + self.strength(torch.cat([norms * present, present], -1))
