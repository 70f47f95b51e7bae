"""W2T (*LoRA Weights Already Know What They Can Do*, arXiv 2603.15990): tokens of singular triples.

Every update is brought to its canonical form P diag(σ) Qᵀ; each (p, σ, q) is a token; a
transformer reads the tokens of a module, their mean is the module's token; another one reads the
modules; their mean is the LoRA's embedding, from which a linear layer predicts.

Two things are left open by the canonical form. Modules: those of one kind share the map to
tokens here, with an embedding of the layer, as elsewhere in this folder. Signs: (p, q) and
(−p, −q) are one; in training each is drawn at random, afterwards the largest entry of q is
positive, so that a prediction is the same for every factorisation.
"""

import torch
from torch import Tensor, nn

from wsdemo.lol.data.canonical import canonical, singular_values
from wsdemo.lol.data.kinds import kinds_of, layer_count
from wsdemo.lol.data.pairs import Pairs, Signature
from wsdemo.lol.models.parts import InputScale, ModelConfig, normal

FLOOR = 1e-4
"""Added to σ, of updates scaled to about one, before the logarithm."""


def blocks(config: ModelConfig, count: int) -> nn.TransformerEncoder:
    """Transformer layers over tokens of ``config.hidden`` numbers."""
    layer = nn.TransformerEncoderLayer(
        config.hidden, 4, 2 * config.hidden, config.dropout, batch_first=True, norm_first=True
    )
    return nn.TransformerEncoder(layer, count, enable_nested_tensor=False)


def signs(Q: Tensor) -> Tensor:
    """(…, 1, r) ±1 that make the largest entry of every column of (…, m, r) positive."""
    largest = Q.gather(-2, Q.abs().argmax(-2, keepdim=True))
    return torch.where(largest < 0, -1.0, 1.0).to(Q)


def pooled(read: nn.TransformerEncoder, tokens: Tensor, present: Tensor) -> Tensor:
    """(B, d) mean of the present of (B, T, d) tokens, read together; 0 where none is.

    Args:
        read: Sees the present ones alone.
        tokens: (B, T, d).
        present: (B, T) bool.
    """
    pooled = tokens.new_zeros(len(tokens), tokens.shape[-1])
    rows = present.any(1)
    if not rows.any():
        return pooled
    kept = present[rows]
    seen = read(tokens[rows], src_key_padding_mask=~kept) * kept[..., None]
    pooled[rows] = seen.sum(1) / kept.sum(1, keepdim=True)
    return pooled


class W2t(nn.Module):
    """See the module. Accepts any rank; reads the first ``config.rank`` triples of a module."""

    def __init__(self, signature: Signature, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.scale = InputScale(signature)
        self.kinds = kinds_of(signature)
        width = config.hidden
        self.read = nn.ModuleList(nn.Linear(sum(kind.shape) + 1, width) for kind in self.kinds)
        self.place = nn.Parameter(normal(config.rank, width, times=0.02))
        self.kind = nn.Parameter(normal(len(self.kinds), width, times=0.02))
        self.layer = nn.Parameter(normal(layer_count(self.kinds), width, times=0.02))
        self.within, self.across = blocks(config, 1), blocks(config, 2)
        self.norm = nn.LayerNorm(width)
        self.out = nn.Linear(width, config.outputs)

    def triples(self, pairs: Pairs) -> list[tuple[Tensor, Tensor]]:
        """Per kind (N, layers, r, n + m + 1) of p, q and log σ, and (N, layers, r) which are there.

        p and q have entries of about one.
        """
        triples = []
        spectra = singular_values(pairs)
        for kind in self.kinds:
            rows = list(kind.rows)
            P, Q = (x[:, rows] for x in pairs.groups[kind.group])
            s = spectra[kind.group][:, rows].to(P)
            root = s.sqrt().clamp(min=1e-12)[..., None, :]
            sign = signs(Q)
            if self.training:
                sign = (torch.rand(sign.shape) < 0.5).to(Q) * 2 - 1
            n, m = kind.shape
            parts = [P / root * sign * n**0.5, Q / root * sign * m**0.5,
                     (s + FLOOR).log()[..., None, :]]  # fmt: skip
            triples.append((torch.cat(parts, -2).mT, s > 0))
        return triples

    def embedding(self, pairs: Pairs) -> Tensor:
        """(N, width) by which LoRAs are compared."""
        scaled = self.scale(canonical(pairs, self.config.rank))
        tokens, present = [], []
        for i, (triples, mask) in enumerate(self.triples(scaled)):
            inside = self.read[i](triples) + self.place
            flat = pooled(self.within, inside.flatten(0, 1), mask.flatten(0, 1))
            module = flat.unflatten(0, mask.shape[:2])
            tokens.append(module + self.kind[i] + self.layer[list(self.kinds[i].layers)])
            present.append(mask.any(-1))
        return pooled(self.across, torch.cat(tokens, 1), torch.cat(present, 1))

    def forward(self, pairs: Pairs) -> Tensor:
        """N LoRAs → (N, outputs)."""
        out: Tensor = self.out(self.norm(self.embedding(pairs)))
        return out
