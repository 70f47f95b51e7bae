"""How near two shapes are, and how near two sets of shapes.

Distances of points are in units of normalised meshes (longest side 1.8). The measures of
sets follow HyperDiffusion's protocol: 2,048 points a mesh, each cloud shifted by its mean and
divided by its standard deviation.
"""

from collections.abc import Sequence

import numpy as np
from scipy.spatial import cKDTree

from wsdemo.media.meshes import Floats, Mesh, face_normals, surface_points
from wsdemo.media.sdf import is_inside

FSCORE_RADIUS = 0.018
"""1 % of the longest side."""


def nearest(points: Floats, others: Floats) -> tuple[Floats, Floats]:
    """(P,) distances from points to their nearest others, and which those are."""
    distances, index = cKDTree(others).query(points, workers=-1)
    return distances, index


def chamfer_distance(a: Floats, b: Floats) -> float:
    """mean_a min ‖a − b‖² + mean_b min ‖b − a‖² of (P, 3) and (Q, 3) points."""
    return float((nearest(a, b)[0] ** 2).mean() + (nearest(b, a)[0] ** 2).mean())


def fscore(a: Floats, b: Floats, radius: float = FSCORE_RADIUS) -> float:
    """Harmonic mean of the shares of points that have one of the other set within a radius."""
    precision = float((nearest(a, b)[0] < radius).mean())
    recall = float((nearest(b, a)[0] < radius).mean())
    return 0.0 if precision + recall == 0 else 2 * precision * recall / (precision + recall)


def normal_consistency(a: Mesh, b: Mesh, count: int = 30_000, seed: int = 0) -> float:
    """Mean |cosine| between the normals of nearest surface points, both ways."""
    (p, i), (q, j) = surface_points(a, count, seed), surface_points(b, count, seed + 1)
    n, m = face_normals(a)[0][i], face_normals(b)[0][j]
    there = np.abs((n * m[nearest(p, q)[1].astype(int)]).sum(1)).mean()
    back = np.abs((m * n[nearest(q, p)[1].astype(int)]).sum(1)).mean()
    return float((there + back) / 2)


def volume_iou(a: Mesh, b: Mesh, count: int = 60_000, seed: int = 0) -> float:
    """Intersection over union of two solids, by random points of their common box."""
    low = np.minimum(a.vertices.min(0), b.vertices.min(0))
    high = np.maximum(a.vertices.max(0), b.vertices.max(0))
    points = np.random.default_rng(seed).uniform(low, high, (count, 3))
    in_a, in_b = is_inside(a, points), is_inside(b, points)
    union = (in_a | in_b).sum()
    return float((in_a & in_b).sum() / union) if union else 0.0


def compare_meshes(a: Mesh, b: Mesh, count: int = 30_000, seed: int = 0) -> dict[str, float]:
    """Chamfer distances, F-score, IoU and normal consistency of two normalised meshes.

    The points of the two meshes are drawn independently.
    """
    p, q = surface_points(a, count, seed)[0], surface_points(b, count, seed + 1)[0]
    return {
        "chamfer": chamfer_distance(p, q),
        "chamfer_2048": chamfer_distance(p[:2048], q[:2048]),
        "fscore": fscore(p, q),
        "iou": volume_iou(a, b, seed=seed),
        "normals": normal_consistency(a, b, count, seed),
    }


# ---- sets ------------------------------------------------------------------------


def standard_cloud(mesh: Mesh, count: int = 2048, seed: int = 0) -> Floats:
    """(count, 3) surface points, shifted by their mean, divided by their standard deviation."""
    points, _ = surface_points(mesh, count, seed)
    points = points - points.mean(0)
    return np.asarray(points / points.std())


def pairwise_chamfer(a: Sequence[Floats], b: Sequence[Floats]) -> Floats:
    """(n, m) Chamfer distances between clouds."""
    trees_a, trees_b = [cKDTree(x) for x in a], [cKDTree(x) for x in b]
    result = np.empty((len(a), len(b)))
    for i, x in enumerate(a):
        for j, y in enumerate(b):
            if a is b and j < i:  # the distance is symmetric
                result[i, j] = result[j, i]
                continue
            there, _ = trees_b[j].query(x)
            back, _ = trees_a[i].query(y)
            result[i, j] = (there**2).mean() + (back**2).mean()
    return result


def minimum_matching_distance(samples_to_references: Floats) -> float:
    """MMD: the mean over references of the distance to the nearest sample; (n, m) distances."""
    return float(samples_to_references.min(0).mean())


def coverage_of(samples_to_references: Floats) -> float:
    """COV: the share of references that are the nearest one of some sample; (n, m) distances."""
    nearest_reference = samples_to_references.argmin(1)
    return len(np.unique(nearest_reference)) / samples_to_references.shape[1]


def one_nearest_neighbour_accuracy(
    samples: Floats, references: Floats, samples_to_references: Floats
) -> float:
    """1-NNA: how often a shape's nearest other shape is of its own set; 1/2 is ideal.

    Args:
        samples: (n, n) distances among samples.
        references: (m, m) distances among references.
        samples_to_references: (n, m).
    """
    every = np.block([[samples, samples_to_references], [samples_to_references.T, references]])
    np.fill_diagonal(every, np.inf)
    is_sample = np.arange(len(every)) < len(samples)
    return float((is_sample[every.argmin(1)] == is_sample).mean())
