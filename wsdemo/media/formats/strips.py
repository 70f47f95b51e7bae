"""Strips and fans of triangles as single ones."""

import numpy as np

from wsdemo.media.meshes import Ints


def strip_triangles(strip: Ints) -> Ints:
    """(n − 2, 3) triangles of a strip of n vertices; every other one is turned."""
    if len(strip) < 3:
        return np.zeros((0, 3), np.int64)
    triangles = np.stack([strip[:-2], strip[1:-1], strip[2:]], 1).astype(np.int64)
    triangles[1::2] = triangles[1::2][:, [1, 0, 2]]
    return triangles


def fan_triangles(fan: Ints) -> Ints:
    """(n − 2, 3) triangles of a fan of n vertices around the first."""
    if len(fan) < 3:
        return np.zeros((0, 3), np.int64)
    hub = np.full(len(fan) - 2, fan[0])
    return np.stack([hub, fan[1:-1], fan[2:]], 1).astype(np.int64)
