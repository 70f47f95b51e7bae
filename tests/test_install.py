"""wsdemo as it is installed: a wheel, used from a folder that is no clone."""

import ast
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
import tomllib
import urllib.request
import zipfile
from importlib.metadata import packages_distributions
from itertools import chain
from pathlib import Path

import pytest

from tests.hub.loopback import Hub
from tests.lora.files import families, write
from wsdemo.checkpoints import checkpoints_folder

ROOT = Path(__file__).resolve().parent.parent
CHECKPOINTS = ROOT / "checkpoints"
REPOSITORY = "acme/checkpoints"


def pip(*arguments):
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", *map(str, arguments)]
    subprocess.run(command, check=True, capture_output=True, text=True)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel, built from a copy without the clone's other folders, and without network."""
    source, out = (tmp_path_factory.mktemp(name) for name in ("source", "wheel"))
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "wsdemo", source / "wsdemo", ignore=ignored)
    for name in ("pyproject.toml", "README.md", "LICENSE", "requirements.txt"):
        shutil.copy(ROOT / name, source)
    pip("wheel", "--no-index", "--no-deps", "--no-build-isolation", "-w", out, source)
    (path,) = out.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """Runs the installed command in another folder, on its own home; returns the process."""
    site, home = (tmp_path_factory.mktemp(name) for name in ("site", "home"))
    pip("install", "--no-index", "--no-deps", "--target", site, wheel)
    kept = ("PATH", "LD_LIBRARY_PATH", "OMP_NUM_THREADS", "SYSTEMROOT")
    plain = {k: os.environ[k] for k in kept if k in os.environ}
    plain |= {"PYTHONPATH": str(site), "HOME": str(home), "WSDEMO_DOWNLOADS": str(home / "down"),
              "HF_HUB_OFFLINE": "0", "CUDA_VISIBLE_DEVICES": ""}  # fmt: skip

    def start(*arguments, **environment):
        command = [sys.executable, str(site / "bin" / "wsdemo"), *map(str, arguments)]
        return subprocess.Popen(
            command, cwd=home, env=plain | environment, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip

    start.home = home
    return start


def ended(process, status=0):
    """What a command wrote to stdout, as JSON if it is, and to stderr."""
    out, err = process.communicate(timeout=200)
    assert process.returncode == status, out + err
    return (json.loads(out) if out.startswith("{") else out), err


def test_everything_that_lies_in_the_package_is_in_the_wheel(wheel):
    lies = {
        str(path.relative_to(ROOT))
        for path in (ROOT / "wsdemo").rglob("*")
        if path.is_file() and path.suffix not in (".pyc", ".pyi")
    }
    assert any(name.endswith(".js") for name in lies)
    assert any(name.endswith(".glb") for name in lies)
    assert lies <= set(zipfile.ZipFile(wheel).namelist())


def test_verbs_that_need_no_checkpoint_work_without_any(installed):
    lora = write(installed.home / "lora.safetensors", families()["diffusers layers"][0])
    found, _ = ended(installed("inspect", lora, "--json"))
    assert found["modules"] > 0
    text, _ = ended(installed("--help"))
    assert "app" in text
    found, _ = ended(installed("predict", lora, "--json"), status=2)
    assert found["error"]["title"] == "Checkpoint missing"
    assert "WSDEMO_CHECKPOINTS_REPO" in found["error"]["hint"]


def test_checkpoints_are_fetched_once_by_name_from_the_hub(installed):
    hub = Hub()
    names = ("faces-base", "faces-diffusion", "airplane-base")
    hub.files[REPOSITORY] = {
        f"models/{name}.safetensors": (CHECKPOINTS / f"{name}.safetensors").read_bytes()
        for name in names
    }
    settings = {"WSDEMO_CHECKPOINTS_REPO": f"{REPOSITORY}:models", "HF_ENDPOINT": hub.address,
                "XDG_CACHE_HOME": str(installed.home / "cache")}  # fmt: skip
    draw = ("sample", "faces", "--count", 1, "--steps", 2, "--json")
    found, said = ended(installed(*draw, **settings))
    assert Path(found["files"][0]).name == "faces-seed0-000.png"
    assert f"fetching {REPOSITORY}:models/faces-diffusion.safetensors" in said
    kept = installed.home / "cache/wsdemo/checkpoints"
    fetched = {path.stem for path in kept.glob("*")}
    assert fetched == {"faces-base", "faces-diffusion"}  # nothing that was not asked for
    asked = len(hub.requests)
    ended(installed(*draw, **settings))
    assert len(hub.requests) == asked
    hub.close()


@pytest.mark.slow
def test_the_app_is_served_from_another_folder(installed):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    page = installed(
        "app", "--no-browser", "--port", port,
        WSDEMO_CHECKPOINTS=str(CHECKPOINTS), PYTHONUNBUFFERED="1",
    )  # fmt: skip
    watch = threading.Timer(200, page.kill)
    watch.start()
    try:
        said = next((line for line in page.stdout if str(port) in line), None)
        assert said is not None, page.stderr.read()
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/config", timeout=60) as answer:
            config = json.load(answer)
    finally:
        watch.cancel()
        page.kill()
        page.communicate()
    tabs = {c["props"].get("label") for c in config["components"] if c["type"] == "tabitem"}
    assert {"Sample", "Fit", "Clusters", "LoRA evaluator"} <= tabs
    assert config["css"]


def test_the_folder_of_checkpoints_is_the_named_one_the_clones_or_a_cache(tmp_path):
    clone, other = tmp_path / "clone", tmp_path / "site-packages"
    for folder in (clone, other):
        (folder / "checkpoints").mkdir(parents=True)
    (clone / "pyproject.toml").touch()
    cache = {"XDG_CACHE_HOME": str(tmp_path / "cache")}
    assert checkpoints_folder(cache, clone) == clone / "checkpoints"
    assert checkpoints_folder(cache, other) == tmp_path / "cache/wsdemo/checkpoints"
    named = cache | {"WSDEMO_CHECKPOINTS": str(tmp_path / "mine")}
    assert checkpoints_folder(named, clone) == tmp_path / "mine"


# ---- what is imported is declared ---------------------------------------------------------

ON_A_SPACE = {"spaces", "authlib", "itsdangerous"}
"""There on a Hugging Face Space only; imported under a condition."""
FUZZER = {"atheris"}
"""Of tests/hostile/fuzz.py alone, which says how to install it and is run by hand."""


def declared(text):
    """Names of packages in a requirements file, as PyPI compares them."""
    names = (re.match(r"[A-Za-z0-9._-]+", line) for line in text.splitlines())
    return {re.sub(r"[-_.]+", "-", found[0]).lower() for found in names if found}


def imported(folder, leave_out=()):
    """Top-level names that a folder's modules import from outside the library and the project."""
    names = set()
    for path in folder.rglob("*.py"):
        if any(part in leave_out for part in path.relative_to(folder).parts):
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                names |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                names.add(node.module.split(".")[0])
    return names - set(sys.stdlib_module_names) - {"wsdemo", "tests", "benchmarks"}


def undeclared(names, packages):
    """Those of some import names that come from none of some packages."""
    providers = packages_distributions()
    return {
        name
        for name in names
        if not packages & {d.lower().replace("_", "-") for d in providers.get(name, [name])}
    }


def test_what_the_package_imports_is_declared():
    run = declared((ROOT / "requirements.txt").read_text())
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extra = declared("\n".join(chain(*project["optional-dependencies"].values())))
    names = imported(ROOT / "wsdemo", leave_out=("train",)) - ON_A_SPACE
    assert {"torch", "httpx2", "PIL"} <= names
    assert not undeclared(names, run | extra)
    assert undeclared({"pytest"}, run | extra) == {"pytest"}  # it can fail


def test_what_recipes_tests_and_benchmarks_import_is_declared():
    packages = declared((ROOT / "requirements.txt").read_text())
    packages |= declared((ROOT / "requirements-dev.txt").read_text())
    for folder in ("wsdemo/train", "tests", "benchmarks"):
        assert not undeclared(imported(ROOT / folder) - FUZZER, packages), folder
