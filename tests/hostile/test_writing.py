"""Whatever ends a verb while it writes, nothing is lost, nothing is half, and nothing is left."""

import errno
import json
import os
import signal
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.lol.synthetic import write_collection
from tests.lora.files import families, peft_folder, write
from tests.media.shapes import box
from wsdemo.checkpoints import DIRECTORY, load_checkpoint
from wsdemo.cli import fields, lol, lora, maps
from wsdemo.cli.main import main
from wsdemo.domains.instances import make_instance
from wsdemo.domains.models import diffusion_of
from wsdemo.domains.registry import domain_named
from wsdemo.media.mesh_files import mesh_bytes


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    """A folder with one input of each kind."""
    folder = tmp_path_factory.mktemp("inputs")
    Image.new("RGB", (64, 64), "red").save(folder / "photo.png")
    (folder / "box.ply").write_bytes(mesh_bytes(box(), "ply"))
    for name, stored in (("faces", "faces-weights"), ("shapes", "shapes-examples")):
        domain = domain_named(name)
        rows = load_checkpoint(DIRECTORY / f"{stored}.safetensors")[0]["instances"].float()
        for i in range(2):
            instance = make_instance(domain, diffusion_of(domain).adapter, rows[i], {})
            instance.save(folder / f"{name}-{i}.safetensors")
    write(folder / "lora.safetensors", families()["kohya"][0], {})
    peft_folder(folder / "peft", {"r": 3, "lora_alpha": 3})
    np.savez(folder / "lora.npz", **families()["kohya"][0])
    torch.save(families()["kohya"][0], folder / "lora.pt")
    write_collection(folder / "many", count=90)
    return folder


WARM = (fields, lol, lora, maps)
"""Imported here once, instead of in the process of every test."""
VERBS = {
    "sample faces": "sample faces --count 1 --steps 1 --out OUT/",
    "sample shapes": "sample shapes --count 1 --steps 1 --resolution 32 --out OUT/",
    "fit photo": "fit IN/photo.png --steps 1 --out OUT/x.safetensors",
    "fit mesh": "fit IN/box.ply --steps 1 --out OUT/x.safetensors",
    "decode face": "decode IN/faces-0.safetensors --out OUT/x.png",
    "decode shape": "decode IN/shapes-0.safetensors --resolution 32 --out OUT/x.glb",
    "render": "render IN/box.ply --size 64 --out OUT/x.png",
    "canonical": "canonical IN/faces-0.safetensors --out OUT/x.safetensors",
    "walk faces": "walk IN/faces-0.safetensors IN/faces-1.safetensors --steps 2 --out OUT/",
    "walk shapes": "walk IN/shapes-0.safetensors IN/shapes-1.safetensors --steps 2 --out OUT/",
    "edit": "edit IN/faces-0.safetensors --attribute Smiling --out OUT/x.safetensors",
    "resize": "resize IN/lora.safetensors --out OUT/x.safetensors",
    "merge": "merge IN/peft/adapter_model.safetensors --style peft --out OUT/x.safetensors",
    "regauge": "regauge IN/lora.safetensors --out OUT/x.safetensors",
    "convert": "convert IN/lora.pt --out OUT/x.safetensors",
    "convert an archive": "convert IN/lora.npz --out OUT/x.safetensors",
    "lol train": "lol train --loras IN/many --labels IN/many/labels.csv --models linear --seeds 1"
    " --out OUT/",
    "lol examples": "lol examples --out OUT/",
}
"""Every verb that writes. OUT/ is a folder of its own making."""
ENDS = {"a full disk": 2, "kill -9": -signal.SIGKILL, "Ctrl-C": 130, "SIGTERM": 143}
COSTLY = {"fit mesh", "walk shapes", "lol train"}


def arguments(verb: str, inputs: Path, out: Path) -> list[str]:
    words = VERBS[verb].replace("IN/", f"{inputs}/").replace("OUT/", f"{out}/").split()
    return [*words, "--json"]


def tree(folder: Path) -> dict[str, bytes | None]:
    """What lies in a folder, hidden files too: path → content."""
    return {
        str(p.relative_to(folder)): p.read_bytes() if p.is_file() else None
        for p in sorted(folder.rglob("*"))
    }


def ends_badly(end: str):
    """What happens in place of ``os.fsync``: the file is written, and not yet in its place."""

    def fsync(_: int) -> None:
        if end == "a full disk":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        number = {"Ctrl-C": signal.SIGINT, "SIGTERM": signal.SIGTERM}.get(end, signal.SIGKILL)
        os.kill(os.getpid(), number)

    return fsync


def run_in_child(given: list[str], end: str, said: Path) -> int:
    """The exit status of a verb in a process of its own, which has loaded all that this one has."""
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        status = 99
        try:
            with said.open("w") as sys.stdout:
                signal.signal(signal.SIGINT, signal.default_int_handler)
                os.fsync = ends_badly(end)
                status = main(given)
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("verb", VERBS)
def test_a_verb_that_is_ended_while_it_writes_leaves_all_as_it_was(
    verb, end, inputs, tmp_path, monkeypatch
):
    if verb in COSTLY and end != "kill -9":
        pytest.skip("one end is enough for what takes long")
    monkeypatch.setenv("WSDEMO_RENDERER", "software")
    before, said = tree(inputs), tmp_path / "said"
    out = tmp_path / "there" / "new"
    out.parent.mkdir()
    (out.parent / "older").write_bytes(b"good")
    assert run_in_child(arguments(verb, inputs, out), end, said) == ENDS[end]
    assert tree(out.parent) == {"older": b"good"}
    assert tree(inputs) == before
    if end == "a full disk":
        error = json.loads(said.read_text())["error"]
        assert str(out) in error["message"]
        assert "No space left" in error["message"]


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("verb", ["decode face", "regauge", "convert", "render"])
def test_the_file_that_was_to_be_replaced_survives(verb, end, inputs, tmp_path, monkeypatch):
    monkeypatch.setenv("WSDEMO_RENDERER", "software")
    given = arguments(verb, inputs, tmp_path / "out")
    old = Path(given[given.index("--out") + 1])
    old.parent.mkdir()
    old.write_bytes(b"good")
    assert run_in_child(given, end, tmp_path / "said") == ENDS[end]
    assert tree(old.parent) == {old.name: b"good"}


@pytest.mark.parametrize("verb", VERBS)
def test_a_place_that_cannot_be_written_is_refused_before_the_work(
    verb, inputs, tmp_path, capsys, monkeypatch
):
    (tmp_path / "file").write_bytes(b"good")
    monkeypatch.setattr(torch.Tensor, "backward", lambda *_: pytest.fail("it worked"))
    monkeypatch.setattr(torch.autograd, "grad", lambda *_, **__: pytest.fail("it worked"))
    assert main(arguments(verb, inputs, tmp_path / "file" / "deep")) == 2
    error = json.loads(capsys.readouterr().out)["error"]
    assert error["title"] == "Not a folder"
    assert str(tmp_path / "file") in error["message"]
    assert tree(tmp_path) == {"file": b"good"}


@pytest.mark.parametrize(
    "given",
    ["sample shapes --category spoon --out OUT/", "sample faces --attribute Nope --out OUT/",
     "sample faces --count 0 --out OUT/", "sample faces --guidance 99 --out OUT/",
     "fit IN/lora.pt --out OUT/x.safetensors", "fit IN/photo.png --rank 0 --out OUT/x.safetensors",
     "render IN/photo.png --out OUT/x.png", "decode IN/lora.safetensors --out OUT/x.png",
     "decode IN/faces-0.safetensors --size 1 --out OUT/x.png",
     "walk IN/faces-0.safetensors IN/shapes-0.safetensors --out OUT/",
     "walk IN/faces-0.safetensors IN/faces-1.safetensors --steps 1 --out OUT/",
     "edit IN/faces-0.safetensors --attribute Nope --out OUT/x.safetensors",
     "edit IN/shapes-0.safetensors --attribute Smiling --out OUT/x.safetensors",
     "resize IN/lora.safetensors --energy 7 --out OUT/x.safetensors",
     "merge IN/lora.safetensors IN/many/lora-000.safetensors --out OUT/x.safetensors",
     "convert IN/photo.png --out OUT/x.safetensors",
     "lol train --loras IN/many --labels IN/nothing.csv --out OUT/",
     "lol train --loras IN/many --labels IN/many/labels.csv --models nope --out OUT/"],
)  # fmt: skip
def test_a_refused_command_leaves_no_folder(given, inputs, tmp_path, capsys):
    words = given.replace("IN/", f"{inputs}/").replace("OUT/", f"{tmp_path}/new/").split()
    before = tree(inputs)
    assert main([*words, "--json"]) == 2
    assert tree(tmp_path) == {}
    assert tree(inputs) == before


def test_a_read_only_folder_is_named_before_the_work(inputs, tmp_path, capsys):
    folder = tmp_path / "locked"
    folder.mkdir(mode=0o555)
    if os.access(folder, os.W_OK):  # root may write anywhere but where the system itself does not
        folder = Path("/proc/wsdemo")
    for verb in VERBS:
        assert main(arguments(verb, inputs, folder)) == 2
        error = json.loads(capsys.readouterr().out)["error"]
        assert error["title"] == "Folder not writable", verb
        assert "/proc" in error["message"] or str(folder) in error["message"]
