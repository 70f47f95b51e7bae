"""``space``: the folder that a Hugging Face Space of this app is pushed from, and nothing else."""

import argparse
import os
import re
import shutil
import tempfile
from pathlib import Path
from typing import Any

from wsdemo.errors import WsdemoError

ROOT = Path(__file__).resolve().parent.parent.parent
TOP = ("README.md", "LICENSE", "app.py", "packages.txt", "pyproject.toml", "requirements.txt")
MAX_FILE_BYTES = 10_000_000
"""What plain git hosts take; larger files would need Git LFS."""
MAX_BYTES = 1_000_000_000
"""Of the whole: what is cloned at every start."""
NOT_CODE = {"__pycache__"}
RECIPES = "train"
"""The room of the package that the app does not import."""
REPOSITORY = re.compile(r"[\w.-]{1,96}/[\w.-]{1,96}")


def add_space_verb(verb: Any) -> None:
    """Adds ``space``."""
    space = verb("space", run_space, "Write the folder of a Hugging Face Space.")
    space.add_argument("--out", type=Path, required=True, help="a new or an empty folder")
    space.add_argument(
        "--repo", default=None, metavar="OWNER/NAME", help="of the Space: makes its thumbnail's URL"
    )


def space_files(root: Path) -> list[Path]:
    """What a Space needs of a clone, as paths inside of it.

    Args:
        root: Of the clone.

    Raises:
        WsdemoError: It is none, or a file is too large.
    """
    missing = [name for name in (*TOP, "checkpoints", "docs") if not (root / name).exists()]
    if missing:
        raise WsdemoError(
            "Not a clone",
            f"{root} lacks {', '.join(missing)}.",
            "Clone the repository and run python -m wsdemo space in it.",
        )
    package = root / "wsdemo"
    code = [
        path
        for path in package.rglob("*")
        if path.is_file()
        and path.suffix not in (".pyc", ".pyi")
        and not NOT_CODE & set(path.parts)
        and path.relative_to(package).parts[0] != RECIPES
    ]
    checkpoints = [
        path
        for path in (root / "checkpoints").iterdir()
        if path.suffix in (".safetensors", ".md", ".svg")
    ]
    readme = (root / "README.md").read_text(encoding="utf-8")
    pictures = {root / name for name in re.findall(r"docs/[\w/.-]+\.(?:png|jpg|svg)", readme)}
    texts = (root / "docs").glob("*.md")
    paths = [*(root / name for name in TOP), *code, *checkpoints, *pictures, *texts]
    sizes = {path: path.stat().st_size for path in paths}
    large = [path for path, size in sizes.items() if size >= MAX_FILE_BYTES]
    if large or sum(sizes.values()) > MAX_BYTES:
        raise WsdemoError(
            "Too large for a Space",
            f"{', '.join(p.name for p in large) or f'{sum(sizes.values()):,} bytes in all'};"
            f" a file may have {MAX_FILE_BYTES:,} bytes, all together {MAX_BYTES:,}.",
            "Split the file into parts, as the diffusion models are.",
        )
    return sorted(path.relative_to(root) for path in paths)


def with_thumbnail(readme: str, repo: str | None) -> str:
    """README.md whose thumbnail has an address, as the Hub wants one."""
    if repo is None:
        return readme
    address = f"https://huggingface.co/spaces/{repo}/resolve/main/"
    return re.sub(r"(?m)^thumbnail: (?!https)", f"thumbnail: {address}", readme, count=1)


def run_space(args: argparse.Namespace) -> dict[str, Any]:
    """``space --out DIR``: copies what a Space needs; DIR is there whole or not at all."""
    out: Path = args.out
    if args.repo is not None and not REPOSITORY.fullmatch(args.repo):
        raise WsdemoError(
            "Not a repository's name", f"Found {args.repo[:80]!r}.", "Expected owner/name."
        )
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise WsdemoError(
            "Not an empty folder",
            f"{out} is there and not empty; what is in it would be pushed too.",
            "Name a new folder with --out.",
        )
    paths = space_files(ROOT)
    target = out.resolve()
    target.parent.mkdir(parents=True, exist_ok=True)
    made = Path(tempfile.mkdtemp(prefix=".wsdemo-", dir=target.parent))
    try:
        for path in paths:
            (made / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / path, made / path)
        readme = made / "README.md"
        readme.write_text(with_thumbnail(readme.read_text("utf-8"), args.repo), "utf-8")
        made.chmod(0o755)
        os.replace(made, target)
    except BaseException:
        shutil.rmtree(made, ignore_errors=True)
        raise
    sizes = [(target / path).stat().st_size for path in paths]
    push = f"hf upload {args.repo or 'OWNER/NAME'} {out} . --repo-type space"
    return {
        "folder": str(out),
        "files": len(paths),
        "bytes": sum(sizes),
        "largest_bytes": max(sizes),
        "push": push,
    }
