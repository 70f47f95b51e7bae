"""Files of a library that hold the same: copies, other factors, other strengths, cuts, merges.

All but equal files are told by sketches (sketch.py), which are linear: what is asked is how large
the sketch of a difference is, so that rounding to half precision (0.4 %) is still "the same".
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from wsdemo.library.query import Sketches, Vectors, sketches
from wsdemo.library.table import opened

SAME = 0.01
"""Largest relative difference of two updates that are called the same."""
SHRUNK_COSINE = 0.9
"""Smallest cosine of an update and what a cut to lower rank has left of it."""
SHRUNK_SHARE = 0.01
"""What is cut off is orthogonal to the rest, so the cosine of an update and its cut is the ratio of
their norms, up to this."""
MERGE_PARTS = 3
"""Most LoRAs that a merge is looked for to consist of."""
MERGE_COSINE = 0.25
"""Smallest cosine of a merge and its largest part."""
BLOCK = 2048
"""Sketches that are compared with all others in one go."""


@dataclass(frozen=True)
class Group:
    """Files that hold the same.

    Attributes:
        kind: ``same file``, ``same update`` (other factors, spelling or precision), ``rescaled``,
            ``shrunk`` (lower ranks of the first), ``merge`` (the first is a sum of the others).
        files: Their names.
        factors: Of ``rescaled`` and ``merge``: what the others are multiplied by.
    """

    kind: str
    files: tuple[str, ...]
    factors: tuple[float, ...] = ()


def duplicates(library: Path) -> list[Group]:
    """All groups of a library.

    Raises:
        WsdemoError: As ``opened``.
    """
    with opened(library) as database:
        rows = database.execute(
            "SELECT list(file ORDER BY file) FROM loras WHERE sha256 IS NOT NULL"
            " GROUP BY sha256 HAVING count(*) > 1 ORDER BY min(file)"
        ).fetchall()
    copies = [Group("same file", tuple(files)) for (files,) in rows]
    again = {name for group in copies for name in group.files[1:]}
    found = sketches(library)
    found = found.pick(np.flatnonzero([name not in again for name in found.files]))
    pairs = _pairs(found)
    related = {i for group, members in pairs for i in members[1:]}
    return [*copies, *(group for group, _ in pairs), *_merges(found, related)]


def _pairs(found: Sketches) -> list[tuple[Group, tuple[int, ...]]]:
    """Groups of the same update, rescaled and shrunk copies, with their members' indices."""
    directions = found.directions
    lengths = np.linalg.norm(found.vectors, axis=1)
    taken: set[int] = set()
    groups = []
    # The largest rank first, so that a cut comes after what it was cut from.
    order = sorted(range(len(found.files)), key=lambda i: (-found.ranks[i], found.files[i]))
    near = _near(directions, SHRUNK_COSINE)
    for i in order:
        if i in taken:
            continue
        kinds: dict[str, list[tuple[int, float]]] = {}
        for j in near[i]:
            if j == i or j in taken:
                continue
            kind, factor = _kind(found, lengths, i, j)
            if kind:
                kinds.setdefault(kind, []).append((j, factor))
        for kind, members in kinds.items():
            indices = (i, *(j for j, _ in members))
            taken |= set(indices[1:])
            factors = tuple(f for _, f in members) if kind == "rescaled" else ()
            groups.append((Group(kind, _names(found, indices), factors), indices))
    return groups


def _names(found: Sketches, indices: Sequence[int]) -> tuple[str, ...]:
    return tuple(found.files[i] for i in indices)


def _near(directions: Vectors, least: float) -> list[list[int]]:
    """Of each, those whose cosine with it is ± ``least`` or more."""
    near: list[list[int]] = []
    for start in range(0, len(directions), BLOCK):
        cosines = directions[start : start + BLOCK] @ directions.T
        near += [np.flatnonzero(np.abs(row) >= least).tolist() for row in cosines]
    return near


def _kind(found: Sketches, lengths: np.ndarray, i: int, j: int) -> tuple[str, float]:
    """What j is to i, and by which factor; an empty word if nothing."""
    a, b = found.vectors[i].astype(np.float64), found.vectors[j].astype(np.float64)
    if np.linalg.norm(a - b) <= SAME * max(lengths[i], lengths[j]):
        return "same update", 1.0
    factor = float(a @ b / (a @ a))
    if np.linalg.norm(b - factor * a) <= SAME * lengths[j]:
        return "rescaled", factor
    cosine = float(a @ b / (lengths[i] * lengths[j]))
    left = found.norms[j] / found.norms[i]
    if found.ranks[j] < found.ranks[i] and left < 1 and abs(cosine - left) <= SHRUNK_SHARE:
        return "shrunk", 1.0
    return "", 0.0


def _merges(found: Sketches, related: set[int]) -> list[Group]:
    """Sums of others, by orthogonal matching pursuit on the sketches."""
    kept = [i for i in range(len(found.files)) if i not in related]
    directions = found.directions[kept]
    groups, members = [], set[frozenset[int]]()
    for place, i in enumerate(kept):
        target = directions[place].astype(np.float64)
        parts: list[int] = []
        residual = target
        while len(parts) < MERGE_PARTS:
            fits = np.abs(directions @ residual.astype(np.float32))
            fits[[place, *parts]] = 0
            best = int(fits.argmax())
            if fits[best] < MERGE_COSINE * (1 if not parts else np.linalg.norm(residual)):
                break
            parts.append(best)
            basis = directions[parts].astype(np.float64).T
            weights, *_ = np.linalg.lstsq(basis, target, rcond=None)
            residual = target - basis @ weights
            if len(parts) > 1 and np.linalg.norm(residual) <= SAME:
                own = frozenset((i, *(kept[p] for p in parts)))
                # Of A, B and A + B each is a sum of the others: the one of the highest rank is
                # called the merge, since ranks add up.
                if own not in members and all(found.ranks[i] >= found.ranks[m] for m in own):
                    members.add(own)
                    lengths = np.linalg.norm(found.vectors[[i, *(kept[p] for p in parts)]], axis=1)
                    factors = tuple(float(w * lengths[0] / n) for w, n in
                                    zip(weights, lengths[1:], strict=True))  # fmt: skip
                    indices = [i, *(kept[p] for p in parts)]
                    groups.append(Group("merge", _names(found, indices), factors))
                break
    return groups
