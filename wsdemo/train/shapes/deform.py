"""Random deformations of sampled signed distances: mirror, stretch, bend.

A few hundred shapes are learnt by heart at once, so every time one is seen it is another: with T
the deformation, what is solid at p is solid at q = T(p). The surface moves exactly; the distance
does to first order, d'(q) = d(p) / ‖J⁻ᵀ n‖, with J the Jacobian of T at p and n = ∇d(p), taken
from the coarse grid. It is truncated close to the surface, where that is right.

    T(p) = S M p + b (t² − ¼) e_i,   t = (S M p)_j,  j ≠ i
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

SHRINK = 0.15
"""Axes are scaled by 1 to 1 − this."""
BEND = 0.05
"""Standard deviation of b, in units of the normalised mesh."""
CHANGED = 0.75
"""Share of shapes that are stretched and bent at all; half are mirrored."""


@dataclass(frozen=True)
class Deformation:
    """A deformation of each of n shapes.

    Attributes:
        factors: (n, 3) float, the diagonal of S M; negative where mirrored.
        bend: (n,) float, b.
        axes: (n, 2) long, i and j.
    """

    factors: Tensor
    bend: Tensor
    axes: Tensor

    @classmethod
    def draw(
        cls, mirror: Tensor, generator: torch.Generator, spread: float = BEND
    ) -> "Deformation":
        """One of each shape that may be mirrored along axis (n,); the largest factor is 1, and b
        has a standard deviation of ``spread`` where shapes are changed."""
        n = len(mirror)
        changed = (torch.rand(n, generator=generator) < CHANGED).float()
        factors = 1 - SHRINK * changed[:, None] * torch.rand(n, 3, generator=generator)
        factors = factors / factors.amax(1, keepdim=True)
        flips = torch.where(torch.rand(n, generator=generator) < 0.5, -1.0, 1.0)
        rows = torch.arange(n)
        factors[rows, mirror] *= flips
        axes = torch.rand(n, 3, generator=generator).argsort(1)[:, :2]
        bend = spread * changed * torch.randn(n, generator=generator).clamp(-2, 2)
        return cls(factors, bend, axes)

    def _offset(self, p: Tensor) -> Tensor:
        """b (t² − ¼) e_i at straight points (n, P, 3)."""
        t = p.gather(2, self.axes[:, None, 1:].expand(-1, p.shape[1], -1))
        amount = self.bend[:, None, None] * (t * t - 0.25)
        return torch.zeros_like(p).scatter(
            2, self.axes[:, None, :1].expand(-1, p.shape[1], -1), amount
        )

    def forwards(self, p: Tensor) -> Tensor:
        """T(p) of (n, P, 3)."""
        straight = p * self.factors[:, None]
        return straight + self._offset(straight)

    def backwards(self, q: Tensor) -> Tensor:
        """T⁻¹(q) of (n, P, 3): bending leaves t as it is."""
        return (q - self._offset(q)) / self.factors[:, None]

    def stretch_of(self, p: Tensor, normals: Tensor) -> Tensor:
        """‖J⁻ᵀ n‖ at points (n, P, 3) with unit normals (n, P, 3) → (n, P)."""
        # J = (I + 2 b t e_i e_jᵀ) S M, so J⁻ᵀ n = (I − 2 b t e_j e_iᵀ) (S M)⁻¹ n.
        i, j = (self.axes[:, None, k : k + 1].expand(-1, p.shape[1], -1) for k in (0, 1))
        t = (p * self.factors[:, None]).gather(2, j)
        unbent = normals / self.factors[:, None]
        sheared = unbent.scatter_add(2, j, -2 * self.bend[:, None, None] * t * unbent.gather(2, i))
        return length_of(sheared, 2)[..., 0]


def length_of(vectors: Tensor, dim: int) -> Tensor:
    """Euclidean lengths along a dimension, which is kept; a third of the time of ``norm``'s."""
    return vectors.square().sum(dim, keepdim=True).sqrt()


def sample_grid(grids: Tensor, points: Tensor) -> Tensor:
    """Values (n, P, c) of grids (n, c, G, G, G), axes x, y, z from -1 to 1, at (n, P, 3)."""
    # grid_sample's coordinates run from the last axis to the first.
    places = points.flip(-1)[:, :, None, None]
    values = F.grid_sample(grids, places, padding_mode="border", align_corners=True)
    return values[..., 0, 0].transpose(1, 2)


def normals_of(grids: Tensor) -> Tensor:
    """Unit gradients (n, 3, G, G, G) of distances (n, G, G, G)."""
    gradients = torch.stack(torch.gradient(grids, dim=(1, 2, 3)), 1)
    return gradients / length_of(gradients, 1).clamp(min=1e-12)


def mirror_axes(grids: Tensor, categories: Tensor) -> Tensor:
    """(n,) the axis along which each shape's category differs least from its mirror images."""
    axes = torch.zeros(len(grids), dtype=torch.long)
    for category in categories.unique():
        members = categories == category
        some = grids[members][:64].float()
        apart = [float((some - some.flip(axis + 1)).abs().mean()) for axis in range(3)]
        axes[members] = int(torch.tensor(apart).argmin())
    return axes
