"""Options: those of another kind are refused, defaults come from one source, help says all."""

import argparse
import json
import re

import pytest
from PIL import Image

from tests.media.shapes import box
from wsdemo.checkpoints import DIRECTORY, load_checkpoint
from wsdemo.cli.main import build_parser, main
from wsdemo.cli.parser import SUBJECTS
from wsdemo.domains.domain import FitOptions
from wsdemo.domains.instances import make_instance
from wsdemo.domains.models import diffusion_of
from wsdemo.domains.registry import domain_named
from wsdemo.media.mesh_files import mesh_bytes

DOMAIN_VERBS = ("sample", "fit", "decode", "render", "clusters")


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("inputs")
    Image.new("RGB", (64, 64), "red").save(folder / "photo.png")
    (folder / "box.ply").write_bytes(mesh_bytes(box(), "ply"))
    for name, stored in (("faces", "faces-weights"), ("shapes", "shapes-examples")):
        row = load_checkpoint(DIRECTORY / f"{stored}.safetensors")[0]["instances"][0].float()
        domain = domain_named(name)
        instance = make_instance(domain, diffusion_of(domain).adapter, row)
        instance.save(folder / f"{name}.safetensors")
    return folder


@pytest.mark.parametrize(
    ("given", "flag"),
    [("fit IN/box.ply --zoom 3", "--zoom"), ("fit IN/box.ply --crop-x 0", "--crop-x"),
     ("fit IN/box.ply --start carried", "carried"), ("fit IN/photo.png --base shapes", "--base"),
     ("fit IN/photo.png --representation lora --start carried", "--start"),
     ("fit IN/photo.png --comparable --seconds 3", "--seconds"),
     ("fit IN/photo.png --comparable --steps 3", "--steps"),
     ("fit IN/box.ply --comparable --start carried --target-psnr 30 --zoom 3", "--target-psnr"),
     ("fit IN/photo.png --seconds 3 --steps 3", "--steps"),
     ("decode IN/shapes.safetensors --size 128", "--size"),
     ("decode IN/faces.safetensors --resolution 64", "--resolution"),
     ("decode IN/faces.safetensors --largest", "--largest"),
     ("sample faces --largest", "--largest"), ("sample faces --resolution 64", "--resolution"),
     ("sample faces --category chair", "--attribute"), ("sample shapes --size 128", "--size"),
     ("sample shapes --attribute Smiling", "--category"),
     ("sample airplane --guidance 3", "--guidance"),
     ("clusters shapes --attribute Male", "attribute")],
)  # fmt: skip
def test_an_option_that_changes_nothing_is_refused(given, flag, inputs, tmp_path, capsys):
    words = given.replace("IN/", f"{inputs}/").split()
    if words[0] in ("fit", "decode", "sample"):
        words += ["--out", str(tmp_path / ("new" if words[0] == "sample" else "x.safetensors"))]
        words[-1] = words[-1] if words[0] != "decode" else str(tmp_path / "x.png")
        if words[1].endswith("shapes.safetensors"):
            words[-1] = str(tmp_path / "x.glb")
    assert main([*words, "--json"]) == 2
    error = json.loads(capsys.readouterr().out)["error"]
    assert flag in error["message"] + error["hint"], error
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("given", [
    "--rank 0", "--rank 999", "--seconds 0", "--steps 0", "--seed -1", "--target-psnr -3",
    "--start carried",
])  # fmt: skip
def test_what_is_out_of_range_is_said_before_the_original_is_read(given, tmp_path, capsys):
    damaged = tmp_path / "cut.ply"
    damaged.write_bytes(mesh_bytes(box(), "ply")[:-9])
    words = ["fit", str(damaged), "--out", str(tmp_path / "new" / "x.safetensors"), "--json"]
    assert main([*words, *given.split()]) == 2
    assert "cut off" not in json.loads(capsys.readouterr().out)["error"]["title"]
    assert main(words) == 2
    assert "cut off" in json.loads(capsys.readouterr().out)["error"]["title"]
    assert not (tmp_path / "new").exists()


def parsers() -> dict[str, argparse.ArgumentParser]:
    """Verb → its parser, with what the domains add."""
    found: dict[str, argparse.ArgumentParser] = {}
    waiting = [build_parser(DOMAIN_VERBS)]
    for parser in waiting:
        for action in parser._actions:
            if isinstance(action, argparse._SubParsersAction):
                found |= action.choices
                waiting += action.choices.values()
    return found


def test_every_option_is_explained_with_its_default_and_bounds():
    for verb, parser in parsers().items():
        for action in parser._actions:
            if isinstance(action, argparse._SubParsersAction | argparse._HelpAction):
                continue
            name = f"{verb} {action.dest}"
            assert action.help, name
            if action.type in (int, float) and not action.choices:
                assert re.search(r"\d (to|or) |1 to ", action.help), f"{name}: no bounds"
        text = parser.format_help()
        assert "None" not in text
        assert "inf" not in text.split()


def test_defaults_of_a_fit_come_from_one_place():
    args = build_parser(["fit"]).parse_args(["fit", "x.png"])
    usual, text = FitOptions(), parsers()["fit"].format_help()
    for name in ("representation", "rank", "seed", "seconds", "start", "steps", "target_psnr"):
        assert getattr(args, name) is None, name  # FitOptions has it
    for value in (usual.representation, usual.rank, f"{usual.seconds:g}", usual.start):
        assert f"default: {value}" in re.sub(r"\s+", " ", text)


def test_the_help_lists_every_verb_under_its_subject(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["--help"])
    assert ended.value.code == 0
    text = capsys.readouterr().out
    verbs = next(
        action for action in build_parser([])._actions
        if isinstance(action, argparse._SubParsersAction)
    ).choices  # fmt: skip
    assert {name for own in SUBJECTS.values() for name in own} <= set(verbs)
    for verb in verbs:
        assert len(re.findall(rf"^  {verb} ", text, re.MULTILINE)) == 1, verb
    assert [s for s in SUBJECTS if f"\n{s}:\n" not in text] == []
