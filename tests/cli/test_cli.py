"""The command line, on the shipped checkpoints: its contract with other tools."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from tests.media.shapes import torus
from wsdemo.cli import main as cli
from wsdemo.cli.files import MESH
from wsdemo.domains.instances import open_instance
from wsdemo.fields.fit import MOST_STEPS
from wsdemo.fields.instance import Instance
from wsdemo.maps.weight_map import point_instance, weight_map
from wsdemo.media.images import open_picture
from wsdemo.media.mesh_files import WRITABLE, mesh_bytes, open_mesh


def run(capsys, *arguments: str) -> tuple[int, dict]:
    status = cli.main([*arguments, "--json"])
    return status, json.loads(capsys.readouterr().out)


@pytest.fixture(scope="module")
def photo(tmp_path_factory):
    """A soft picture that any base can fit."""
    path = tmp_path_factory.mktemp("photo") / "photo.png"
    image = Image.new("RGB", (90, 64), (200, 150, 120))
    image.paste((60, 40, 30), (20, 5, 70, 30))
    image.save(path)
    return path


@pytest.fixture(scope="module")
def mesh(tmp_path_factory):
    path = tmp_path_factory.mktemp("mesh") / "ring.glb"
    path.write_bytes(mesh_bytes(torus(), "glb"))
    return path


@pytest.fixture(scope="module")
def face(tmp_path_factory):
    path = tmp_path_factory.mktemp("face") / "face.safetensors"
    point_instance(weight_map("faces"), 0).save(path)
    return path


def test_doctor_finds_everything(capsys):
    status, result = run(capsys, "doctor")
    assert status == 0
    assert result["ok"] is True
    assert "faces-base.safetensors" in result["checkpoints"]
    assert len(result["checkpoints"]["faces-base.safetensors"]["hash"]) == 16
    assert {"torch", "gradio", "python"} <= set(result["versions"])


def test_sample_writes_pictures_and_instances_with_equal_bytes_for_equal_seeds(capsys, tmp_path):
    results = []
    for name in ("a", "b"):
        folder = str(tmp_path / name)
        given = ["--count", "2", "--seed", "7", "--steps", "6", "--size", "32", "--out", folder]
        status, result = run(capsys, "sample", "faces", *given)
        assert status == 0
        results.append(result)
    assert results[0]["seed"] == 7
    assert results[0]["seconds"] > 0
    for key in ("files", "instances"):
        assert len(results[0][key]) == 2
        for first, second in zip(results[0][key], results[1][key], strict=True):
            with open(first, "rb") as a, open(second, "rb") as b:
                assert a.read() == b.read()
    picture, _ = open_picture(Path(results[0]["files"][0]))
    assert picture.size == (32, 32)


def test_attributes_change_the_sample(capsys, tmp_path):
    plain = ["sample", "faces", "--count", "1", "--steps", "4", "--size", "32", "--out"]
    _, a = run(capsys, *plain, str(tmp_path / "a"))
    _, b = run(capsys, *plain, str(tmp_path / "b"), "--attribute", "Smiling", "--attribute",
               "Male=no")  # fmt: skip
    with open(a["files"][0], "rb") as first, open(b["files"][0], "rb") as second:
        assert first.read() != second.read()


def test_fit_decode_and_canonical_agree(capsys, tmp_path, photo):
    out = tmp_path / "x.safetensors"
    status, result = run(capsys, "fit", str(photo), "--seconds", "1.5", "--out", str(out))
    assert status == 0
    assert set(result) == {
        "domain", "psnr", "ssim", "weights", "bytes", "seconds", "fit_seconds", "reading_seconds",
        "measuring_seconds", "steps", "notes", "file",
    }  # fmt: skip
    assert result["domain"] == "image"
    assert result["psnr"] > 15
    assert 0 < result["ssim"] <= 1
    assert result["bytes"] == out.stat().st_size
    assert result["steps"] >= 1
    instance = open_instance(out)
    assert isinstance(instance, Instance)
    assert instance.adapter.weight_count == result["weights"]

    status, decoded = run(capsys, "decode", str(out), "--size", "80")
    assert status == 0
    picture, _ = open_picture((tmp_path / "x.png").read_bytes())
    assert picture.size == (80, 80)
    assert decoded["representation"] == "mlora-asym"

    status, _ = run(capsys, "canonical", str(out), "--out", str(tmp_path / "c.safetensors"))
    assert status == 0
    run(capsys, "decode", str(tmp_path / "c.safetensors"), "--size", "80")
    again, _ = open_picture((tmp_path / "c.png").read_bytes())
    difference = [abs(a - b) for a, b in zip(picture.tobytes(), again.tobytes(), strict=True)]
    assert max(difference) <= 1


@pytest.mark.parametrize("representation", ["lora", "mlora", "mlp"])
def test_fit_takes_other_representations(capsys, tmp_path, photo, representation):
    out = tmp_path / "x.safetensors"
    status, _ = run(
        capsys, "fit", str(photo), "--seconds", "1", "--representation", representation,
        "--rank", "6", "--out", str(out),
    )  # fmt: skip
    assert status == 0
    assert run(capsys, "decode", str(out))[1]["representation"] == representation


def test_fit_stops_at_the_target(capsys, tmp_path, photo):
    given = ["--seconds", "60", "--target-psnr", "15", "--out", str(tmp_path / "x.safetensors")]
    status, result = run(capsys, "fit", str(photo), *given)
    assert status == 0
    assert result["steps"] < MOST_STEPS
    assert result["psnr"] >= 15


PHOTO = "wsdemo/ui/examples/astronaut.png"


@pytest.mark.parametrize(
    ("arguments", "title"),
    [
        (["sample", "faces", "--count", "0"], "Value out of range"),
        (["sample", "faces", "--count", "100000"], "Value out of range"),
        (["sample", "faces", "--steps", "0"], "Value out of range"),
        (["sample", "faces", "--seed", "-1"], "Value out of range"),
        (["sample", "faces", "--guidance", "nan"], "Value out of range"),
        (["sample", "faces", "--attribute", "Wings"], "Unknown attribute"),
        (["sample", "faces", "--attribute", "Smiling=maybe"], "Attribute not understood"),
        (["sample", "faces", "--count", "1", "--steps", "1", "--size", "9"], "Size out of range"),
        (["sample", "faces", "--attribute", "Male", "--attribute", "Male=no"], "Contradiction"),
        (["fit", PHOTO, "--crop-x", "nan"], "Crop out of range"),
        (["fit", PHOTO, "--crop-x", "7"], "Crop out of range"),
        (["fit", PHOTO, "--zoom", "-5"], "Crop out of range"),
        (["fit", PHOTO, "--representation", "mlp", "--rank", "129"], "Rank out of range"),
        (["sample", "cars"], "Command not understood"),
        (["fit", "no-such-file.png"], "File not found"),
        (["fit", "README.md"], "Not a picture"),
        (["decode", "README.md"], "Not a readable safetensors file"),
        (["decode", "checkpoints/faces-base.safetensors"], "Not an instance of this app"),
        (["nonsense"], "Command not understood"),
        ([], "Command not understood"),
    ],
)
def test_refusals_are_json_with_status_two(capsys, arguments, title):
    status, result = run(capsys, *arguments)
    assert status == 2
    assert result["error"]["title"] == title
    assert result["error"]["message"]
    assert result["error"]["hint"]


@pytest.mark.parametrize(
    ("verb", "name"),
    [
        ("fit", "photo.png"),
        ("fit", "ring.glb"),
        ("decode", "face.safetensors"),
        ("canonical", "face.safetensors"),
        ("render", "ring.glb"),
        ("resize", "face.safetensors"),
        ("regauge", "face.safetensors"),
        ("merge", "face.safetensors"),
        ("edit", "face.safetensors"),
        ("convert", "old.pt"),
    ],
)
def test_an_output_is_neither_an_input_nor_of_another_kind(
    capsys, tmp_path, photo, mesh, face, verb, name
):
    for source in (photo, mesh, face):
        shutil.copy(source, tmp_path / source.name)
    (tmp_path / "old.pt").write_bytes(b"any")
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    given, wrong = tmp_path / name, str(tmp_path / "x.jpg")
    alias = tmp_path / ("alias.png" if verb == "render" else "alias.safetensors")
    alias.symlink_to(given)
    options = ["--attribute", "Smiling"] if verb == "edit" else []
    for out in (str(given), str(alias), wrong):
        status, result = run(capsys, verb, str(given), *options, "--out", out)
        assert status == 2
        assert result["error"]["title"] in ("Wrong ending", "The input would be replaced")
    assert {path: path.read_bytes() for path in before} == before
    assert len(list(tmp_path.iterdir())) == len(before) + 1


def test_a_mesh_may_end_in_all_that_can_be_written():
    assert {f".{kind}" for kind in WRITABLE} == set(MESH)


def test_module_runs_as_a_command():
    done = subprocess.run(
        [sys.executable, "-m", "wsdemo", "decode", "none", "--json"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert json.loads(done.stdout)["error"]["title"] == "File not found"


# ---- shapes --------------------------------------------------------------------


def test_sampled_shapes_have_equal_bytes_for_equal_seeds(capsys, tmp_path):
    results = []
    for name in ("a", "b"):
        given = ["--count", "1", "--seed", "7", "--steps", "6", "--resolution", "64"]
        given += ["--category", "car", "--out", str(tmp_path / name)]
        status, result = run(capsys, "sample", "shapes", *given)
        assert status == 0
        assert {"seed", "files", "instances", "seconds"} <= set(result)
        results.append(result)
    assert results[0]["files"][0].endswith(".glb")
    for key in ("files", "instances"):
        first, second = (Path(r[key][0]).read_bytes() for r in results)
        assert first == second


def test_fitting_decoding_and_rendering_a_mesh(capsys, mesh, tmp_path):
    out = tmp_path / "x.safetensors"
    status, result = run(capsys, "fit", str(mesh), "--seconds", "3", "--out", str(out))
    assert status == 0
    assert result["domain"] == "sdf"
    assert {"chamfer", "fscore", "iou", "weights", "bytes", "seconds", "file"} <= set(result)
    assert 0 < result["iou"] <= 1
    assert 0 < result["fit_seconds"] == result["seconds"]
    assert result["measuring_seconds"] > 0
    assert "watertight" in result["notes"][0]
    for kind in ("glb", "obj", "ply", "stl"):
        target = tmp_path / f"y.{kind}"
        given = ["--resolution", "64", "--out", str(target)]
        status, result = run(capsys, "decode", str(out), *given)
        assert status == 0
        assert result["mesh"]["faces"] > 100
        decoded, _ = open_mesh(target)
        assert abs(float(decoded.vertices.max()) - 0.73) < 0.15
    status, result = run(capsys, "decode", str(out), "--out", str(tmp_path / "y.fbx"))
    assert status == 2
    assert "ends in .glb" in result["error"]["message"]
    picture = tmp_path / "p.png"
    given = ["--renderer", "software", "--size", "96", "--out", str(picture)]
    status, result = run(capsys, "render", str(mesh), *given)
    assert status == 0
    assert result["renderer"] == "software"
    assert open_picture(picture)[0].size == (96, 96)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["sample", "shapes", "--category", "spoon"], "this model knows"),
        (["sample", "shapes", "--resolution", "100"], "expected one of"),
        (["sample", "shapes", "--attribute", "Smiling"], "no attributes"),
        (["sample", "faces", "--category", "chair"], "no categories"),
    ],
)
def test_unusable_wishes_for_shapes_are_refused(capsys, given, message, tmp_path):
    status, result = run(capsys, *given, "--out", str(tmp_path))
    assert status == 2
    assert message in result["error"]["message"]


@pytest.mark.parametrize("angle", [["--azimuth", "nan"], ["--elevation", "91"]])
def test_cameras_out_of_range_are_refused(capsys, mesh, angle, tmp_path):
    given = [*angle, "--renderer", "software", "--out", str(tmp_path / "p.png")]
    status, result = run(capsys, "render", str(mesh), *given)
    assert status == 2
    assert angle[0][2:] in result["error"]["message"]


def test_a_bad_mesh_is_refused(capsys, tmp_path):
    path = tmp_path / "bad.obj"
    path.write_text("v 0 0 0\n")
    status, result = run(capsys, "fit", str(path))
    assert status == 2
    assert result["error"]["hint"]
