"""How near two shapes are, and how near two sets of shapes.

Distances of points are in units of normalised meshes (longest side 1.8). The measures of
sets follow HyperDiffusion's protocol: 2,048 points a mesh, each cloud shifted by its mean and
divided by its standard deviation.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from wsdemo.media.meshes import Floats, Mesh, face_normals, surface_points
from wsdemo.media.sdf import is_inside, nearest_on_surface

FSCORE_RADIUS = 0.018
"""1 % of the longest side, in normalised units: how near is near enough."""
FSCORE_SHARE = 0.01
"""The same as a share of the longest side."""


def nearest(points: Floats, others: Floats) -> tuple[Floats, Floats]:
    """(P,) distances from points to their nearest others, and which those are."""
    distances, index = cKDTree(others).query(points, workers=-1)
    return distances, index


def chamfer_distance(a: Floats, b: Floats) -> float:
    """mean_a min ‖a − b‖² + mean_b min ‖b − a‖² of (P, 3) and (Q, 3) points."""
    return float((nearest(a, b)[0] ** 2).mean() + (nearest(b, a)[0] ** 2).mean())


def fscore(a: Floats, b: Floats, radius: float = FSCORE_RADIUS) -> float:
    """Harmonic mean of the shares of points that have one of the other set within a radius."""
    return _harmonic_mean(nearest(a, b)[0] < radius, nearest(b, a)[0] < radius)


def _harmonic_mean(there: NDArray[np.bool_], back: NDArray[np.bool_]) -> float:
    precision, recall = float(there.mean()), float(back.mean())
    return 0.0 if precision + recall == 0 else 2 * precision * recall / (precision + recall)


def volume_iou(a: Mesh, b: Mesh, count: int = 60_000, seed: int = 0) -> float:
    """Intersection over union of two solids, by random points of their common box."""
    low = np.minimum(a.vertices.min(0), b.vertices.min(0))
    high = np.maximum(a.vertices.max(0), b.vertices.max(0))
    points = np.random.default_rng(seed).uniform(low, high, (count, 3))
    in_a, in_b = is_inside(a, points), is_inside(b, points)
    union = (in_a | in_b).sum()
    return float((in_a & in_b).sum() / union) if union else 0.0


def compare_meshes(a: Mesh, b: Mesh, count: int = 30_000, seed: int = 0) -> dict[str, float]:
    """Chamfer distance, F-score, IoU and normal consistency of two normalised meshes.

    Points are drawn on each mesh, evenly by area, and measured to the *surface* of the other:
    chamfer = mean_a d(p, B)² + mean_b d(q, A)²; fscore is the harmonic mean of the shares of
    points with d < FSCORE_RADIUS; normals the mean |cosine| with the normal of the nearest face,
    both ways. A mesh has 0, 1, 1 and 1 with itself. All of a mesh counts as its surface: faces
    that lie hidden inside must be gone (``media.solids``).
    """
    (p, i), (q, j) = surface_points(a, count, seed), surface_points(b, count, seed + 1)
    there, on_b = nearest_on_surface(b, p)
    back, on_a = nearest_on_surface(a, q)
    n, m = face_normals(a)[0], face_normals(b)[0]
    cosines = [np.abs((n[i] * m[on_b]).sum(1)).mean(), np.abs((m[j] * n[on_a]).sum(1)).mean()]
    return {
        "chamfer": float((there**2).mean() + (back**2).mean()),
        "fscore": _harmonic_mean(there < FSCORE_RADIUS, back < FSCORE_RADIUS),
        "iou": volume_iou(a, b, seed=seed),
        "normals": float(sum(cosines) / 2),
    }


def compare_clouds(a: Mesh, b: Mesh, count: int = 30_000, seed: int = 0) -> dict[str, float]:
    """The older scores of two meshes, between points drawn on each: they depend on the area, and a
    mesh has neither 0 nor 1 with itself.

    Returns:
        ``chamfer_cloud``, ``chamfer_2048`` (of 2,048 points each, as papers have it),
        ``fscore_cloud`` and ``normals_cloud``.
    """
    (p, i), (q, j) = surface_points(a, count, seed), surface_points(b, count, seed + 1)
    n, m = face_normals(a)[0][i], face_normals(b)[0][j]
    there = np.abs((n * m[nearest(p, q)[1].astype(int)]).sum(1)).mean()
    back = np.abs((m * n[nearest(q, p)[1].astype(int)]).sum(1)).mean()
    return {
        "chamfer_cloud": chamfer_distance(p, q),
        "chamfer_2048": chamfer_distance(p[:2048], q[:2048]),
        "fscore_cloud": fscore(p, q),
        "normals_cloud": float((there + back) / 2),
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
