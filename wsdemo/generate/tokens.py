"""The order of weights in a token: the only module that knows it.

Paper A, 3.5: in layer l, token i is concat(a_i, b_i), the i-th rank-one pair.
Layers differ in size (the output layer is narrow), so tokens are padded with
zeros to the widest. An MLP has no pairs: the weight and bias of a layer are laid
end to end and cut into chunks of at most 1,024 (HyperDiffusion takes one token a tensor).
"""

import torch
from torch import Tensor

from wsdemo.fields.adapters import Adapter


class TokenLayout:
    """Maps flat instances (n, D) to tokens (n, layers, per_layer, token_dim) and back.

    Attributes:
        layers: Number of groups of tokens (layers of the field).
        per_layer: Tokens per group: r for low-rank representations.
        token_dim: Entries of a token, padding included.
    """

    def __init__(self, adapter: Adapter) -> None:
        tensors = adapter.tensors(torch.arange(adapter.size)[None])
        names = [name for name, _, _ in adapter.field_config.layer_shapes()]
        if adapter.config.kind == "mlp":
            rows = [
                _chunks(
                    torch.cat(
                        [tensors[f"{n}.weight"][0].flatten(), tensors[f"{n}.bias"][0].flatten()]
                    )
                )
                for n in names
            ]
        else:
            rows = [torch.cat([tensors[f"{n}.A"][0], tensors[f"{n}.B"][0].T], dim=1) for n in names]
        self.layers = len(rows)
        self.per_layer = max(len(r) for r in rows)
        self.token_dim = max(r.shape[1] for r in rows)
        # index[l, i, j]: position in the flat vector; D stands for padding.
        index = torch.full((self.layers, self.per_layer, self.token_dim), adapter.size)
        for layer, row in enumerate(rows):
            index[layer, : row.shape[0], : row.shape[1]] = row
        self.index = index
        inverse = torch.empty(adapter.size + 1, dtype=torch.long)
        inverse[index.flatten()] = torch.arange(index.numel())
        self.inverse = inverse[:-1]

    def to_tokens(self, x: Tensor) -> Tensor:
        """(n, D) → (n, layers, per_layer, token_dim), padding zero."""
        padded = torch.cat([x, x.new_zeros(len(x), 1)], dim=1)
        return padded[:, self.index.to(x.device)]

    def from_tokens(self, tokens: Tensor) -> Tensor:
        """(n, layers, per_layer, token_dim) → (n, D)."""
        return tokens.flatten(1)[:, self.inverse.to(tokens.device)]


def _chunks(flat: Tensor, size: int = 1024) -> Tensor:
    """Cuts positions (m,) into equal rows of at most ``size``, repeating the last position.

    A repeated position is written once on the way back (the last copy wins).
    """
    count = -(-len(flat) // size)
    width = -(-len(flat) // count)
    return torch.cat([flat, flat[-1:].expand(count * width - len(flat))]).view(count, width)
