"""How many of the inputs that were once read wrong are right?

    python -m benchmarks.field_cases --cases FOLDER

A case is a script mNN_*.py that tries one input, or one command, of pictures, meshes, instance
files and the shell, knows the right value, and exits 1 while wsdemo is wrong. They were collected
from public reports of other projects; each kind has a test of ours that builds its own input.
Before the kinds were mended (commit 739b511) every one of them failed.
"""

import argparse
import os
import re
import subprocess
import sys
from pathlib import Path

from benchmarks.common import DOCS, store_result

KINDS = {
    "scores that could not be 1": (1, 2),
    "threads beside a busy process": (3,),
    "what a library skips of meshes": (4, 6, 8, 10, 11, 12, 14, 15),
    "inside and outside for the whole mesh at once": (17,),
    "rendering": (19,),
    "colour profiles": (21,),
    "false refusals, or one reason for all": (23, 24, 25, 27, 29, 30, 31, 32),
    "writing that is not whole, or not checked": (37,),
    "metadata trusted, options ignored": (34, 36, 39),
    "the shell; place, axis and resolution": (22, 40, 41, 43, 44),
}
"""Kind → numbers of its cases."""


def run_case(script: Path) -> tuple[bool, str]:
    """Whether a case is right, and the last line that it prints."""
    done = subprocess.run(
        [sys.executable, str(script)], capture_output=True, text=True, timeout=600,
        env={**os.environ, "WSDEMO": str(DOCS.parent)},
    )  # fmt: skip
    lines = (done.stdout or done.stderr).strip().splitlines()
    return done.returncode == 0, lines[-1][:200] if lines else ""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=Path, required=True, help="folder of scripts mNN_*.py")
    args = parser.parse_args()
    rows: dict[str, dict[str, object]] = {}
    scripts = {int(re.findall(r"\d+", p.name)[0]): p for p in sorted(args.cases.glob("m*_*.py"))}
    for kind, numbers in KINDS.items():
        wrong = []
        for number in numbers:
            is_right, line = run_case(scripts[number])
            print("ok  " if is_right else "FAIL", scripts[number].stem, line, flush=True)
            if not is_right:
                wrong.append({"case": scripts[number].stem, "says": line})
        rows[kind] = {"cases": len(numbers), "before": 0, "wrong": wrong}
        command = "python -m benchmarks.field_cases --cases FOLDER"
        store_result("field-cases", command, {"rows": rows})


if __name__ == "__main__":
    main()
