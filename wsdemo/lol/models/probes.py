"""Gradient probes as a model: how much of the first-order change of a text's loss comes true.

GL-net's first layer with maps that the base gives instead of learnt ones, of whose products Ũ Ṽᵀ
the diagonal is read (lol/data/probes.py). One head, shared by all texts, reads a text's x summed
over the modules of a kind and a third of the depth, beside how strong the LoRA is there; what is
of the whole LoRA is read from the mean over texts. So few weights can be learnt from few LoRAs.
Ours.
"""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from wsdemo.lol.data.kinds import kinds_of, layer_count
from wsdemo.lol.data.pairs import Pairs, Signature
from wsdemo.lol.data.probes import EXTRA, Probes, probed_spectrum
from wsdemo.lol.models.parts import ModelConfig

PROBED = "gradient-probes"
"""The model's name, beside those of MODELS; it needs probes."""
THIRDS = 3
"""Parts of the depth that are summed apart."""
TOKEN = 16
"""Numbers of what is said of one text."""
FLOOR = 1e-8


def texts_of(labels: Sequence[str], probes: Probes) -> tuple[int, ...]:
    """Of each label, such as "loss gsm8k", which text it is of; none if one is of no text."""
    places = {name: i for i, name in enumerate(probes.names)}
    indices = [places.get(label.split(" ", 1)[-1], -1) for label in labels]
    return () if -1 in indices else tuple(indices)


class Cells(nn.Module):
    """Sums over the modules of a kind and a third of the depth, and the scale of those sums."""

    def __init__(self, signature: Signature) -> None:
        super().__init__()
        kinds = kinds_of(signature)
        depth = layer_count(kinds)
        starts = [0]
        for _, names in signature.groups:
            starts.append(starts[-1] + len(names))
        cells: dict[tuple[int, int], list[int]] = {}
        for k, kind in enumerate(kinds):
            for row, layer in zip(kind.rows, kind.layers, strict=True):
                third = layer * THIRDS // depth
                cells.setdefault((k, third), []).append(starts[kind.group] + row)
        self.members = list(cells.values())
        self.register_buffer("running_scale", torch.ones(len(cells)))
        self.register_buffer("running_total", torch.ones(1))
        self.register_buffer("running_mean", torch.zeros(2 * len(cells)))
        self.register_buffer("running_std", torch.ones(2 * len(cells)))

    def __len__(self) -> int:
        return len(self.members)

    def sums(self, x: Tensor) -> Tensor:
        """(N, L, …) → (N, cells, …)."""
        return torch.stack([x[:, members].sum(1) for members in self.members], 1)

    def norms(self, read: Pairs) -> Tensor:
        """(N, 2 · cells) log of each cell's norm, 0 if it is absent, and whether it is there."""
        square = self.sums(probed_spectrum(read)[0].square())
        present = (square > 0).to(square)
        return torch.cat([(square + FLOOR**2).log() / 2 * present, present], 1)

    @torch.no_grad()
    def fit(self, read: Pairs) -> None:
        """Measures each cell's changes, and the mean and spread of its norms, in training."""
        changes = self.sums(read.groups[0][0][..., :-EXTRA, 0])
        present = (self.norms(read)[:, len(self) :] > 0).sum(0).clamp(min=1)
        rms = (changes.square().mean(-1).sum(0) / present).sqrt()
        self.get_buffer("running_scale").copy_(rms.clamp(min=1e-3 * rms.max().clamp(min=1e-20)))
        total = changes.sum(1).square().mean().sqrt().clamp(min=1e-20)
        self.get_buffer("running_total").fill_(float(total))
        norms = self.norms(read)
        self.get_buffer("running_mean").copy_(norms.mean(0))
        self.get_buffer("running_std").copy_(norms.std(0).clamp(min=0.1))


class ProbeNet(nn.Module):
    """See the module. Accepts any rank and any subset of the modules.

    Args:
        signature: Modules.
        config: ``texts`` says which text each output is of; empty: outputs are of the whole LoRA.
        probes: The base's, for those modules; shared by all models of a predictor.
    """

    def __init__(self, signature: Signature, config: ModelConfig, probes: Probes) -> None:
        super().__init__()
        self.config, self.probes = config, probes
        self.scale = Cells(signature)
        cells, h = len(self.scale), config.hidden
        self.text = nn.Sequential(
            nn.Dropout(config.dropout),
            nn.Linear(4 * cells + 4, h), nn.LayerNorm(h), nn.GELU(),
            nn.Dropout(config.dropout), nn.Linear(h, TOKEN),
        )  # fmt: skip
        self.whole = nn.Sequential(nn.Linear(2 * cells, h), nn.GELU(), nn.Linear(h, TOKEN))
        per_text = bool(config.texts)
        self.out = nn.Sequential(
            nn.LayerNorm((2 if per_text else 3) * TOKEN),
            nn.Linear((2 if per_text else 3) * TOKEN, h), nn.GELU(),
            nn.Dropout(config.dropout), nn.Linear(h, 1 if per_text else config.outputs),
        )  # fmt: skip
        self.gain = nn.Parameter(torch.zeros(2, config.outputs))
        self.offset = nn.Parameter(torch.zeros(config.outputs))

    def features(self, read: Pairs) -> tuple[Tensor, Tensor]:
        """(N, S, 4 · cells + 4) of each text, and (N, S, 2) first-order change of its loss.

        Of each cell: the change; it less the mean over texts; and both as a share of the LoRA's
        largest, which strength does not change.
        """
        x = self.scale.sums(read.groups[0][0][..., :-EXTRA, 0]).mT  # (N, S, cells)
        x = x / self.scale.get_buffer("running_scale")
        spread = x.square().mean((1, 2), keepdim=True).sqrt().clamp(min=1e-20)
        total = (x * self.scale.get_buffer("running_scale")).sum(-1, keepdim=True)
        total = total / self.scale.get_buffer("running_total")
        size = total.square().mean((1, 2), keepdim=True).sqrt().clamp(min=1e-20)
        parts = []
        for value, unit in ((x, spread), (total, size)):
            off = value - value.mean(1, keepdim=True)
            parts += [(2 * value).asinh(), (2 * off).asinh(), value / unit, off / unit]
        wide = [parts[i].clamp(-6, 6) for i in range(8)]
        return torch.cat(wide, -1), torch.cat([total, parts[4]], -1)

    def forward(self, pairs: Pairs) -> Tensor:
        """N LoRAs, or what was read of them, → (N, outputs)."""
        read = self.probes.read(pairs)
        if self.training:
            read = without_some(read, self.config.left_out)
        x, total = self.features(read)
        norms = self.scale.norms(read) - self.scale.get_buffer("running_mean")
        whole = self.whole(norms / self.scale.get_buffer("running_std"))
        texts = self.text(x)
        if not self.config.texts:
            pooled = torch.cat([texts.mean(1), texts.std(1), whole], -1)
            out: Tensor = self.out(pooled)
            return out
        chosen = list(self.config.texts)
        chosen_texts = texts[:, chosen]
        both = torch.cat([chosen_texts, whole[:, None].expand_as(chosen_texts)], -1)
        linear = total[:, chosen, 0] * self.gain[0] + total[:, chosen, 1] * self.gain[1]
        by_text: Tensor = self.out(both)[..., 0] + linear + self.offset
        return by_text


def without_some(read: Pairs, chance: float) -> Pairs:
    """What was read, with modules left out at random; draws from torch's global generator."""
    ((U, V),) = read.groups
    keep = torch.rand(*U.shape[:2], 1, 1) >= chance
    return replace(read, groups=((U * keep, V),))
