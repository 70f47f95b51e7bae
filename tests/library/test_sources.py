"""Libraries of the Hub and of several machines."""

import json

import pytest

from tests.library.test_library import NAMES, lora
from wsdemo.cli.main import main
from wsdemo.errors import WsdemoError
from wsdemo.library.build import build
from wsdemo.library.query import find, sketches


def fetches(loopback):
    return sum("/resolve/" in path for path, _ in loopback.requests)


def test_an_owner_of_the_hub_is_a_source_and_what_is_no_lora_is_a_row(loopback, tmp_path):
    done = build("hf://acme", tmp_path / "lib", print)
    rows = {row["file"]: row for row in find(tmp_path / "lib", "true")}
    assert set(rows) == {
        "acme/lora:adapter_model.safetensors", *(f"acme/many:v{i}.safetensors" for i in range(3)),
        "acme/pickle", "acme/one:deep/er/x.safetensors",
    }  # fmt: skip
    assert (done.read, done.failed) == (6, 1)
    assert "No safetensors file" in rows["acme/pickle"]["error"]
    first = rows["acme/lora:adapter_model.safetensors"]
    assert (first["base"], first["rank"], first["exact"]) == ("acme/base", 4, True)
    assert len(first["commit"]) == 40


def test_what_is_known_of_the_hub_is_not_fetched_again(loopback, tmp_path):
    build("hf://acme", tmp_path / "lib", print)
    before = fetches(loopback)
    again = build("hf://acme", tmp_path / "lib", print)
    assert fetches(loopback) == before
    assert (again.read, again.failed) == (1, 1)  # what was refused is asked for again
    loopback.files["acme/pickle"] = dict(loopback.files["acme/one"])  # mended meanwhile
    assert build("hf://acme/pickle", tmp_path / "lib", print).failed == 0
    assert find(tmp_path / "lib", "error <> ''") == []


def test_a_hub_that_stops_in_the_middle_costs_what_it_did_not_send(loopback, tmp_path):
    loopback.fault["v1.safetensors"] = "cut"
    loopback.fault["v2.safetensors"] = "wrong"
    done = build("hf://acme/many", tmp_path / "lib", print)
    assert (done.read, done.failed) == (3, 2)
    told = {row["file"][-14:]: row["error"] for row in find(tmp_path / "lib", "error <> ''")}
    assert "Download cut off" in told["v1.safetensors"]
    assert "hash" in told["v2.safetensors"]
    loopback.fault.clear()
    again = build("hf://acme/many", tmp_path / "lib", print)
    assert (again.read, again.failed) == (2, 0)
    assert len(find(tmp_path / "lib", "true")) == 3


def test_a_list_may_name_files_and_the_hub(loopback, tmp_path):
    lora(tmp_path / "a.safetensors", 0, names=NAMES[:2])
    listed = tmp_path / "list.txt"
    listed.write_text("a.safetensors\nhf://acme/lora\nhf://acme/none\n")
    done = build(listed, tmp_path / "lib", print)
    assert (done.read, done.failed) == (3, 1)
    assert "not visible" in find(tmp_path / "lib", "error <> ''")[0]["error"]


def test_an_owner_that_is_not_there_is_refused(loopback, tmp_path, capsys):
    out = str(tmp_path / "lib")
    assert main(["library", "build", "hf://nobody", "--out", out, "--json"]) == 2
    assert "names no model repository" in json.loads(capsys.readouterr().out)["error"]["message"]


@pytest.mark.slow
def test_ray_reads_the_same(tmp_path):
    pytest.importorskip("ray", reason="NO RAY: libraries of a cluster were not tested")
    pytest.importorskip("pyarrow", reason="NO PYARROW: libraries of a cluster were not tested")
    root = tmp_path / "loras"
    for i in range(5):
        lora(root / f"{i}.safetensors", i, names=NAMES[:3])
    (root / "broken.safetensors").write_bytes(b"<html>not found</html>")
    build(root, tmp_path / "one", print)
    done = build(root, tmp_path / "ray", print, ray="local")
    assert (done.read, done.failed) == (6, 1)
    one, two = sketches(tmp_path / "one"), sketches(tmp_path / "ray")
    assert one.files == two.files
    assert (one.vectors == two.vectors).all()


def test_a_cluster_that_is_not_there_is_said(tmp_path):
    pytest.importorskip("ray", reason="NO RAY: libraries of a cluster were not tested")
    pytest.importorskip("pyarrow", reason="NO PYARROW: libraries of a cluster were not tested")
    lora(tmp_path / "loras" / "0.safetensors", 0, names=NAMES[:1])
    with pytest.raises(WsdemoError, match="The cluster failed"):
        build(tmp_path / "loras", tmp_path / "lib", print, ray="nonsense://127.0.0.1:1")
