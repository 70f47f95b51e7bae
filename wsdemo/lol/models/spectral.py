"""The plain baseline: five statistics of every module's singular values, read by a linear model.

After *Weight space Detection of Backdoors in LoRA Adapters* (arXiv 2602.15195): leading singular
value, Frobenius norm, energy concentration, spectral entropy, kurtosis; logistic regression for
yes-or-no labels, ridge regression for values. Both are trained here as the other models are,
AdamW's weight decay being the ridge.
"""

import torch
from torch import Tensor, nn

from wsdemo.lol.data.canonical import singular_values
from wsdemo.lol.data.pairs import Pairs, Signature
from wsdemo.lol.models.parts import InputScale, ModelConfig
from wsdemo.lora.geometry import spectral_entropy

STATISTICS = 5
FLOOR = 1e-6


def spectral_statistics(s: Tensor) -> Tensor:
    """(…, r) singular values, zeros at the end → (…, 5).

    log σ₁; log ‖σ‖; σ₁² / Σ σ²; the entropy of σ² / Σ σ²; the kurtosis of those σ that are not 0,
    0 where there is one. All five are zero for an update of zero.
    """
    square = s.square()
    total = square.sum(-1, keepdim=True)
    share = square / total.clamp(min=1e-30)
    entropy = spectral_entropy(s)
    seen = (s > 1e-7 * s[..., :1]).to(s)
    count = seen.sum(-1, keepdim=True).clamp(min=1)
    off = (s - s.sum(-1, keepdim=True) / count) * seen
    second, fourth = (off.pow(k).sum(-1) / count[..., 0] for k in (2, 4))
    spread = second > 1e-12 * square[..., 0]
    kurtosis = torch.where(spread, fourth / second.square().clamp(min=1e-30), 0.0)
    norms = [(1 + x / FLOOR).log() for x in (s[..., 0], total[..., 0].sqrt())]
    return torch.stack([*norms, share[..., 0], entropy, kurtosis], -1)


class SpectralLinear(nn.Module):
    """A linear model of the statistics, standardised by those of the training LoRAs."""

    def __init__(self, signature: Signature, config: ModelConfig) -> None:
        super().__init__()
        self.scale = InputScale(signature)
        d_in = len(signature) * STATISTICS
        self.register_buffer("running_mean", torch.zeros(d_in))
        self.register_buffer("running_std", torch.ones(d_in))
        self.out = nn.Linear(d_in, config.outputs)
        nn.init.zeros_(self.out.weight)

    def statistics(self, pairs: Pairs) -> Tensor:
        """Five numbers of every module's singular values: (N, L · 5)."""
        parts = [spectral_statistics(s) for s in singular_values(self.scale(pairs))]
        return torch.cat(parts, 1).flatten(1).to(self.out.weight)

    @torch.no_grad()
    def fit(self, pairs: Pairs) -> None:
        """Measures mean and spread of the statistics of the training LoRAs."""
        statistics = torch.cat([self.statistics(part) for part in pairs.chunks()])
        self.get_buffer("running_mean").copy_(statistics.mean(0))
        self.get_buffer("running_std").copy_(statistics.std(0).clamp(min=0.05))

    def forward(self, pairs: Pairs) -> Tensor:
        """N LoRAs → (N, outputs)."""
        mean, std = self.get_buffer("running_mean"), self.get_buffer("running_std")
        x = (self.statistics(pairs) - mean) / std
        out: Tensor = self.out(x / x.shape[1] ** 0.5)
        return out
