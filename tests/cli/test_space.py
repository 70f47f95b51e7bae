"""The folder that a Space is pushed from: nothing else, below the limits, and the app starts."""

import contextlib
import json
import os
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
import yaml

from benchmarks.browsing import wait_for_app
from wsdemo.cli.main import main
from wsdemo.cli.space import MAX_FILE_BYTES, RECIPES, ROOT, space_files, with_thumbnail
from wsdemo.errors import WsdemoError

COLOURS = {"red", "yellow", "green", "blue", "indigo", "purple", "pink", "gray"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    out = tmp_path_factory.mktemp("space") / "here" / "space"
    assert main(["space", "--out", str(out), "--repo", "owner/name", "--json"]) == 0
    return out


def front_matter(folder):
    return yaml.safe_load((folder / "README.md").read_text().split("---\n")[1])


def test_the_folder_holds_what_the_app_needs_and_nothing_else(folder):
    files = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    tops = {name.split("/")[0] for name in files}
    assert tops == {"README.md", "LICENSE", "app.py", "packages.txt", "pyproject.toml",
                    "requirements.txt", "wsdemo", "checkpoints", "docs"}  # fmt: skip
    assert not any(f"wsdemo/{RECIPES}/" in name or "__pycache__" in name for name in files)
    assert "checkpoints/faces-manifold-2.safetensors" in files  # where fits start
    assert not list(folder.parent.glob(".wsdemo-*"))
    sizes = [path.stat().st_size for path in folder.rglob("*") if path.is_file()]
    assert max(sizes) < MAX_FILE_BYTES
    assert sum(sizes) < 150_000_000


def test_the_front_matter_is_whole(folder):
    facts = front_matter(folder)
    wanted = {"title", "emoji", "colorFrom", "colorTo", "sdk", "sdk_version", "python_version",
              "app_file", "license", "short_description", "thumbnail", "suggested_hardware",
              "startup_duration_timeout", "models", "datasets", "tags", "hf_oauth"}  # fmt: skip
    assert wanted <= set(facts)
    assert {facts["colorFrom"], facts["colorTo"]} <= COLOURS
    assert len(facts["short_description"]) <= 60
    assert (folder / facts["app_file"]).is_file()
    assert all(name.count("/") == 1 for name in facts["models"] + facts["datasets"])
    address = "https://huggingface.co/spaces/owner/name/resolve/main/"
    assert facts["thumbnail"].startswith(address)
    assert (folder / facts["thumbnail"].removeprefix(address)).is_file()
    text = (folder / "README.md").read_text()
    for paper in ("2512.01759", "2410.04207"):
        assert f"https://arxiv.org/abs/{paper}" in text  # what the Hub makes a link of
    assert with_thumbnail(text, "a/b") == text  # it has an address already


def test_the_app_starts_from_the_folder_alone(folder, tmp_path):
    with contextlib.closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    kept = ("PATH", "LD_LIBRARY_PATH")
    environment = {k: os.environ[k] for k in kept if k in os.environ}
    environment |= {"PORT": str(port), "HOME": str(tmp_path), "CUDA_VISIBLE_DEVICES": ""}
    process = subprocess.Popen([sys.executable, "app.py"], cwd=folder, env=environment)
    address = f"http://127.0.0.1:{port}/"
    try:
        wait_for_app(process, address)
        with urllib.request.urlopen(address + "config", timeout=60) as answer:
            config = json.load(answer)
        with urllib.request.urlopen(address + "gradio_api/mcp/schema", timeout=60) as answer:
            tools = {tool["name"] for tool in json.load(answer)}
    finally:
        process.terminate()
        process.wait(timeout=30)
    tabs = {c["props"].get("label") for c in config["components"] if c["type"] == "tabitem"}
    assert {"Sample", "Fit", "Clusters", "LoRA evaluator"} <= tabs
    assert {"sample_faces", "fit_picture", "inspect_lora"} <= tools


def test_what_cannot_be_written_is_refused_and_leaves_nothing(tmp_path, capsys):
    full = tmp_path / "full"
    full.mkdir()
    (full / "secret.txt").write_text("x")
    assert main(["space", "--out", str(full), "--json"]) == 2
    assert json.loads(capsys.readouterr().out)["error"]["title"] == "Not an empty folder"
    new = tmp_path / "new"
    assert main(["space", "--out", str(new), "--repo", "https://x", "--json"]) == 2
    assert json.loads(capsys.readouterr().out)["error"]["title"] == "Not a repository's name"
    assert not new.exists()
    with pytest.raises(WsdemoError, match="Not a clone"):
        space_files(tmp_path)


def test_a_file_above_the_limit_is_refused(tmp_path, monkeypatch):
    for name in ("README.md", "LICENSE", "app.py", "packages.txt", "pyproject.toml",
                 "requirements.txt"):  # fmt: skip
        (tmp_path / name).write_text("x")
    for name in ("wsdemo", "checkpoints", "docs"):
        (tmp_path / name).mkdir()
    assert len(space_files(tmp_path)) == 6
    with (tmp_path / "checkpoints" / "a.safetensors").open("wb") as file:
        file.truncate(MAX_FILE_BYTES)
    with pytest.raises(WsdemoError, match=r"a\.safetensors"):
        space_files(tmp_path)


def test_the_root_is_this_clone():
    assert (ROOT / "app.py").is_file()
    assert Path(__file__).is_relative_to(ROOT)
