"""Every base in every program's spelling: written, read back, named, compared.

    python -m benchmarks.base_matrix            # writes docs/bases.md
    python -m benchmarks.base_matrix flux1      # prints one base

A LoRA of rank 2 with random values on a base's own modules, at their real sizes: all modules of its
first block, of its last, and those outside of blocks. It is exported for each program; what is
written is read, its base named from names and shapes alone, and compared with the original.
"""

import argparse
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from wsdemo.lora.bases.tables import Base, all_tables, bases
from wsdemo.lora.comparison import compare
from wsdemo.lora.export import PROGRAMS, content_for, export
from wsdemo.lora.modules import BaseModel, Lora, LoraModule
from wsdemo.lora.reader import read_lora

PAGE = Path("docs/bases.md")
MANY = 24
"""Modules of a LoRA that is tried: about so many."""


@dataclass(frozen=True)
class Row:
    """One base for one program.

    Attributes:
        base: Key of its table.
        program: Which program.
        names: How the program writes a name.
        read: Modules read, of those written.
        named: What the file is said to be for.
        is_named: Whether that is this base, or names it among others.
        cosine: With the original.
        verdict: Of the comparison.
    """

    base: str
    program: str
    names: str
    read: str
    named: str
    is_named: bool
    cosine: float
    verdict: str


def sample(base: Base, count: int = MANY) -> Lora:
    """A LoRA on some of a base's modules, under canonical names."""
    generator = torch.Generator().manual_seed(0)
    names = list(base.shapes)
    step = max(1, len(names) // count)
    chosen = names[::step]
    fused = [p.module for own in base.namings.values() for e in own.values()
             if len(e) > 1 for p in e if e[0].module in chosen]  # fmt: skip
    modules = []
    for name in dict.fromkeys([*chosen, *fused]):
        shape = base.shapes[name] or (48, 32)
        full = name.replace("{n}", "1").replace("{m}", "2")
        n, m = shape[0], int(torch.tensor(shape[1:]).prod())
        U = torch.randn(n, 2, generator=generator)
        V = torch.randn(m, 2, generator=generator)
        prefix = f"{base.component}." if base.component else ""
        modules.append(LoraModule(prefix + full, U, V, 1.0, 2, shape, is_rewritten=True))
    known = BaseModel("", candidates=(base.key,), sizes_fit=True)
    return Lora("diffusers", tuple(modules), known, (), {}, 0, (), ())


def rows(base: Base, folder: Path) -> Iterator[Row]:
    """One base for every program that it has a spelling for."""
    lora = sample(base)
    for program in PROGRAMS:
        spelling = base.writes(program) or (base.writes("musubi") if program == "kohya" else None)
        if spelling is None:
            continue
        path = folder / base.key / program / "x.safetensors"
        path.parent.mkdir(parents=True, exist_ok=True)
        export(lora, program, path, "float32")
        written = len(content_for(lora, base, program).tensors) // (3 if spelling.is_flat else 2)
        again = read_lora(path)
        found = compare(lora, again)
        yield Row(
            base.key,
            program,
            f"{spelling.prefix}{{{spelling.naming}}}",
            f"{len(again.modules)}/{written}",
            again.base.name or "unclear",
            base.key in again.base.candidates,
            found.cosine,
            found.verdict.word,
        )


def line(row: Row) -> str:
    """A row of the page's table."""
    return (
        f"| {all_tables()[row.base].name} | {row.program} | `{row.names}` | {row.read} |"
        f" {row.named} | {row.cosine:.6f} | {row.verdict} |"
    )


def facts() -> str:
    """The end of the page: where the tables are from."""
    lines = ["## Where the facts are from", ""]
    for base in bases():
        sources = "; ".join(base.source["facts"])
        programs = ", ".join(dict.fromkeys(s.program for s in base.spellings))
        lines.append(f"- **{base.name}** (`{base.key}.toml`): {sources}. Spellings: {programs}.")
    return "\n".join(lines) + "\n"


def page(found: list[Row]) -> str:
    """The page of the documentation."""
    lines = [
        "# Base models and their spellings",
        "",
        "Written by `python -m benchmarks.base_matrix`, which exports a LoRA of each base for each"
        " program, reads it back, names its base and compares it with the original."
        " `tests/lora/bases/` makes some of the rows again, and holds the tables to diffusers' own"
        " models, converters and loaders.",
        "",
        "| base | program | names | read | named | cosine | verdict |",
        "|---|---|---|---|---|---|---|",
    ]
    lines += [*map(line, found), "", facts()]
    return "\n".join(lines)


def main() -> None:
    """Prints one base, or writes the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("base", nargs="?")
    args = parser.parse_args()
    found = []
    with tempfile.TemporaryDirectory() as folder:
        for base in [all_tables()[args.base]] if args.base else bases():
            for row in rows(base, Path(folder)):
                found.append(row)
                print(*vars(row).values(), sep=" | ", flush=True)
    if not args.base:
        PAGE.write_text(page(found), encoding="utf-8")


if __name__ == "__main__":
    main()
