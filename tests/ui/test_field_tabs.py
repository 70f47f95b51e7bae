"""The handlers of Sample and Fit without a browser, for faces and shapes: what is on screen always
belongs together, also after Stop and refusals. And the names of the app's endpoints."""

import dataclasses
from itertools import islice
from pathlib import Path

import gradio as gr
import numpy as np
import pandas as pd
import pytest
import torch
import trimesh
from gradio.data_classes import FileData
from PIL import Image

from tests.media.shapes import ball
from wsdemo.domains.domain import FitOptions
from wsdemo.domains.faces import FACES, FACES_MANIFOLD
from wsdemo.domains.instances import open_instance, previews
from wsdemo.domains.shapes import SHAPES
from wsdemo.errors import WsdemoError
from wsdemo.media.mesh_files import mesh_bytes
from wsdemo.media.meshes import Mesh
from wsdemo.ui.blocks import build_blocks
from wsdemo.ui.fields import closely, fit_layout, fit_tab, sample_tab
from wsdemo.ui.fields.photo import files_input

PHOTO = str(Path(fit_layout.EXAMPLES) / "astronaut.png")
SKIP = gr.skip()


def is_skip(value: object) -> bool:
    return isinstance(value, dict) and value == SKIP


def moment(values: tuple) -> dict:
    """What a fit streams, by name."""
    return dict(zip(fit_tab.OUTPUTS, values, strict=True))


def face_values(preset: str | None = None) -> dict:
    preset = preset or next(iter(FACES.presets))
    return {"path": PHOTO, "x": 0.5, "y": 0.5, "zoom": 1.0, "preset": preset}


@pytest.fixture
def mesh(tmp_path):
    path = tmp_path / "ball.obj"
    far = Mesh(ball().vertices + np.array([0, 5.4e6, 0]), ball().faces)
    path.write_bytes(mesh_bytes(far, "obj"))
    return str(path)


def test_every_moment_of_sampling_brings_the_weights_of_its_pictures():
    values = {"count": 2, "seed": 3, "steps": 8, "guidance": 1.0, "temperature": 1.0}
    for pictures, _, drawn in sample_tab.draw(FACES, {**values, "wanted": [], "unwanted": []}):
        name, weights, heat = drawn
        assert (name, len(pictures), len(weights)) == ("faces", 2, 2)
        instances = sample_tab.drawn_instances(FACES, torch.from_numpy(weights), heat)
        shown = [sample_tab.thumbnail(FACES, one) for one in previews(instances)]
        assert np.array_equal(np.asarray(shown[1]), np.asarray(pictures[1]))


def test_stopping_leaves_weights_that_belong_to_the_pictures(monkeypatch):
    monkeypatch.setattr(sample_tab, "previews", iter)
    monkeypatch.setattr(sample_tab, "thumbnail", lambda _, one: float(one.weights.sum()))
    drawn = None  # nothing yet: what was drawn before stays
    values = {"category": "car", "count": 2, "seed": 3, "steps": 12, "guidance": 2.0}
    for pictures, _, state in sample_tab.draw(SHAPES, {**values, "temperature": 0.75}):
        drawn = drawn if is_skip(state) else state
        if is_skip(pictures):
            assert is_skip(state)
            continue
        assert drawn[0] == "shapes"
        assert [pytest.approx(w.sum(), rel=1e-4) for w in drawn[1]] == pictures
    assert len(drawn[1]) == 2


def test_a_chosen_face_comes_with_its_picture_its_file_and_its_neighbour():
    drawn, pictures = sample_tab.examples(FACES)
    assert len(pictures) == len(drawn[1])
    shown, around, near, words, file, _ = closely.inspect([FACES], drawn, 1, {"size": 128})
    assert shown.size == (128, 128)
    assert around is None
    assert near.size == (closely.SIDE, closely.SIDE)
    assert "Nearest training face in weight space" in words
    assert np.array_equal(open_instance(Path(file)).weights.numpy(), drawn[1][1])
    with pytest.raises(WsdemoError, match="no such face"):
        closely.inspect([FACES], drawn, 99, {})


def test_the_nearest_training_face_can_be_shown_instead():
    drawn, _ = sample_tab.examples(FACES)
    _, _, near = closely.chosen_one([FACES], drawn, 1)
    shown, _, beside, words, file, _ = closely.neighbour([FACES], drawn, 1, {"size": 64})
    assert shown.size == (64, 64)
    assert is_skip(beside)  # it is already there
    assert near.name in words
    assert torch.allclose(open_instance(Path(file)).weights, near.weights, atol=1e-3)


def test_a_fit_first_clears_what_an_older_one_left():
    first = moment(next(fit_tab.fit(FACES, face_values())))
    assert first.pop("status") == "Reading the photo."
    assert not any(first.values())


def test_a_stopped_fit_offers_what_it_has_come_to():
    stream = fit_tab.fit(FACES, face_values())
    *_, last = map(moment, islice(stream, 3))
    stream.close()
    now = last["now"]
    left = moment(fit_tab.stopped(now))
    assert left["status"].startswith(f"Stopped after {now.step.step} steps: {now.step.psnr:.2f}")
    opened = open_instance(Path(left["file"]))
    assert torch.equal(opened.weights, now.step.instance.weights)
    assert open_instance(Path(left["canonical"])).is_canonical
    assert left["last"] == left["file"]
    assert left["now"] is None
    compared = np.asarray(left["compare"][1].resize((64, 64), Image.Resampling.NEAREST))
    assert np.array_equal(compared, np.asarray(last["preview"]))
    assert f"{opened.measured['psnr']:.2f} dB" in left["facts"]


def test_stop_without_a_fit_changes_nothing():
    assert all(is_skip(value) for value in fit_tab.stopped(None))


def test_a_new_fit_clears_the_last_one_and_a_refused_one_says_so(tmp_path):
    bad = tmp_path / "bad.obj"
    bad.write_text("v 0 0 0\n")
    values = {"path": str(bad), "preset": next(iter(SHAPES.presets)), "largest": False}
    stream = fit_tab.fit(SHAPES, values)
    first = moment(next(stream))
    assert not any(value for name, value in first.items() if name != "status")
    assert "Not fitted" in moment(next(stream))["status"]
    with pytest.raises(WsdemoError):
        next(stream)


@pytest.mark.usefixtures("coarse_surfaces")
def test_a_fit_says_that_it_measures_and_ends_with_everything(mesh):
    compared = []

    def reference(original):
        compared.append(original)
        return SHAPES.reference(original)

    domain = dataclasses.replace(
        SHAPES, reference=reference, presets={"quick": FitOptions(steps=20)}
    )
    values = {"path": mesh, "preset": "quick", "largest": False}
    moments = [moment(values) for values in fit_tab.fit(domain, values)]
    assert "Measuring" in moments[-2]["status"]
    last = moments[-1]
    assert last["status"].startswith("Done: F-score ")
    assert isinstance(last["curve"], pd.DataFrame)
    assert len(last["compare"]) == 2
    assert len(last["files"]) == 4
    assert last["file"] == last["last"]
    assert last["fitted"].endswith(".glb")
    assert last["off"].size == (fit_tab.SIDE, fit_tab.SIDE)
    assert len(compared) == 1
    assert "PLY and STL keep 7 digits" in last["facts"]  # the ball stood far away


def test_files_that_belong_together_are_read_together_and_the_axis_is_chosen(tmp_path):
    files = trimesh.exchange.gltf.export_gltf(trimesh.Scene(trimesh.creation.box((1, 2, 3))))
    paths = [tmp_path / str(i) / name for i, name in enumerate(files)]  # uploads lie apart
    for path, content in zip(paths, files.values(), strict=True):
        path.parent.mkdir()
        path.write_bytes(content)
    given = [str(path) for path in paths]
    picture, said = fit_tab.look(SHAPES, given, {"up": "z"})
    assert picture is not None
    assert "GLTF: 12 faces" in said
    assert fit_tab.opened(SHAPES, given, {"up": "z"}).facts["z_up"] == 1.0
    alone = next(path for path in given if path.endswith(".gltf"))
    with pytest.raises(WsdemoError, match="not here"):
        fit_tab.look(SHAPES, [alone], {"up": "auto"})


def test_a_caller_may_send_one_file_where_several_are_taken(mesh):
    files = files_input()
    one = FileData(path=mesh, orig_name=Path(mesh).name).model_dump()
    for given in (one, [one]):
        assert files.preprocess(files.data_model(root=given)) == [mesh]


def test_endpoints_have_the_names_and_parameters_that_programs_use():
    known = build_blocks().get_api_info()["named_endpoints"]
    assert sorted(known) == [
        "/blend", "/blend_shapes", "/compare_loras", "/decode_instance", "/decode_shape",
        "/edit_face", "/export_lora", "/fit_mesh", "/fit_picture", "/inspect_hub_lora",
        "/inspect_lora", "/merge_loras",
        "/place_instance", "/predict_from_hub", "/predict_lora", "/predict_many", "/regauge_lora",
        "/resize_lora", "/sample_faces", "/sample_shapes", "/walk_shapes",
    ]  # fmt: skip
    parameters = {
        name: " ".join(p["parameter_name"] for p in known[name]["parameters"]) for name in known
    }
    assert parameters["/sample_faces"] == (
        "count seed steps guidance wanted unwanted temperature family"
    )
    assert parameters["/sample_shapes"] == ("family category count seed steps guidance temperature")
    assert parameters["/fit_picture"] == "path x y zoom preset base"
    assert parameters["/fit_mesh"] == "path base preset largest up"
    assert parameters["/decode_instance"] == "path size"
    assert parameters["/decode_shape"] == "path resolution largest"
    assert parameters["/blend"] == parameters["/blend_shapes"] == "a b share"


@pytest.mark.parametrize(
    ("before", "now", "kept"),
    [
        ([], ["a/ring.glb"], ["a/ring.glb"]),
        (["a/ring.glb"], ["a/ring.glb", "b/box.obj"], ["b/box.obj"]),
        (["a/scene.gltf"], ["a/scene.gltf", "b/scene.bin"], ["a/scene.gltf", "b/scene.bin"]),
        (["a/scene.bin"], ["a/scene.bin", "b/scene.gltf"], ["a/scene.bin", "b/scene.gltf"]),
        (["a/ring.glb"], ["a/ring.glb", "a/ring.glb"], ["a/ring.glb"]),
        ([], ["a/one.obj", "a/two.obj"], ["a/one.obj", "a/two.obj"]),  # refused when it is read
    ],
)
def test_a_mesh_in_another_ones_place_stands_for_itself_and_what_belongs_to_it_joins(
    before, now, kept
):
    assert fit_layout.latest(SHAPES, before, now) == (kept, kept)


def test_wishes_are_as_strong_as_the_generation_that_is_drawn_first_wants():
    with gr.Blocks():
        made = sample_tab._controls([FACES, FACES_MANIFOLD])
    assert made["guidance"].value == FACES_MANIFOLD.guidance != FACES.guidance
