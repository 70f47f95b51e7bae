"""Probes: what a small step along ΔW does to known texts, by the base's own gradients.

A base model's loss on a text t has a gradient G = ∂loss_t/∂W at every weight, and to first order a
LoRA changes that loss by Σ_m ⟨G_m, ΔW_m⟩. Gradients of language models are nearly of rank one
(SmolLM2: two thirds of ‖G‖² on average), so that two vectors a text and module say most of it:

    x_tm = uᵀ U Vᵀ v,  G_tm ≈ u vᵀ

It depends on U Vᵀ alone. What raw updates hide, since A is random, it shows: LoRAs of one text, of
other seeds, are as good as orthogonal, and still all go down the same gradient. Ours.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from wsdemo.checkpoints import load_checkpoint, save_checkpoint
from wsdemo.errors import WsdemoError
from wsdemo.lol.data.canonical import singular_values
from wsdemo.lol.data.pairs import Pairs, Signature
from wsdemo.lora.geometry import effective_rank

EXTRA = 2
"""Numbers of a module beside those of the texts: ‖ΔW‖ and ‖ΔW‖ times the effective rank, which
scale with the update as the others do."""


@dataclass(frozen=True)
class Probes:
    """Rank-one gradients of a base's loss on some texts.

    Attributes:
        names: S texts.
        groups: Per group of the signature: u (L, S, n), with the gradient's norm, and v (L, S, m),
            of length one.
    """

    names: tuple[str, ...]
    groups: tuple[tuple[Tensor, Tensor], ...]

    def changes(self, pairs: Pairs) -> Tensor:
        """(N, L, S) first-order change of every text's loss by every module, in nats."""
        parts = [
            ((u @ U) * (v @ V)).sum(-1)  # (L, S, n) @ (N, L, n, r) → (N, L, S, r)
            for (U, V), (u, v) in zip(pairs.groups, self.groups, strict=True)
        ]
        return torch.cat(parts, 1)

    def read(self, pairs: Pairs) -> Pairs:
        """LoRAs as what the probes say of them: one group, U (N, L, S + EXTRA, 1) and V = 1.

        Weaker modules and other strengths of the LoRA are those of what was read of it.
        """
        if self.has_read(pairs):
            return pairs
        parts = []
        for part in pairs.chunks():
            norms, ranks = [], []
            for s in singular_values(part):
                norms.append(s.square().sum(-1).sqrt())
                ranks.append(effective_rank(s))
            norm = torch.cat(norms, 1)
            extra = torch.stack([norm, norm * torch.cat(ranks, 1)], -1)
            parts.append(torch.cat([self.changes(part), extra.float()], -1)[..., None])
        U = torch.cat(parts)
        return Pairs(((U, torch.ones_like(U[..., :1, :])),))

    def has_read(self, pairs: Pairs) -> bool:
        """Whether these are what ``read`` returns."""
        U = pairs.groups[0][0]
        return len(pairs.groups) == 1 and U.shape[-2:] == (len(self.names) + EXTRA, 1)

    def tensors(self) -> dict[str, Tensor]:
        """For a file: ``probes.left.G`` and ``probes.right.G`` → the sides of group G."""
        sides = [("left", 0), ("right", 1)]
        return {
            f"probes.{side}.{g}": group[i]
            for g, group in enumerate(self.groups)
            for side, i in sides
        }


def probed_spectrum(read: Pairs) -> tuple[Tensor, Tensor]:
    """(N, L) ‖ΔW‖_F and effective rank of what ``Probes.read`` returned; 1 of a zero update."""
    norm, product = read.groups[0][0][..., -EXTRA:, 0].unbind(-1)
    return norm, torch.where(norm > 0, product / norm.clamp(min=1e-30), 1.0)


# ---- the file ---------------------------------------------------------------------------------


def save_probes(
    path: Path, names: Sequence[str], modules: Mapping[str, tuple[Tensor, Tensor]]
) -> None:
    """Writes probes by module: u (S, n) and v (S, m)."""
    tensors = {f"{k}/{side}": uv[i] for k, uv in modules.items() for i, side in enumerate("uv")}
    save_checkpoint(path, tensors, {"kind": "probes", "names": list(names)})


def load_probes(path: Path, signature: Signature) -> Probes:
    """Reads what ``save_probes`` wrote, for the modules of a family.

    Raises:
        WsdemoError: It holds no probes, or none for a module.
    """
    tensors, meta = load_checkpoint(path)
    spellings = signature.spellings
    missing = [k for k in spellings if f"{k}/u" not in tensors]
    if meta.get("kind") != "probes" or missing:
        raise WsdemoError(
            "No probes",
            f"{path.name} has none for {len(missing)} of {len(spellings)} modules"
            f"{', such as ' + missing[0] if missing else ''}.",
            "Compute them for this base: python -m wsdemo.train.loras.smollm2_probes.",
        )
    name_of = {spelt: name for name, spelt in spellings.items()}
    groups = tuple(
        (
            torch.stack([tensors[f"{name_of[n]}/u"].float() for n in names]),
            torch.stack([tensors[f"{name_of[n]}/v"].float() for n in names]),
        )
        for _, names in signature.groups
    )
    return Probes(tuple(meta["names"]), groups)
