"""What the output side of an update says, whatever its input side was drawn from.

A LoRA starts at a random A (r, m), and training moves B far more than A: U Vᵀ = B A lies in a
random subspace of its inputs, so that two LoRAs of one text, of other seeds, are as good as
orthogonal (on SmolLM2 a cosine of 0.005). Their outputs are not random: the columns of B span what
gradients span. The Gram matrix of the outputs forgets the inputs,

    G = Φ (U Vᵀ)(U Vᵀ)ᵀ Φᵀ / ‖U Vᵀ‖² = (Φ U)(VᵀV)(Φ U)ᵀ / tr(UᵀU VᵀV),

and depends on U Vᵀ alone. Outputs of a layer (heads, hidden units) have no counterpart in another,
so each module has its own Φ; what its G says is summed over modules, a piece of evidence each.
Ours.
"""

import torch
from torch import Tensor, nn

from wsdemo.lol.data.canonical import canonical
from wsdemo.lol.data.pairs import Pairs, Signature
from wsdemo.lol.models.parts import normal

NARROW, FEW, MANY = 1024, 2, 6
"""Rows of Φ: FEW for modules of more outputs than NARROW, else MANY; large layers would hold most
of the parameters."""
TINY = 1e-20


class OutputGrams(nn.Module):
    """N LoRAs → (N, tokens): the sum over modules of what their Gram matrices say."""

    def __init__(self, signature: Signature, tokens: int) -> None:
        super().__init__()
        self.maps, self.read = nn.ParameterList(), nn.ParameterList()
        for i, ((n, _), names) in enumerate(signature.groups):
            h = min(n, FEW if n > NARROW else MANY)
            entries = h * (h + 1) // 2
            self.maps.append(nn.Parameter(normal(len(names), h, n, over=n**0.5)))
            self.read.append(nn.Parameter(normal(len(names), entries, tokens, over=entries**0.5)))
            self.register_buffer(f"running_mean{i}", torch.zeros(len(names), entries))
            self.register_buffer(f"running_std{i}", torch.ones(len(names), entries))

    def grams(self, pairs: Pairs) -> list[tuple[Tensor, Tensor]]:
        """Per group (N, L, h (h + 1) / 2) entries of G, and (N, L) which modules are there."""
        grams = []
        for (U, V), maps in zip(pairs.groups, self.maps, strict=True):
            inner = V.mT @ V
            square = ((U.mT @ U) * inner).sum((-1, -2))
            mapped = maps @ U  # (N, L, h, r)
            G = mapped @ inner @ mapped.mT / square.clamp(min=TINY)[..., None, None]
            rows, columns = torch.triu_indices(*G.shape[-2:])
            grams.append((G[..., rows, columns], square > TINY))
        return grams

    @torch.no_grad()
    def fit(self, pairs: Pairs) -> None:
        """Starts each Φ at the leading output directions of the training LoRAs, and measures G.

        Every LoRA counts the same, however strong it is.
        """
        for maps, group in zip(self.maps, pairs.groups, strict=True):
            for row in range(len(maps)):
                module = Pairs(((group[0][:, [row]], group[1][:, [row]]),), pairs.is_canonical)
                ((U, V),) = canonical(module.in_full()).groups
                outputs = (U * V.norm(dim=-2, keepdim=True))[:, 0]  # its Gram matrix is U Vᵀ's
                norm = outputs.flatten(1).norm(dim=1).clamp(min=TINY**0.5)
                wide = (outputs / norm[:, None, None]).permute(1, 0, 2).flatten(1)
                h = maps.shape[1]
                directions = torch.svd_lowrank(wide, q=min(h + 6, *wide.shape))[0]
                leading = directions[:, :h].mT
                maps[row, : len(leading)] = leading.to(maps)
        parts = [self.grams(part) for part in pairs.chunks()]
        for g, groups in enumerate(zip(*parts, strict=True)):
            entries = torch.cat([e for e, _ in groups])
            present = torch.cat([t for _, t in groups])[..., None].to(entries)
            count = present.sum(0).clamp(min=1)
            mean = (entries * present).sum(0) / count
            spread = ((entries - mean).square() * present).sum(0) / count
            self.get_buffer(f"running_mean{g}").copy_(mean)
            self.get_buffer(f"running_std{g}").copy_(spread.sqrt().clamp(min=1e-4))

    def forward(self, pairs: Pairs) -> Tensor:
        """(N, tokens), over the root of how many modules are there; 0 where none is."""
        total, count = torch.zeros(()), torch.zeros(())
        for g, (entries, present) in enumerate(self.grams(pairs)):
            mean, std = self.get_buffer(f"running_mean{g}"), self.get_buffer(f"running_std{g}")
            x = ((entries - mean) / std).clamp(-5, 5) * present[..., None]
            total = total + torch.einsum("nle,let->nt", x, self.read[g])
            count = count + present.sum(1, keepdim=True)
        return total / count.clamp(min=1) ** 0.5
