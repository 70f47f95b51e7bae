"""The ground plan in numbers, now and in an earlier checkout.

    git worktree add --detach /tmp/before 739b511
    python -m benchmarks.house --before /tmp/before

Files at the top of the package; lines of the halves that faces and shapes had each of, pipeline,
fitting, Fit tab and Sample tab, and of what is in their place; places outside of the domains and
their recipes where the name of one decides something (tests/test_architecture.py says which count).
"""

import argparse
import subprocess
from pathlib import Path

from benchmarks.common import store_result
from tests.test_architecture import APART_FROM_DOMAINS, named_domains
from wsdemo.domains.registry import DOMAINS

HERE = Path(__file__).resolve().parent.parent
EARLIEST = "739b511"
HALVES = {
    "before": ("face_fitting.py", "shape_fitting.py", "pipelines.py", "shape_pipelines.py",
               "ui/fit_tab.py", "ui/shape_fit_tab.py", "ui/sample_tab.py",
               "ui/shape_sample_tab.py"),
    "now": ("domains/*.py", "ui/fields/*.py"),
}  # fmt: skip
APART = {"domains", "pipelines.py", "shape_pipelines.py", "train", *APART_FROM_DOMAINS}
"""The domains themselves, their recipes, and rooms whose words mean other things."""


def files_of(package: Path, *patterns: str) -> list[Path]:
    """The modules of a package that have anything in them."""
    found = [p for pattern in patterns for p in sorted(package.glob(pattern))]
    return [p for p in found if p.stem != "__init__"]


def branches(package: Path) -> int:
    """Places where a domain's name decides, outside of what the domains themselves are made of."""
    names = {name for d in DOMAINS.values() for name in (d.name, d.kind)}
    asked = [
        p for p in files_of(package, "**/*.py") if p.relative_to(package).parts[0] not in APART
    ]
    return sum(len(named_domains(path, names)) for path in asked)


def measure(tree: Path, when: str) -> dict[str, int]:
    """The figures of a tree."""
    package = tree / "wsdemo"
    halves = files_of(package, *HALVES[when])
    return {
        "top": len(list(package.glob("*.py"))),
        "half_files": len(halves),
        "half_lines": sum(len(p.read_text().splitlines()) for p in halves),
        "branches": branches(package),
        "files": len(files_of(package, "**/*.py")),
        "lines": sum(len(p.read_text().splitlines()) for p in package.rglob("*.py")),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--before", type=Path, help=f"a checkout of {EARLIEST}")
    args = parser.parse_args()
    values = {"now": measure(HERE, "now")}
    if args.before:
        values["before"] = measure(args.before, "before")
        commit = subprocess.run(
            ["git", "rev-parse", "--short", "HEAD"], cwd=args.before, capture_output=True, text=True
        )
        command = f"python -m benchmarks.house --before CHECKOUT_OF_{commit.stdout.strip()}"
        store_result("house", command, values)
    print(values)


if __name__ == "__main__":
    main()
