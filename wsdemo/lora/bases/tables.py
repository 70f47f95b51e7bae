"""A base model's table: its modules, their spellings in every program, and what is fused where.

A table is a TOML file of this folder:

- ``[modules]``: name of a module, as diffusers or transformers has it (*canonical*), and the shape
  of its weight (out, in, kernel …). ``{0-18}``, ``{0,2}`` and ``{0-21:3}`` stand for these numbers;
  ``{n}`` and ``{m}`` for any, in the tables of language models, whose shapes are left open.
- ``[naming.X]``: other names of these modules. A list is a module that holds several, one below
  the other by rows (a fused ``qkv``); ``name[1/2]`` is the second of two equal blocks of rows.
  A module that no rule mentions keeps its canonical name.
- ``[spellings]``: program → how it writes a name, first what is written, then what it reads also:
  a prefix and, in braces, a naming. A prefix that ends with ``_`` flattens dots to underscores.
- ``[sizes]``: of models whose layers have the same names, layers and dimensions; ``[dimensions]``:
  end of a module's name → what its rows and columns count. They tell such models apart.
- ``[source]``: where the facts are from; ``model`` and ``config`` build the model in diffusers,
  which a test compares with the table.
"""

import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from importlib import resources
from itertools import product
from typing import Any

_NUMBERS = re.compile(r"\{(\d[\d,:-]*)\}")
_ANY = re.compile(r"\\\{(n|m|\\\*)\\\}")
_NUMBER = re.compile(r"(?:^|(?<=[_.]))(?:\d+|\{[nm]\})(?=[_.]|$)")

MAX_SEEN = 200_000
"""Names of modules that a table remembers."""


@dataclass(frozen=True)
class Piece:
    """Rows of a canonical module: block ``index`` of ``count`` equal ones.

    Attributes:
        module: Its canonical name.
        index: Which block of its rows.
        count: Of how many.
    """

    module: str
    index: int = 0
    count: int = 1


@dataclass(frozen=True)
class Entry:
    """What a spelled name stands for.

    Attributes:
        pieces: The canonical rows, one below the other.
        namings: The namings that have this name.
        name: The name, with its dots.
    """

    pieces: tuple[Piece, ...]
    namings: frozenset[str]
    name: str


@dataclass(frozen=True)
class Spelling:
    """How a program writes a module's name: a prefix and a naming."""

    program: str
    prefix: str
    naming: str

    @property
    def is_flat(self) -> bool:
        """Whether dots become underscores."""
        return self.prefix.endswith("_")

    def of(self, name: str) -> str:
        """A name of its naming, as the program writes it."""
        return self.prefix + (name.replace(".", "_") if self.is_flat else name)


@dataclass(frozen=True, eq=False)
class Base:
    """One base model, or one of its text encoders.

    Attributes:
        key: Name of its file.
        order: Where it stands in a list of names: the likelier first.
        name: As passports show it.
        family: Name of the family that it belongs to; its own if it has none.
        words: Parts of texts that speak of it, in lower case.
        members: Models that share its layers' names → words that speak of them.
        component: Diffusers' part of the pipeline; empty for a model that is none.
        needs: Parts of names of which one has to be there, or it is not this base.
        encoders: Keys of the tables of its text encoders, in order.
        source: Where the facts are from.
        spellings: Of all programs; of each program the first is what is written.
        shapes: Canonical name → shape of the weight; empty where any fits.
        rules: Naming → name → the parts that it stands for.
        sizes: Model → its layers and dimensions.
        dimensions: End of a module's name → the dimensions of its rows and columns.
    """

    key: str
    order: int
    name: str
    family: str
    words: tuple[str, ...]
    members: Mapping[str, Sequence[str]]
    component: str
    needs: tuple[str, ...]
    encoders: tuple[str, ...]
    source: Mapping[str, Any]
    spellings: tuple[Spelling, ...]
    shapes: Mapping[str, tuple[int, ...]]
    rules: Mapping[str, Mapping[str, tuple[str, ...]]]
    sizes: Mapping[str, Mapping[str, int]]
    dimensions: Mapping[str, Sequence[str]]

    @cached_property
    def is_open(self) -> bool:
        """Whether numbers of blocks and shapes are left open: a language model's table."""
        return any("{" in name for name in self.shapes)

    def writes(self, program: str) -> Spelling | None:
        """The spelling that a program is written in, None if this base has none for it."""
        return next((s for s in self.spellings if s.program == program), None)

    @cached_property
    def namings(self) -> dict[str, dict[str, tuple[Piece, ...]]]:
        """Naming → name → the canonical rows that it stands for."""
        canonical: dict[str, tuple[Piece, ...]] = {name: (Piece(name),) for name in self.shapes}
        return {"canonical": canonical} | {
            naming: _named(rules, self.shapes) for naming, rules in self.rules.items()
        }

    @cached_property
    def entries(self) -> dict[str, Entry]:
        """Flattened name → what it stands for, in every naming.

        Raises:
            ValueError: Two namings give one name two meanings.
        """
        entries: dict[str, Entry] = {}
        for naming, names in self.namings.items():
            for name, pieces in names.items():
                flat = flattened(name)
                other = entries.get(flat)
                if other is None:
                    entries[flat] = Entry(pieces, frozenset((naming,)), name)
                elif other.pieces == pieces:
                    entries[flat] = Entry(pieces, other.namings | {naming}, other.name)
                else:
                    raise ValueError(f"{self.key}: {name!r} is {other.pieces} and {pieces}")
        return entries

    @cached_property
    def patterns(self) -> dict[str, int]:
        """Flattened names with # for every number → how many names there are of it."""
        counts: dict[str, int] = {}
        for flat in self.entries:
            pattern = numberless(flat)
            counts[pattern] = counts.get(pattern, 0) + 1
        return counts

    @cached_property
    def _open_entries(self) -> dict[str, list[tuple[re.Pattern[str], Entry]]]:
        by_pattern: dict[str, list[tuple[re.Pattern[str], Entry]]] = {}
        for flat, entry in self.entries.items():
            pattern = numberless(flat)
            exact = _ANY.sub(lambda f: rf"(?P<{f[1]}>\d+)", re.escape(flat))
            by_pattern.setdefault(pattern, []).append((re.compile(exact), entry))
        return by_pattern

    def find(self, flat: str) -> Entry | None:
        """What a flattened name stands for, None if this base has no such module.

        Diffusers' first generation leaves out the ``.0`` of output layers.
        """
        if len(self._seen) > MAX_SEEN:
            self._seen.clear()
        if flat not in self._seen:
            self._seen[flat] = self._find(flat)
        return self._seen[flat]

    @cached_property
    def _seen(self) -> dict[str, Entry | None]:
        """Names that were asked before: every part of a report asks for the same."""
        return {}

    def _find(self, flat: str) -> Entry | None:
        if not self.is_open:
            entries = self.entries
            return entries.get(flat) or (
                entries.get(f"{flat}_0") if flat.endswith("_to_out") else None
            )
        for pattern, entry in self._open_entries.get(numberless(flat), ()):
            numbers = pattern.fullmatch(flat)
            if numbers:
                texts = numbers.groupdict()
                pieces = (Piece(_filled(p.module, texts), p.index, p.count) for p in entry.pieces)
                return Entry(tuple(pieces), entry.namings, _filled(entry.name, texts))
        return None

    def rows(self, piece: Piece) -> int:
        """How many rows a piece has; 0 where the table leaves it open."""
        shape = self.shapes.get(piece.module, ())
        return shape[0] // piece.count if shape else 0

    def shape(self, entry: Entry) -> tuple[int, ...]:
        """Of the weight that an entry stands for; empty where the table leaves it open."""
        first = self.shapes.get(entry.pieces[0].module, ())
        return (sum(map(self.rows, entry.pieces)), *first[1:]) if first else ()


def flattened(name: str) -> str:
    """A module's name as kohya's programs flatten it, in lower case."""
    return name.replace(".", "_").lower()


def numberless(flat: str) -> str:
    """A name with # for its numbers."""
    return _NUMBER.sub("#", flat)


def _filled(name: str, texts: Mapping[str, str]) -> str:
    for key, text in texts.items():
        name = name.replace(f"{{{key}}}", text)
    return name


def _numbers(text: str) -> list[str]:
    """``0-3``, ``0,2`` or ``0-6:3`` as the numbers that it stands for."""
    numbers: list[str] = []
    for part in text.split(","):
        span, _, step = part.partition(":")
        first, _, last = span.partition("-")
        numbers += map(str, range(int(first), int(last or first) + 1, int(step or 1)))
    return numbers


def _expanded(pattern: str) -> Iterator[str]:
    """The names that a pattern with numbers in braces stands for."""
    texts = _NUMBERS.split(pattern)
    for numbers in product(*map(_numbers, texts[1::2])):
        yield "".join(a + b for a, b in zip(texts[::2], (*numbers, ""), strict=True))


def _piece(text: str) -> Piece:
    """``name`` or ``name[1/2]``."""
    name, bracket, share = text.partition("[")
    if not bracket:
        return Piece(name)
    index, _, count = share.removesuffix("]").partition("/")
    return Piece(name, int(index), int(count))


def _named(
    rules: Mapping[str, tuple[str, ...]], shapes: Mapping[str, tuple[int, ...]]
) -> dict[str, tuple[Piece, ...]]:
    """The names of one naming: its rules in order, a rule without braces before one with them.

    Raises:
        ValueError: A rule fits no module, or two give one name.
    """
    names: dict[str, tuple[Piece, ...]] = {}
    covered: set[str] = set()
    alike: dict[str, list[str]] = {}
    for module in shapes:
        alike.setdefault(numberless(module), []).append(module)
    for name, parts in sorted(rules.items(), key=lambda rule: "{" in rule[0]):
        matches = list(_matches(name, parts, shapes, alike))
        if not matches:
            raise ValueError(f"{name!r} fits no module")
        for full, pieces in matches:
            covered |= {p.module for p in pieces}
            if full != name and full in rules:
                continue
            if full in names:
                raise ValueError(f"two rules give {full!r}")
            names[full] = pieces
    for name in shapes:
        if name not in covered:
            if name in names:
                raise ValueError(f"{name!r} has two meanings")
            names[name] = (Piece(name),)
    return names


def _matches(
    name: str,
    parts: tuple[str, ...],
    shapes: Mapping[str, tuple[int, ...]],
    alike: Mapping[str, Sequence[str]],
) -> Iterator[tuple[str, tuple[Piece, ...]]]:
    """Every full name of a rule, with its pieces, of which all have to be there.

    ``alike`` are the modules by their names without numbers: few have to be looked at.
    """
    if "{" not in name:
        pieces = tuple(map(_piece, parts))
        if all(p.module in shapes for p in pieces):
            yield name, pieces
        return
    first = _piece(parts[0]).module
    pattern = re.compile(
        _ANY.sub(
            lambda f: "(?P<star>.+)" if "*" in f[1] else rf"(?P<{f[1]}>\d+|\{{{f[1]}\}})",
            re.escape(first),
        )
    )
    for module in shapes if "{*}" in first else alike.get(numberless(first), ()):
        match = pattern.fullmatch(module)
        if not match:
            continue
        texts = {"*" if k == "star" else k: v for k, v in match.groupdict().items()}
        pieces = tuple(_piece(_filled(part, texts)) for part in parts)
        if all(p.module in shapes for p in pieces):
            yield _filled(name, texts), pieces


_SPELLING = re.compile(r"(.*)\{(\w+)\}")


def _spellings(programs: Mapping[str, Sequence[str]]) -> Iterator[Spelling]:
    for program, texts in programs.items():
        for text in texts:
            match = _SPELLING.fullmatch(text)
            if match is None:
                raise ValueError(f"{text!r} is no spelling: a prefix, and a naming in braces")
            yield Spelling(program, match[1], match[2])


def parse_table(key: str, text: str) -> Base:
    """A table from its text.

    Raises:
        ValueError: It is no table.
    """
    table = tomllib.loads(text)
    shapes: dict[str, tuple[int, ...]] = {}
    for pattern, shape in table["modules"].items():
        for name in _expanded(pattern):
            if name in shapes:
                raise ValueError(f"{key}: {name!r} stands twice")
            shapes[name] = tuple(shape)
    rules = {
        naming: {n: (v,) if isinstance(v, str) else tuple(v) for n, v in names.items()}
        for naming, names in table.get("naming", {}).items()
    }
    return Base(
        key,
        table["order"],
        table["name"],
        table.get("family", table["name"]),
        tuple(table.get("words", ())),
        table.get("members", {}),
        table.get("component", ""),
        tuple(table.get("needs", ())),
        tuple(table.get("encoders", ())),
        table["source"],
        tuple(_spellings(table["spellings"])),
        shapes,
        rules,
        table.get("sizes", {}),
        table.get("dimensions", {}),
    )


@lru_cache(1)
def all_tables() -> dict[str, Base]:
    """Every table of this folder, by its key."""
    files = (f for f in resources.files(__package__).iterdir() if f.name.endswith(".toml"))
    keys = sorted((f.name.removesuffix(".toml"), f.read_text(encoding="utf-8")) for f in files)
    return {key: parse_table(key, text) for key, text in keys}


@lru_cache(1)
def bases() -> tuple[Base, ...]:
    """The tables of base models, without those of the text encoders of pipelines."""
    tables = (b for b in all_tables().values() if b.component != "text_encoder")
    return tuple(sorted(tables, key=lambda base: base.order))
