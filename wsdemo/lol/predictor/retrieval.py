"""LoRAs like this one: nearest by the cosine of embeddings, and how often they are of one kind."""

import torch
from torch import Tensor
from torch.nn import functional as F


def nearest(query: Tensor, library: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Of each of (N, d) embeddings the k nearest of (M, d): their cosines and places, (N, k)."""
    nearest = (F.normalize(query, dim=1) @ F.normalize(library, dim=1).T).topk(
        min(k, len(library)), dim=1
    )
    return nearest.values, nearest.indices


def recall_at_k(embeddings: Tensor, relevant: Tensor, k: int) -> float:
    """Mean over LoRAs of the share of relevant others among its k nearest others.

    A LoRA with fewer than k relevant others can reach 1 too; one with none does not count.

    Args:
        embeddings: (N, d).
        relevant: (N, N) bool, which LoRAs are alike by their labels; the diagonal is not read.
        k: Neighbours.

    Returns:
        0 to 1; NaN where no LoRA has a relevant other.
    """
    itself = torch.eye(len(embeddings), dtype=torch.bool)
    alike = relevant & ~itself
    unit = F.normalize(embeddings, dim=1)
    places = (unit @ unit.T).masked_fill(itself, -2.0).topk(min(k, len(itself) - 1), dim=1).indices
    hits = alike.gather(1, places).sum(1)
    possible = alike.sum(1).clamp(max=k)
    counted = possible > 0
    return float((hits[counted] / possible[counted]).double().mean())


def alike_by_sources(has: Tensor, least: float = 0.5) -> Tensor:
    """(N, N) whether two rows of (N, k) 0/1 labels share at least this part of their union."""
    x = has.double()
    both = x @ x.T
    union = x.sum(1)[:, None] + x.sum(1)[None] - both
    return both >= least * union.clamp(min=1)
