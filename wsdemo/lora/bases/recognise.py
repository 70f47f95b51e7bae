"""Which base a LoRA is for, by the names of its modules and the shapes of their weights.

A base is a candidate if it has all modules that any base has. Then, as far as that leaves some:
those whose shapes fit, those with these text encoders, those that some program writes so, those
whose blocks are all there, and those of which no kind of block is missing altogether. What is
left is said, all of it.
"""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from wsdemo.lora.bases.spelled import Spelled, spelled
from wsdemo.lora.bases.tables import Base, all_tables, bases, flattened, numberless

MAX_NAMES = 5
"""More bases than these are not listed: nothing is known then."""
Shape = tuple[int, ...]


@dataclass(frozen=True)
class Recognised:
    """What names and shapes say of a base.

    Attributes:
        bases: Those that it may be, the most likely first; empty if unclear.
        name: What to call them: one name, several, or empty.
        sizes_fit: Whether the shapes are those of the bases.
        mixed: Names of two bases, if each has modules that the other has not.
        unknown: How many modules the bases do not have.
        programs: Which programs spell names so.
    """

    bases: tuple[Base, ...] = ()
    name: str = ""
    sizes_fit: bool = False
    mixed: tuple[str, ...] = ()
    unknown: int = 0
    programs: tuple[str, ...] = ()

    @property
    def families(self) -> frozenset[str]:
        """Of the bases, with the models that share their layers' names."""
        return frozenset(f for b in self.bases for f in (b.family, *b.members))


@lru_cache(1)
def _heads() -> tuple[tuple[Base, frozenset[str]], ...]:
    """Every base with how its flattened names can begin: most need not be looked at."""

    def head(pattern: str) -> str:
        return flattened(pattern.split("{")[0].split(".")[0])

    return tuple(
        (
            b,
            frozenset(
                head(n) for n in (*b.shapes, *(r for names in b.rules.values() for r in names))
            ),
        )
        for b in bases()
    )


@lru_cache(1)
def _head_lengths() -> tuple[int, ...]:
    return tuple({len(head) for _, heads in _heads() for head in heads})


@dataclass
class _Candidate:
    base: Base
    matched: set[int]
    sized: int = 0


def recognise(names: Sequence[str], shapes: Mapping[str, Shape]) -> Recognised:
    """Which base has modules of these names and shapes.

    Args:
        names: Of the modules, as the file spells them.
        shapes: Name → (out, in, kernel …) of the adapted weight.
    """
    return _recognise(tuple(names), tuple(shapes.get(name, ()) for name in names))


@lru_cache(4)
def _recognise(names: tuple[str, ...], sizes: tuple[Shape, ...]) -> Recognised:
    """Kept of the last few: one report of a LoRA asks several times."""
    shapes = dict(zip(names, sizes, strict=True))
    parsed = [spelled(name) for name in names]
    main = [i for i, name in enumerate(parsed) if name.part.startswith("model")]
    if not main:
        return _by_encoders(names, parsed, shapes)
    patterns = _alike(parsed[i] for i in main)
    candidates = []
    begun = {pattern[:length] for pattern in patterns for length in _head_lengths()}
    for base, heads in _heads():
        if heads.isdisjoint(begun):
            continue
        if not patterns.keys() & base.patterns.keys() or not _has_needed(base, patterns):
            continue
        matched = {i for i in main if base.find(parsed[i].flat)}
        if matched:
            candidates.append(_Candidate(base, matched))
    if not candidates:
        return Recognised(unknown=len(main))
    most = max(len(c.matched) for c in candidates)
    kept = [c for c in candidates if len(c.matched) == most]
    mixed = _mixed(kept, candidates, len(main))
    if mixed:
        return Recognised(mixed=mixed, unknown=len(main) - most)
    if 2 * most < len(main):
        return Recognised(unknown=len(main))
    kept, sizes_fit = _of_these_sizes(kept, names, parsed, shapes)
    kept = _with_encoders(kept, names, parsed, shapes)
    kept = _spelled_so(kept, parsed)
    kept = _complete(kept, parsed, patterns)
    kept = _of_all_kinds(kept, patterns, is_sure=not sizes_fit)
    found_bases = tuple(c.base for c in kept)
    return Recognised(
        found_bases,
        _name(found_bases),
        sizes_fit,
        unknown=len(main) - most,
        programs=_programs(found_bases[0], parsed, kept[0].matched) if found_bases else (),
    )


def _has_needed(base: Base, patterns: Iterable[str]) -> bool:
    needs = [flattened(n) for n in base.needs]
    return not needs or any(n in pattern for pattern in patterns for n in needs)


def _alike(parsed: Iterable[Spelled]) -> Counter[str]:
    return Counter(numberless(name.flat) for name in parsed)


def _mixed(
    kept: Sequence[_Candidate], candidates: Sequence[_Candidate], total: int
) -> tuple[str, ...]:
    """Two names, if what the best base lacks is another's, and neither has a share in the other."""
    best = kept[0].matched
    rest = [c for c in candidates if not c.matched & best]
    if len(best) == total or not rest:
        return ()
    other = max(rest, key=lambda c: len(c.matched))
    if len(other.matched) < 2 or len(other.matched) * 20 < total:
        return ()
    second = [c for c in rest if len(c.matched) == len(other.matched)]
    return (_name([c.base for c in kept]) or kept[0].base.family,
            _name([c.base for c in second]) or other.base.family)  # fmt: skip


def fits(base: Base, name: Spelled, shape: Shape) -> bool:
    """Whether a module's shape is the one that the base's table has, or the table has none."""
    entry = base.find(name.flat)
    if entry is None:
        return False
    expected = base.shape(entry)
    if not expected or len(shape) < 2:
        return True
    return expected[0] == shape[0] and math.prod(expected[1:]) == math.prod(shape[1:])


def _of_these_sizes(
    kept: list[_Candidate],
    names: Sequence[str],
    parsed: Sequence[Spelled],
    shapes: Mapping[str, Shape],
) -> tuple[list[_Candidate], bool]:
    """Those of which nearly all shapes fit; all of them if there are none."""
    for c in kept:
        c.sized = sum(fits(c.base, parsed[i], shapes.get(names[i], ())) for i in c.matched)
    most = max(c.sized for c in kept)
    if most * 10 < len(kept[0].matched) * 9:
        return kept, False
    return [c for c in kept if c.sized == most], True


def _with_encoders(
    kept: list[_Candidate],
    names: Sequence[str],
    parsed: Sequence[Spelled],
    shapes: Mapping[str, Shape],
) -> list[_Candidate]:
    """Those that have most of the text encoders' modules."""
    others = [i for i, name in enumerate(parsed) if not name.part.startswith("model")]
    if not others or len(kept) < 2:
        return kept
    tables = all_tables()

    def known(base: Base) -> int:
        encoders = {p: encoder_of(base, p) for p in {parsed[i].part for i in others}}
        count = 0
        for i in others:
            key = encoders[parsed[i].part]
            count += key is not None and tables[key].find(parsed[i].flat) is not None
            count += key is not None and fits(tables[key], parsed[i], shapes.get(names[i], ()))
        return count

    counts = [known(c.base) for c in kept]
    return [c for c, count in zip(kept, counts, strict=True) if count == max(counts)]


def _spelled_so(kept: list[_Candidate], parsed: Sequence[Spelled]) -> list[_Candidate]:
    """Those that some program writes so; else those that one reads so."""
    for only_first in (True, False):
        matching = [c for c in kept if _programs(c.base, parsed, c.matched, only_first)]
        if matching:
            return matching
    return kept


def _programs(
    base: Base, parsed: Sequence[Spelled], matched: Iterable[int], only_first: bool = False
) -> tuple[str, ...]:
    """The programs that read all of these names, or with ``only_first`` write them."""
    kinds = set()
    for i in matched:
        entry = base.find(parsed[i].flat)
        if entry:
            kinds.add((parsed[i].prefix.replace("__", "_"), entry.namings))
    ways: dict[str, list[tuple[str, str]]] = {}
    for s in base.spellings:
        if not (only_first and s.program in ways):
            way = (s.prefix.removeprefix("base_model.model."), s.naming)
            ways.setdefault(s.program, []).append(way)
    return tuple(
        program
        for program, known in ways.items()
        if all(any(p == prefix and n in namings for p, n in known) for prefix, namings in kinds)
    )


def _complete(
    kept: list[_Candidate], parsed: Sequence[Spelled], patterns: Mapping[str, int]
) -> list[_Candidate]:
    """Those of which every kind of module is there in all its blocks."""

    def is_complete(base: Base) -> bool:
        return all(base.patterns.get(p) in (None, count) for p, count in patterns.items())

    if len(kept) < 2 or any(c.base.is_open for c in kept):
        return kept
    if sum(patterns.values()) < 2 * len(patterns):  # too little to count blocks by
        return kept
    return [c for c in kept if is_complete(c.base)] or kept


def _of_all_kinds(
    kept: list[_Candidate], patterns: Iterable[str], is_sure: bool
) -> list[_Candidate]:
    """In order of how many kinds of blocks a base has that the file does not touch.

    If ``is_sure`` those that lack one which others do not lack are left out.
    """
    touched = {p.split("_#_")[0] for p in patterns}

    def untouched(c: _Candidate) -> int:
        """Of kinds that are a fifth of the base or more, in the naming that fits best."""
        least = len(c.base.shapes)
        for names in c.base.namings.values():
            kinds = Counter(
                p.split("_#_")[0] for p in map(numberless, map(flattened, names)) if "_#_" in p
            )
            large = {kind for kind, count in kinds.items() if 5 * count > len(names)}
            least = min(least, len(large - touched))
        return least

    if len(kept) < 2 or any(c.base.is_open for c in kept):
        return kept
    ordered = sorted(kept, key=untouched)
    least = untouched(ordered[0])
    return [c for c in ordered if untouched(c) == least] if is_sure else ordered


def _name(possible: Sequence[Base]) -> str:
    """One name, the family's if all are of one, or the names of several; empty for too many."""
    if len(possible) == 1:
        return possible[0].name
    families = list(dict.fromkeys(b.family for b in possible))
    if len(families) == 1:
        return families[0]
    if not 0 < len(families) <= MAX_NAMES:
        return ""
    alone = [
        b.name if sum(o.family == b.family for o in possible) == 1 else b.family for b in possible
    ]
    return listed(list(dict.fromkeys(alone)))


def listed(names: Sequence[str]) -> str:
    """Names as alternatives: ``A``, ``A or B``, ``A, B or C``."""
    return f"{', '.join(names[:-1])} or {names[-1]}" if len(names) > 1 else "".join(names)


def _by_encoders(
    names: Sequence[str], parsed: Sequence[Spelled], shapes: Mapping[str, Shape]
) -> Recognised:
    """The bases whose text encoders these are, where a file adapts nothing else."""
    tables = all_tables()

    def fit(base: Base) -> bool:
        for name, parsed_name in zip(names, parsed, strict=True):
            encoder = encoder_of(base, parsed_name.part)
            if encoder is None or not fits(tables[encoder], parsed_name, shapes.get(name, ())):
                return False
        return True

    possible = tuple(b for b in bases() if b.encoders and fit(b))
    return Recognised(
        possible, _name(possible), bool(possible), unknown=0 if possible else len(names)
    )


def encoder_of(base: Base, part: str) -> str | None:
    """The key of the text encoder that a part of a pipeline is, None if this base has none."""
    if part in base.encoders:
        return part
    number = {"text_encoder": 0, "text_encoder_2": 1, "text_encoder_3": 2}.get(part)
    if number is None or not base.encoders:
        return None
    if number >= len(base.encoders):  # sd-scripts counts FLUX's T5 as the third
        return base.encoders[-1] if part == "text_encoder_3" else None
    return base.encoders[number]
