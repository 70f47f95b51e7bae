"""Writes the text sources of the family *SmolLM2*, one file a source.

    apt-get download anarchism dict-devil dict-foldoc dict-jargon dict-vera fortunes fortunes-min
    for p in *.deb; do dpkg-deb -x $p UNPACKED; done
    python -m wsdemo.train.loras.smollm_texts --packages UNPACKED --questions JSONL --out TEXTS

``--packages``: where the Debian packages are unpacked, ``/`` where they are installed with their
documentation. ``--questions``: gsm8k_train.jsonl (question, answer) and six categories of BBQ as
bbq_*.jsonl (context, question, choices, label); four are sources, two serve as the questions that
accuracy is measured on.
"""

import argparse
import gzip
import shutil
from pathlib import Path

from wsdemo.errors import WsdemoError
from wsdemo.files import write_whole
from wsdemo.train.loop import log
from wsdemo.train.loras.smollm_toy import write_toy_texts

DICTIONARIES = ("devil", "foldoc", "jargon", "vera")
FORTUNES = ("literature", "perl", "songs-poems", "startrek")
BBQ = ("age", "disability_status", "nationality", "physical_appearance")
QUESTIONS = ("religion", "sexual_orientation")


def _unzip(path: Path) -> str:
    """The text of a gzip file, as dictd's .dz files are too."""
    return gzip.decompress(path.read_bytes()).decode("utf-8", "replace")


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--packages", type=Path, default=Path("/"))
    parser.add_argument("--questions", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--toy", action="store_true", help="made-up texts")
    args = parser.parse_args(arguments)
    if args.toy:
        write_toy_texts(args.out)
        return
    if args.questions is None:
        raise WsdemoError("No questions", "--questions is not given.", "Give their folder.")
    share = args.packages / "usr/share"
    asked = args.out / "questions"
    asked.mkdir(parents=True, exist_ok=True)
    try:
        texts = {name: _unzip(share / f"dictd/{name}.dict.dz") for name in DICTIONARIES}
        for name in FORTUNES:
            texts[f"fortunes-{name}"] = (share / f"games/fortunes/{name}").read_text("utf-8")
        sections = sorted((share / "doc/anarchism/markdown").glob("sec*.md.gz"))
        texts["anarchism"] = "\n".join(_unzip(p) for p in sections)
        for name in BBQ:
            shutil.copyfile(args.questions / f"bbq_{name}.jsonl", args.out / f"bbq_{name}.jsonl")
        for name in QUESTIONS:
            shutil.copyfile(args.questions / f"bbq_{name}.jsonl", asked / f"bbq_{name}.jsonl")
        shutil.copyfile(args.questions / "gsm8k_train.jsonl", args.out / "gsm8k.jsonl")
    except FileNotFoundError as error:
        raise WsdemoError(
            "Source missing", f"{error.filename} is not there.",
            "Unpack the packages that this recipe's first lines name, and give their folder.",
        ) from None  # fmt: skip
    for name, text in texts.items():
        write_whole(args.out / f"{name}.txt", text)
        log(f"{name}: {len(text):,} characters")


if __name__ == "__main__":
    main()
