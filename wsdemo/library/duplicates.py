"""Files of a library that hold the same: copies, other factors, other strengths, cuts, merges.

All but equal files are told by sketches (sketch.py), which are linear: what is asked is how large
the sketch of a difference is, so that rounding to half precision (0.4 %) is still "the same". A cut
to lower rank is told by the largest singular values of its modules, which it leaves as they were.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wsdemo.library.query import Sketches, Vectors, sketches
from wsdemo.library.row import Row
from wsdemo.library.table import opened

SAME = 0.01
"""Largest relative difference of two updates that are called the same."""
SHRUNK_COSINE = 0.5
"""Smallest cosine of an update and what a cut to lower rank has left of it, as sketches see it."""
ALIKE_COSINE = 0.9
"""Smallest cosine of two updates that are nearly the same, and neither of them a copy."""
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
            "SELECT file, sha256 FROM loras WHERE sha256 IS NOT NULL ORDER BY file"
        ).fetchall()
    return _groups(rows, sketches(library))


def groups_of(rows: Sequence[Row]) -> list[Group]:
    """All groups of rows that are at hand, ordered by their files."""
    ordered = sorted(rows, key=lambda row: str(row["file"]))
    hashes = [(row["file"], row["sha256"]) for row in ordered if row["sha256"]]
    return _groups(hashes, Sketches.of(ordered))


def alike(rows: Sequence[Row], groups: Sequence[Group]) -> list[tuple[str, str, float]]:
    """(file, file, cosine) of updates that are nearly the same and of which no group says more."""
    drawn = Sketches.of(rows)
    grouped = {frozenset((a, b)) for g in groups for a in g.files for b in g.files}
    pairs = [
        (drawn.files[i], drawn.files[j], cosine)
        for i, near in enumerate(_near(drawn.directions, ALIKE_COSINE))
        for j, cosine in near
        if i < j and cosine > 0 and frozenset((drawn.files[i], drawn.files[j])) not in grouped
    ]
    return sorted(pairs, key=lambda pair: -pair[2])


def _groups(hashes: Sequence[tuple[str, str]], drawn: Sketches) -> list[Group]:
    by_hash: dict[str, list[str]] = {}
    for name, sha256 in hashes:
        by_hash.setdefault(sha256, []).append(name)
    copies = [Group("same file", tuple(names)) for names in by_hash.values() if len(names) > 1]
    again = {name for group in copies for name in group.files[1:]}
    drawn = drawn.pick(np.flatnonzero([name not in again for name in drawn.files]))
    near = list(_near(drawn.directions, min(SHRUNK_COSINE, MERGE_COSINE)))
    pairs = _pairs(drawn, near)
    related = {i for _, members in pairs for i in members[1:]}
    return [*copies, *(group for group, _ in pairs), *_merges(drawn, near, related)]


Near = list[tuple[int, float]]


def _near(directions: Vectors, least: float) -> Iterator[Near]:
    """Of each, those whose cosine with it is ± ``least`` or more, and that cosine."""
    for start in range(0, len(directions), BLOCK):
        cosines = directions[start : start + BLOCK] @ directions.T
        for i, row in enumerate(cosines, start):
            above = np.flatnonzero(np.abs(row) >= least).tolist()
            yield [(j, float(row[j])) for j in above if j != i]


def _pairs(drawn: Sketches, near: Sequence[Near]) -> list[tuple[Group, tuple[int, ...]]]:
    """Groups of the same update, rescaled and shrunk copies, with their members' indices."""
    lengths = np.linalg.norm(drawn.vectors, axis=1)
    taken: set[int] = set()
    groups = []
    # The largest rank first, so that a cut comes after what it was cut from.
    order = sorted(range(len(drawn.files)), key=lambda i: (-drawn.ranks[i], drawn.files[i]))
    for i in order:
        if i in taken:
            continue
        kinds: dict[str, list[tuple[int, float]]] = {}
        for j, cosine in near[i]:
            if j in taken or abs(cosine) < SHRUNK_COSINE:
                continue
            kind, factor = _kind(drawn, lengths, i, j)
            if kind:
                kinds.setdefault(kind, []).append((j, factor))
        for kind, members in kinds.items():
            indices = (i, *(j for j, _ in members))
            taken |= set(indices[1:])
            factors = tuple(f for _, f in members) if kind == "rescaled" else ()
            groups.append((Group(kind, _names(drawn, indices), factors), indices))
    return groups


def _names(drawn: Sketches, indices: Sequence[int]) -> tuple[str, ...]:
    return tuple(drawn.files[i] for i in indices)


def _kind(drawn: Sketches, lengths: NDArray[np.float32], i: int, j: int) -> tuple[str, float]:
    """What j is to i, and by which factor; an empty word if nothing."""
    a, b = drawn.vectors[i].astype(np.float64), drawn.vectors[j].astype(np.float64)
    if np.linalg.norm(a - b) <= SAME * max(lengths[i], lengths[j]):
        return "same update", 1.0
    factor = float(a @ b / (a @ a))
    if np.linalg.norm(b - factor * a) <= SAME * lengths[j]:
        return "rescaled", factor
    if a @ b > 0 and _is_cut(drawn, i, j):
        return "shrunk", 1.0
    return "", 0.0


def _is_cut(drawn: Sketches, i: int, j: int) -> bool:
    """Whether j may be what a cut to lower rank has left of i, module by module."""
    whole, cut = drawn.largest[i], drawn.largest[j]
    if drawn.ranks[j] >= drawn.ranks[i] or drawn.norms[j] >= drawn.norms[i]:
        return False
    if len(whole) != len(cut) or not len(whole):
        return False
    return bool((np.abs(whole - cut) <= SAME * whole + 1e-6 * whole.max()).all())


def _merges(drawn: Sketches, near: Sequence[Near], related: set[int]) -> list[Group]:
    """Sums of others, by orthogonal matching pursuit on the sketches."""
    kept = np.array([i for i in range(len(drawn.files)) if i not in related], np.int64)
    directions = drawn.directions[kept]
    groups: list[Group] = []
    known: set[frozenset[int]] = set()
    for place, i in enumerate(kept.tolist()):
        if not any(j not in related and abs(c) >= MERGE_COSINE for j, c in near[i]):
            continue
        chosen, weights = _pursued(directions, place)
        members = [i, *kept[chosen].tolist()]
        # Of A, B and A + B each is a sum of the others: the one of the highest rank is called the
        # merge, since ranks add up.
        is_highest = all(drawn.ranks[i] >= drawn.ranks[m] for m in members)
        if not chosen or frozenset(members) in known or not is_highest:
            continue
        known.add(frozenset(members))
        lengths = np.linalg.norm(drawn.vectors[members], axis=1)
        factors = weights * lengths[0] / lengths[1:]
        groups.append(Group("merge", _names(drawn, members), tuple(map(float, factors))))
    return groups


def _pursued(directions: Vectors, place: int) -> tuple[list[int], NDArray[np.float64]]:
    """Which directions one is a sum of, and their weights; nothing if it is none."""
    target = directions[place].astype(np.float64)
    chosen: list[int] = []
    residual = target
    while len(chosen) < MERGE_PARTS:
        fits = np.abs(directions @ residual.astype(np.float32))
        fits[[place, *chosen]] = 0
        best = int(fits.argmax())
        if fits[best] < MERGE_COSINE * (1 if not chosen else np.linalg.norm(residual)):
            break
        chosen.append(best)
        basis = directions[chosen].astype(np.float64).T
        weights, *_ = np.linalg.lstsq(basis, target, rcond=None)
        residual = target - basis @ weights
        if len(chosen) > 1 and np.linalg.norm(residual) <= SAME:
            return chosen, weights
    return [], np.zeros(0)
