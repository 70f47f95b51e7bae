"""Modules by their canonical names: what other programs fuse is split, and put together again.

A fused module stacks the rows of several, so its U is theirs, one below the other, and its V is
shared. Both directions are exact: no product is formed.
"""

import dataclasses
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from wsdemo.lora.bases.recognise import encoder_of, recognise
from wsdemo.lora.bases.spelled import spelled
from wsdemo.lora.bases.tables import Base, Entry, Piece, Spelling, all_tables, bases
from wsdemo.lora.decomposition import truncated
from wsdemo.lora.modules import Lora, LoraModule


def candidates(lora: Lora) -> list[Base]:
    """The bases that a LoRA may be for, the likeliest first."""
    tables = all_tables()
    if lora.base.candidates:
        return [tables[key] for key in lora.base.candidates]
    names = [m.name for m in lora.modules]
    return list(recognise(names, {m.name: m.shape for m in lora.modules}).bases)


def common_base(loras: Sequence[Lora]) -> Base | None:
    """The base that all of them may be for; else one that has modules of all of them."""
    possible = [candidates(lora) for lora in loras]
    for base in possible[0]:
        if all(base in others for others in possible[1:]):
            return base
    parsed = [[spelled(m.name) for m in lora.modules] for lora in loras]

    def least(base: Base) -> float:
        """The smallest share of a LoRA's modules that a base has."""
        return min(
            sum(base.find(p.flat) is not None for p in names) / len(names) for names in parsed
        )

    tried = dict.fromkeys([*(b for several in possible for b in several), *bases()])
    best = max(tried, key=least)
    return best if least(best) > 0 else None


def place(name: str, base: Base) -> tuple[str, Base, Entry] | None:
    """The part of the pipeline, its table, and what a spelled name stands for there."""
    parsed = spelled(name)
    table, part = base, parsed.part
    if not part.startswith("model"):
        encoder = encoder_of(base, part)
        if encoder is None:
            return None
        table = all_tables()[encoder]
        part = f"text_encoder_{base.encoders.index(encoder) + 1}"
    entry = table.find(parsed.flat)
    return None if entry is None else (part, table, entry)


def row_blocks(table: Base, entry: Entry, rows: int) -> list[tuple[Piece, int]] | None:
    """How many of a module's rows each piece takes, None if they do not fit.

    Smaller models of the same kind divide their rows in the same proportions.
    """
    if len(entry.pieces) == 1 and entry.pieces[0].count == 1:
        return [(entry.pieces[0], rows)]
    sizes = [table.rows(p) or 1 for p in entry.pieces]
    whole = sum(sizes)
    if any(rows * size % whole for size in sizes):
        return None
    return [(p, rows * size // whole) for p, size in zip(entry.pieces, sizes, strict=True)]


@dataclasses.dataclass
class _Part:
    """What one stored module contributes to a canonical one: rows of U, its V."""

    source: LoraModule
    U: Tensor
    magnitude: Tensor | None


def by_table(lora: Lora, base: Base) -> dict[str, LoraModule]:
    """The modules by canonical names, fused ones split; those that the base lacks by their own.

    Returns:
        ``model.NAME`` or ``text_encoder_N.NAME`` → module. One that stays whole keeps its
        spelling as its name.
    """
    by_key: dict[str, list[_Part]] = {}
    for module in lora.modules:
        placed = place(module.name, base)
        blocks = row_blocks(placed[1], placed[2], len(module.U)) if placed else None
        if placed is None or blocks is None or (module.kind != "additive" and _cut(blocks)):
            _add(by_key, spelled(module.name).key, _Part(module, module.U, module.magnitude))
            continue
        for name, part in _split(module, blocks).items():
            _add(by_key, f"{placed[0]}.{name}", part)
    return {key: _joined(key, parts) for key, parts in by_key.items()}


def _cut(blocks: Sequence[tuple[Piece, int]]) -> bool:
    """Whether a canonical module is there in part only."""
    names = [p.module for p, _ in blocks]
    return any(names.count(p.module) < p.count for p, _ in blocks)


def _add(by_key: dict[str, list[_Part]], key: str, part: _Part) -> None:
    is_alone = part.magnitude is not None or part.source.kind != "additive"
    while key in by_key and is_alone:
        key += "+"
    by_key.setdefault(key, []).append(part)


def _split(module: LoraModule, blocks: Sequence[tuple[Piece, int]]) -> dict[str, _Part]:
    if len(blocks) == 1 and blocks[0][0].count == 1:
        return {blocks[0][0].module: _Part(module, module.U, module.magnitude)}
    parts: dict[str, _Part] = {}
    start = 0
    for piece, size in blocks:
        source = slice(start, start + size)
        target = slice(piece.index * size, (piece.index + 1) * size)
        if piece.module not in parts:
            whole = size * piece.count
            empty = None if module.magnitude is None else module.magnitude.new_zeros(whole)
            U = module.U.new_zeros(whole, module.rank)
            parts[piece.module] = _Part(module, U, empty)
        part = parts[piece.module]
        part.U[target] = module.U[source]
        if part.magnitude is not None and module.magnitude is not None:
            part.magnitude[target] = module.magnitude[source]
        start += size
    # A program that fuses modules stores rows of zeros for those that were not trained.
    alive = {name: part for name, part in parts.items() if bool(part.U.any())}
    return alive or parts


def _joined(key: str, parts: Sequence[_Part]) -> LoraModule:
    """One module of its parts, which add."""
    first = parts[0].source
    if len(parts) == 1:
        U = parts[0].U
        if U is first.U:
            return first
        shape = (len(U), *first.shape[1:])
        return dataclasses.replace(
            first, name=key.split(".", 1)[1], U=U, shape=shape, magnitude=parts[0].magnitude
        )
    U = torch.cat([p.U for p in parts], dim=1)
    V = torch.cat([p.source.V for p in parts], dim=1)
    return dataclasses.replace(
        first,
        name=key.split(".", 1)[-1],
        U=U,
        V=V,
        shape=(len(U), *first.shape[1:]),
        stored_rank=U.shape[1],
        scale=1.0,
        kept=min(p.source.kept for p in parts),
        is_certain=all(p.source.is_certain for p in parts),
    )


def spelled_for(
    modules: Mapping[str, LoraModule], base: Base, spelling: Spelling
) -> tuple[dict[str, LoraModule], list[str]]:
    """Canonical modules of a base's denoiser as a program has them: what it fuses is put together.

    Args:
        modules: Canonical name → module.
        base: Whose table it is.
        spelling: What to write.

    Returns:
        Name in the program's spelling → module, and the canonical names that it has no name for.
    """
    written: dict[str, LoraModule] = {}
    used: set[str] = set()
    for name, pieces in _names_for(base, spelling, modules):
        present = {p.module for p in pieces} & modules.keys()
        if present:
            written[spelling.of(name)] = _fused(pieces, modules, base)
            used |= present
    return written, [name for name in modules if name not in used]


def _names_for(
    base: Base, spelling: Spelling, modules: Mapping[str, LoraModule]
) -> list[tuple[str, tuple[Piece, ...]]]:
    names = base.namings[spelling.naming]
    if not base.is_open:
        return list(names.items())
    pieces: dict[str, tuple[Piece, ...]] = {}
    for module in modules:  # an open table's names are made for the numbers that there are
        entry = base.find(module.replace(".", "_").lower())
        if entry:
            pieces[module if spelling.naming == "canonical" else entry.name] = entry.pieces
    return list(pieces.items())


def _fused(pieces: Sequence[Piece], modules: Mapping[str, LoraModule], base: Base) -> LoraModule:
    """One module of the rows of several: with their V if they share it, else of all their ranks."""
    if len(pieces) == 1 and pieces[0].count == 1:
        return modules[pieces[0].module]
    present = {p.module: modules[p.module] for p in pieces if p.module in modules}
    first = next(iter(present.values()))
    sizes = _sizes(pieces, present, base)
    is_shared = all(m.V.shape == first.V.shape and torch.equal(m.V, first.V)
                    for m in present.values())  # fmt: skip
    ranks = [m.rank for m in present.values()]
    places = dict(zip(present, torch.tensor([0, *ranks]).cumsum(0).tolist(), strict=False))
    U = first.U.new_zeros(sum(sizes), first.rank if is_shared else sum(ranks))
    start = 0
    for piece, size in zip(pieces, sizes, strict=True):
        module = present.get(piece.module)
        if module is not None:
            column = 0 if is_shared else places[piece.module]
            rows = module.U[piece.index * size : (piece.index + 1) * size]
            U[start : start + size, column : column + module.rank] = rows
        start += size
    V = first.V if is_shared else torch.cat([m.V for m in present.values()], dim=1)
    if not is_shared:
        smaller = truncated(U, V)
        if smaller[0].shape[1] < U.shape[1]:
            U, V, _ = smaller
    return dataclasses.replace(
        first,
        U=U,
        V=V,
        shape=(len(U), *first.shape[1:]),
        stored_rank=U.shape[1],
        kept=min(m.kept for m in present.values()),
        is_certain=all(m.is_certain for m in present.values()),
    )


def _sizes(pieces: Sequence[Piece], present: Mapping[str, LoraModule], base: Base) -> list[int]:
    """Rows of each piece: in the proportions that the table has."""
    name = next(p.module for p in pieces if p.module in present)
    first = next(p for p in pieces if p.module == name)
    rows = len(present[name].U) // first.count
    known = base.rows(first) or rows
    return [(base.rows(p) or rows) * rows // known for p in pieces]
