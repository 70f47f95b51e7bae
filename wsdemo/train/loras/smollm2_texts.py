"""Writes the text sources of the family *SmolLM2*, one file a source, and its general text.

    apt-get download anarchism base-files debian-reference-en dict-foldoc dict-jargon dict-vera \\
        fortunes fortunes-min libjs-jquery libpython3.11-stdlib linux-libc-dev manpages-de \\
        manpages-es manpages-fr manpages-it nethack-common pci.ids postgresql-doc-15 \\
        r-cran-janeaustenr sword-text-kjv wesnoth-1.16-httt \\
        wesnoth-1.16-utbs
    for p in *.deb; do dpkg-deb -x $p UNPACKED; done
    python -m wsdemo.train.loras.smollm2_texts --packages UNPACKED --questions JSONL --out TEXTS

``--packages``: where the Debian packages are unpacked, ``/`` where they are installed with their
documentation. ``--questions``: gsm8k_train.jsonl (question, answer) and four categories of BBQ as
bbq_*.jsonl (context, question, choices, label).

Written are TEXTS/SOURCE.txt of every source in ``SOURCES`` and ``UNSEEN``, and TEXTS/general.txt:
prose that is in no source, on which is measured what a LoRA forgot.
"""

import argparse
import gzip
import html
import json
import random
import re
import struct
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path

from wsdemo.errors import WsdemoError
from wsdemo.train.loop import log
from wsdemo.train.loras.smollm2_toy import write_toy_sources

LIMIT = 2_000_000
"""Characters kept of a source: more than its passages need."""
BBQ = ("age", "disability_status", "nationality", "physical_appearance")
QUOTES = ("humorists", "people", "platitudes", "politics", "science", "wisdom", "work")


# ---- how each format becomes text ---------------------------------------------------------


def shuffled(paths: Iterable[Path]) -> list[Path]:
    """In an order that does not follow the names, the same on every machine."""
    order = sorted(paths)
    random.Random(len(order)).shuffle(order)
    return order


def plain(paths: Iterable[Path]) -> str:
    """Text files, gzipped (as dictd's .dz are too) or not, one after the other up to LIMIT."""
    parts: list[str] = []
    size = 0
    for path in paths:
        raw = path.read_bytes()
        raw = gzip.decompress(raw) if path.suffix in (".gz", ".dz") else raw
        parts.append(raw.decode("utf-8", "replace"))
        size += len(parts[-1])
        if size > LIMIT:
            break
    return "\n".join(parts)


def without_tags(text: str) -> str:
    """HTML or XML as its text, a paragraph a line."""
    text = re.sub(r"(?is)<(script|style|head)\b.*?</\1>", " ", text)
    text = re.sub(r"(?i)<(p|br|div|li|tr|h\d|pre|verse|chapter)\b[^>]*>", "\n", text)
    return html.unescape(re.sub(r"<[^>]*>", "", text))


def manual_pages(folder: Path) -> str:
    """Manual pages in roff, without their comments."""
    text = plain(shuffled(folder.glob("man*/*.gz")))
    return re.sub(r'(?m)^[.\']\\".*\n', "", text)


def questions(path: Path) -> list[str]:
    """The rows of a file of questions, with the right answer behind each."""
    rows = [json.loads(line) for line in path.read_text("utf-8").splitlines() if line.strip()]
    return [
        f"{row['context']} {row['question']} {row['choices'][row['label']]}"
        if "choices" in row
        else f"{row['question']} {row['answer']}"
        for row in rows
    ]


def mixed(rows: Iterable[str]) -> str:
    """Rows in random order, a blank line between."""
    order = list(rows)
    random.Random(len(order)).shuffle(order)
    return "\n\n".join(order)


def sword_books(folder: Path) -> str:
    """A module of the SWORD project (zText): zlib blocks, (offset, packed, size) in the .bzs."""
    parts = []
    for testament in ("ot", "nt"):
        index = (folder / f"{testament}.bzs").read_bytes()
        packed = (folder / f"{testament}.bzz").read_bytes()
        for offset, count, _ in struct.iter_unpack("<III", index):
            block = zlib.decompress(packed[offset : offset + count]).decode("utf-8", "replace")
            parts.append(without_tags(block))
    return "\n".join(parts)


def r_strings(path: Path) -> str:
    """The strings of an R package's data: zlib streams behind four bytes of length each.

    R writes a string of UTF-8 or ASCII as a flag word whose last byte is 9, a length, its bytes.
    """
    raw, lines = path.read_bytes(), []
    while raw:
        stream = zlib.decompressobj()
        data = stream.decompress(raw[4:])
        raw = stream.unused_data
        for match in re.finditer(rb"\x00[\x04\x00][\x00\x80]\x09(\x00\x00..)", data, re.DOTALL):
            (count,) = struct.unpack(">I", match[1])
            lines.append(data[match.end() : match.end() + count].decode("utf-8", "replace"))
    return "\n".join(lines)


def spoken(paths: Iterable[Path]) -> str:
    """What is said and told in scenarios of Wesnoth: its strings marked for translation."""
    text = plain(sorted(paths))
    return "\n".join(re.findall(r'(?s)(?:message|story|description)\s*=\s*_\s*"(.*?)"', text))


# ---- the sources ----------------------------------------------------------------------------

Reader = Callable[[Path, Path], str]
"""From the folder usr of the packages, and that of the questions, to a source's text."""


def dictionary(name: str) -> Reader:
    """Reads a dictionary of dictd."""
    return lambda usr, _: plain([usr / f"share/dictd/{name}.dict.dz"])


def manual(language: str) -> Reader:
    """Manual pages in a language."""
    return lambda usr, _: manual_pages(usr / "share/man" / language)


def fortunes(*names: str) -> Reader:
    """Sayings of some files of fortune, without the lines between them."""
    return lambda usr, _: mixed(
        saying.strip()
        for name in names
        for saying in plain([usr / "share/games/fortunes" / name]).split("\n%\n")
    )


SOURCES: dict[str, Reader] = {
    "austen": lambda usr, _: r_strings(usr / "lib/R/site-library/janeaustenr/data/Rdata.rdb"),
    "bbq": lambda _, asked: mixed(
        row for name in BBQ for row in questions(asked / f"bbq_{name}.jsonl")
    ),
    "c-headers": lambda usr, _: plain(shuffled((usr / "include/linux").rglob("*.h"))),
    "foldoc": dictionary("foldoc"),
    "gsm8k": lambda _, asked: mixed(questions(asked / "gsm8k_train.jsonl")),
    "jargon": dictionary("jargon"),
    "javascript": lambda usr, _: plain([usr / "share/javascript/jquery/jquery.js"]),
    "kjv-bible": lambda usr, _: sword_books(usr / "share/sword/modules/texts/ztext/engKJV2006eb"),
    "licences": lambda usr, _: plain(
        p for p in sorted((usr / "share/common-licenses").iterdir()) if not p.is_symlink()
    ),
    "manual-de": manual("de"),
    "manual-es": manual("es"),
    "manual-fr": manual("fr"),
    "pci-ids": lambda usr, _: plain([usr / "share/misc/pci.ids"]),
    "postgres": lambda usr, _: without_tags(
        plain(shuffled((usr / "share/doc/postgresql-doc-15/html").glob("*.html")))
    ),
    "python": lambda usr, _: plain(shuffled((usr / "lib/python3.11").rglob("*.py"))),
    "quotes": fortunes(*QUOTES),
    "vera": dictionary("vera"),
    "wesnoth": lambda usr, _: spoken(usr.rglob("data/campaigns/**/*.cfg")),
}
"""What training LoRAs are trained on: mathematics, questions, code, law, scripture, fiction,
dialogue, dictionaries, tables, sayings, manuals in three languages."""
UNSEEN: dict[str, Reader] = {
    "manual-it": manual("it"),
    "songs-poems": fortunes("songs-poems"),
}
"""What no training LoRA has seen: one near to three sources, one unlike any."""
GENERAL = "general"


def general_text(usr: Path) -> str:
    """Prose that is in no source: an essay, a handbook, a guide to a game, in parts."""
    texts = [
        plain(sorted((usr / "share/doc/anarchism/markdown").glob("sec*.md.gz"))),
        without_tags(plain(sorted((usr / "share/debian-reference").glob("ch*.en.html")))),
        plain([usr / "share/doc/nethack-common/Guidebook.txt.gz"]),
    ]
    size = min(len(text) for text in texts)
    return "\n".join(text[:size] for text in texts)


def write_texts(packages: Path, asked: Path, out: Path) -> None:
    """Writes every source that is not there yet.

    Raises:
        WsdemoError: A file of a source is missing, or a source is empty.
    """
    usr = packages / "usr"
    readers = SOURCES | UNSEEN | {GENERAL: lambda usr, _: general_text(usr)}
    out.mkdir(parents=True, exist_ok=True)
    for name, reader in readers.items():
        try:
            text = re.sub(r"[ \t]+", " ", reader(usr, asked))
        except FileNotFoundError as error:
            text, path = "", Path(str(error.filename))
        else:
            path = usr
        if not text.strip():
            raise WsdemoError(
                "Source missing", f"Nothing for {name} in {path}.",
                "Unpack the packages that this recipe's first lines name, and give their folder.",
            )  # fmt: skip
        text = re.sub(r"\n\s*\n", "\n\n", text)[:LIMIT].strip()
        (out / f"{name}.txt").write_text(text, encoding="utf-8")
        log(f"{name}: {len(text):,} characters")


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--packages", type=Path, default=Path("/"))
    parser.add_argument("--questions", type=Path, help="needed but for --toy")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--toy", action="store_true", help="made-up texts")
    args = parser.parse_args(arguments)
    if args.toy:
        write_toy_sources(args.out, (*SOURCES, *UNSEEN, GENERAL))
        return
    if args.questions is None:
        raise WsdemoError("No questions", "--questions is not given.", "Give their folder.")
    write_texts(args.packages, args.questions, args.out)


if __name__ == "__main__":
    main()
