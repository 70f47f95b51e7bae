"""Says which code each recipe runs: ``python -m wsdemo.train.pipeline.code FOLDER``.

One file a module of wsdemo.train: a line for every module of wsdemo that it imports, directly or
through others, with the SHA-256 of its statements. Comments and docstrings do not count, so that a
better sentence makes no checkpoint stale; all else does. A stage of dvc.yaml depends on its
recipe's file.
"""

import argparse
import ast
import hashlib
from functools import cache
from pathlib import Path

import wsdemo

PACKAGE = Path(wsdemo.__file__).resolve().parent


def module_path(name: str) -> Path | None:
    """The file of a module of wsdemo, if there is one of that dotted name."""
    parts = name.split(".")
    if parts[0] != "wsdemo":
        return None
    place = PACKAGE.joinpath(*parts[1:])
    candidates = (place / "__init__.py", place.with_suffix(".py"))
    return next((path for path in candidates if path.is_file()), None)


@cache
def imports(path: Path) -> frozenset[str]:
    """The modules of wsdemo that a file imports, inside functions too, and their packages."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    parents = {".".join(n.split(".")[:i]) for n in names for i in range(1, n.count(".") + 1)}
    return frozenset(name for name in names | parents if module_path(name) is not None)


@cache
def digest(path: Path) -> str:
    """SHA-256 of a file's statements, without comments and docstrings."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if not isinstance(body, list):
            continue
        # A docstring, or the sentence below a constant.
        kept = [part for part in body if not _is_text(part)]
        node.body = kept or [ast.Pass()]  # type: ignore[attr-defined]
    return hashlib.sha256(ast.unparse(tree).encode()).hexdigest()


def _is_text(node: ast.AST) -> bool:
    is_constant = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    return is_constant and isinstance(node.value.value, str)  # type: ignore[attr-defined]


def modules_of(name: str) -> dict[str, Path]:
    """A module and all of wsdemo that it imports: dotted name → file."""
    modules: dict[str, Path] = {}
    waiting = [name]
    while waiting:
        one = waiting.pop()
        path = module_path(one)
        if one not in modules and path is not None:
            modules[one] = path
            waiting += imports(path)
    return modules


def listing(name: str) -> str:
    """What the file of a recipe says: a digest and a module a line."""
    rows = sorted(modules_of(name).items())
    return "".join(f"{digest(path)}  {module}\n" for module, path in rows)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    args = parser.parse_args(arguments)
    args.folder.mkdir(parents=True, exist_ok=True)
    wanted = {}
    for path in sorted((PACKAGE / "train").rglob("*.py")):
        name = ".".join(("wsdemo", *path.relative_to(PACKAGE).with_suffix("").parts))
        if path.name != "__init__.py":
            wanted[args.folder / f"{name.removeprefix('wsdemo.train.')}.txt"] = listing(name)
    for path in set(args.folder.glob("*.txt")) - set(wanted):
        path.unlink()
    for path, text in wanted.items():
        if not path.is_file() or path.read_text() != text:
            path.write_text(text)


if __name__ == "__main__":
    main()
