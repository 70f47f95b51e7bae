"""The shape of the package: who may import whom, and what lies where."""

import ast
import importlib
import re
from pathlib import Path

import pytest

from wsdemo.domains.registry import DOMAINS

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "wsdemo"
MODULES = sorted(PACKAGE.rglob("*.py"))

LAYERS = {
    "errors": 0, "limits": 0, "files": 0, "runtime": 0, "safetensors_header": 0, "checkpoints": 0,
    "media": 1, "fields": 1, "lora": 1, "hub": 1,
    "generate": 2, "analysis": 2,
    "lol": 3, "domains": 3, "library": 3,
    "maps": 4,
    "train": 5, "ui": 5, "cli": 5, "earlier": 5,
}  # fmt: skip
"""A module imports its own layer or a lower one; rooms and top-level modules alike."""
APART = {"train", "ui", "cli"}
"""Rooms of the top layer do not know each other."""
NETWORK = {
    "socket", "ssl", "http", "urllib", "requests", "httpx", "httpx2", "aiohttp", "huggingface_hub"
}  # fmt: skip


def imports(path: Path) -> set[str]:
    """Full dotted names that a file imports, inside functions too."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_dependencies_point_one_way(path):
    top = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    if top in {"__init__", "__main__"}:
        return
    for name in imports(path):
        parts = tuple(name.split("."))
        if parts[0] == "wsdemo" and len(parts) > 1 and parts[1] in LAYERS:
            assert LAYERS[parts[1]] <= LAYERS[top], f"{path.name} imports {name}"
            assert parts[1] == top or not {top, parts[1]} <= APART, f"{path.name} imports {name}"


def test_scripts_find_modules_that_moved_and_nothing_here_needs_them():
    moved = {p.stem for p in (PACKAGE / "earlier").glob("*.py")} - {"__init__"}
    for name in moved:
        module = importlib.import_module(f"wsdemo.{name}")
        assert all(hasattr(module, public) for public in module.__all__)
    names = {f"wsdemo.{name}" for name in (*moved, "earlier")}
    assert not any(imports(path) & names for path in MODULES)


def test_every_module_has_its_layer():
    tops = {p.relative_to(PACKAGE).parts[0].removesuffix(".py") for p in MODULES}
    assert tops - {"__init__", "__main__"} == set(LAYERS)


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_only_one_module_touches_opengl(path):
    if path.name != "opengl.py":
        assert not {name.split(".")[0] for name in imports(path)} & {"pyrender", "OpenGL"}


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_only_the_ui_knows_gradio_and_only_the_hub_opens_sockets(path):
    names = {n for n in imports(path) if not n.startswith("urllib.parse")} - {"urllib"}
    tops = {name.split(".")[0] for name in names}
    room = path.relative_to(PACKAGE).parts[0]
    if room != "ui":
        assert not tops & {"gradio", "pandas"}
    if room != "hub":
        assert not tops & NETWORK


def test_package_needs_nothing_from_the_recipes():
    for path in MODULES:
        if path.relative_to(PACKAGE).parts[0] != "train":
            assert not any(n.startswith("wsdemo.train") for n in imports(path)), path


def test_entry_point_stays_short():
    assert len((ROOT / "app.py").read_text().splitlines()) <= 60


def test_checkpoints_fit_a_plain_git_host_and_each_has_a_card():
    files = sorted((ROOT / "checkpoints").glob("*.safetensors"))
    assert files
    assert max(f.stat().st_size for f in files) < 10_000_000
    assert sum(f.stat().st_size for f in files) < 120_000_000
    for file in files:
        stem = re.sub(r"-\d+$", "", file.stem)
        assert (ROOT / "checkpoints" / f"{stem}.md").is_file(), f"{file.name} has no card"


def test_cards_state_data_recipe_and_licence():
    for card in (ROOT / "checkpoints").glob("*.md"):
        text = card.read_text()
        for heading in ("Data", "Recipe", "Licence", "Size"):
            assert f"**{heading}" in text, f"{card.name} lacks {heading}"
        free = card.name == "lol-smollm2.md"  # learnt from free texts
        assert "non-commercial" in text or free


APART_FROM_DOMAINS = {"media", "lol", "hub", "lora"}
"""Rooms in which these words mean other things: a mesh has faces, a tensor has a shape."""
OWN_RECIPES = {"faces", "shapes", "loras"}
"""Recipes of one domain's data, which may call it by its name."""


def named_domains(path: Path, names: set[str]) -> list[int]:
    """Lines of a file where a domain's name or kind decides something: compared, or a key."""
    lines = []
    for node in ast.walk(ast.parse(path.read_text())):
        asked: list[ast.expr] = []
        if isinstance(node, ast.Compare):
            asked = [node.left, *node.comparators]
        elif isinstance(node, ast.Dict):
            asked = [key for key in node.keys if key is not None]
        elif isinstance(node, ast.Subscript):
            asked = [node.slice]
        elif isinstance(node, ast.MatchValue):
            asked = [node.value]
        elif isinstance(node, ast.Call):
            asked = [*node.args, *(k.value for k in node.keywords if k.arg != "elem_id")]
        for one in asked:
            inner = one.elts if isinstance(one, ast.Tuple | ast.List | ast.Set) else [one]
            if any(isinstance(e, ast.Constant) and e.value in names for e in inner):
                lines.append(node.lineno)
    return lines


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_no_code_outside_domains_asks_for_a_domain_by_name(path):
    room, *rest = path.relative_to(PACKAGE).parts
    if room == "domains" or room in APART_FROM_DOMAINS:
        return
    if room == "train" and (rest[0] in OWN_RECIPES or rest[0] == "cards.py"):
        return
    names = {name for d in DOMAINS.values() for name in (d.name, d.kind)}
    assert not named_domains(path, names)


def test_a_domain_that_is_asked_for_by_name_is_noticed(tmp_path):
    for code in (
        'if name == "faces": pass', 'x = {"sdf": 1}[kind]', 'weight_map("shapes")',
        'if kind in ("image", "sdf"): pass', 'match kind:\n    case "sdf": pass',
    ):  # fmt: skip
        path = tmp_path / "x.py"
        path.write_text(code)
        assert named_domains(path, {"faces", "shapes", "sdf", "image"}), code


def test_modules_of_domains_and_maps_know_each_other_without_circles():
    for room in ("domains", "maps"):
        known = {p.stem: imports(p) for p in (PACKAGE / room).glob("*.py") if p.stem != "__init__"}
        needs = {
            a: {b for b in known if f"wsdemo.{room}.{b}" in names} for a, names in known.items()
        }
        while needs:
            free = {a for a, others in needs.items() if not others & set(needs)}
            assert free, f"{room}: a circle among {sorted(needs)}"
            needs = {a: others for a, others in needs.items() if a not in free}
