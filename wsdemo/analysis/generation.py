"""How well samples match data, in a feature space: distances between two sets of vectors."""

import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor


def frechet_distance(x: Tensor, y: Tensor) -> float:
    """‖μ_x − μ_y‖² + tr(Σ_x + Σ_y − 2 (Σ_x Σ_y)^½) of (n, d) and (m, d) features.

    The trace of the root comes from the eigenvalues of Σ_x^½ Σ_y Σ_x^½, which are real.
    """
    x, y = x.double(), y.double()
    cov_x, cov_y = torch.cov(x.T), torch.cov(y.T)
    values, vectors = torch.linalg.eigh(cov_x)
    root = vectors @ torch.diag(values.clamp(min=0).sqrt()) @ vectors.T
    cross = torch.linalg.eigvalsh(root @ cov_y @ root).clamp(min=0).sqrt().sum()
    mean = (x.mean(0) - y.mean(0)).square().sum()
    return float(mean + cov_x.trace() + cov_y.trace() - 2 * cross)


def mmd_polynomial(x: Tensor, y: Tensor) -> float:
    """Unbiased squared MMD with the kernel (x·y / d + 1)³, as in KID."""
    d = x.shape[1]
    return _mmd(*(((a @ b.T) / d + 1) ** 3 for a, b in _pairs(x, y)))


def mmd_gaussian(x: Tensor, y: Tensor) -> float:
    """Unbiased squared MMD with exp(−‖x − y‖² / m), m = the median squared distance in y."""
    reference = torch.cdist(y.double(), y.double()).square()
    off = reference[~torch.eye(len(y), dtype=torch.bool)]
    median = float(off.median())
    kernels = (torch.exp(-torch.cdist(a, b).square() / median) for a, b in _pairs(x, y))
    return _mmd(*kernels)


def _pairs(x: Tensor, y: Tensor) -> tuple[tuple[Tensor, Tensor], ...]:
    x, y = x.double(), y.double()
    return (x, x), (y, y), (x, y)


def _mmd(xx: Tensor, yy: Tensor, xy: Tensor) -> float:
    n, m = len(xx), len(yy)
    within = (xx.sum() - xx.trace()) / (n * (n - 1)) + (yy.sum() - yy.trace()) / (m * (m - 1))
    return float(within - 2 * xy.mean())


def coverage(samples: Tensor, references: Tensor, k: int = 5) -> tuple[float, float]:
    """Precision and coverage by k-nearest-neighbour balls around the references.

    Precision: share of samples inside the ball of some reference. Coverage (Naeem et al.,
    2020): share of references whose ball holds a sample. Two halves of one set give
    about 0.9 and 1 − 2^(−k) ≈ 0.97.
    """
    radii = torch.cdist(references, references).kthvalue(k + 1, dim=1).values
    inside = torch.cdist(samples, references) <= radii[None]
    return float(inside.any(1).float().mean()), float(inside.any(0).float().mean())


def nearest_distances(queries: Tensor, references: Tensor) -> Tensor:
    """(n,) distance of each query (n, d) to its nearest reference (m, d)."""
    exact = "donot_use_mm_for_euclid_dist"  # the fast form puts a copy at 1e-3, not at 0
    return torch.cdist(queries, references, compute_mode=exact).min(dim=1).values


def area_under_roc(scores: Tensor, labels: Tensor) -> float:
    """AUC of (n,) scores for (n,) 0/1 labels, ties counted half.

    NaN if one class is missing, or a score is no number, as a diverged model's are.
    """
    if len(labels.unique()) < 2 or not bool(scores.isfinite().all()):
        return float("nan")
    return float(roc_auc_score(labels.bool().cpu().numpy(), scores.double().cpu().numpy()))
