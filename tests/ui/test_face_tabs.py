"""The handlers of Sample and Fit without a browser, and the names of the app's endpoints."""

from itertools import islice
from pathlib import Path

import gradio as gr
import numpy as np
import torch
from PIL import Image

from wsdemo.domains import pipelines
from wsdemo.ui.blocks import build_blocks
from wsdemo.ui.fields import fit_tab, sample_tab

PHOTO = str(Path(fit_tab.EXAMPLES) / "astronaut.png")
PREVIEW, CURVE, STATUS, COMPARE, FACTS, FILE, CANONICAL, LAST, TRAIL, NOW = range(10)


def test_every_moment_of_sampling_brings_the_weights_of_its_pictures():
    for pictures, _, weights in sample_tab.draw(2, 3, 8, 1.0, [], []):
        assert len(pictures) == len(weights) == 2
        size = pictures[0].size[0]
        shown = sample_tab.gallery_pictures(torch.from_numpy(weights), size)
        assert np.array_equal(np.asarray(shown[1]), np.asarray(pictures[1]))


def test_a_fit_first_clears_what_an_older_one_left():
    first = next(fit_tab.fit(PHOTO, 0.5, 0.5, 1.0, next(iter(fit_tab.PRESETS))))
    assert first[STATUS] == "Starting."
    assert not any(first[i] for i in range(10) if i != STATUS)


def test_a_stopped_fit_offers_what_it_has_come_to():
    stream = fit_tab.fit(PHOTO, 0.5, 0.5, 1.0, next(iter(fit_tab.PRESETS)))
    *_, moment = islice(stream, 3)
    stream.close()
    now = moment[NOW]
    left = fit_tab.stopped(now)
    assert left[STATUS].startswith(f"Stopped after {now.step.step} steps: {now.step.psnr:.2f} dB.")
    opened = pipelines.open_instance(Path(left[FILE]))
    assert torch.equal(opened.weights, now.step.instance.weights)
    assert pipelines.open_instance(Path(left[CANONICAL])).is_canonical
    assert left[LAST] == left[FILE]
    assert left[NOW] is None
    compared = np.asarray(left[COMPARE][1].resize((64, 64), Image.Resampling.NEAREST))
    assert np.array_equal(compared, np.asarray(moment[PREVIEW]))
    assert f"{opened.measured['psnr']:.2f} dB" in left[FACTS]


def test_stop_without_a_fit_changes_nothing():
    assert fit_tab.stopped(None) == (gr.skip(),) * 10


def test_endpoints_have_the_names_that_programs_use():
    assert sorted(build_blocks().get_api_info()["named_endpoints"]) == [
        "/blend", "/blend_shapes", "/compare_loras", "/decode_instance", "/decode_shape",
        "/edit_face", "/fit_mesh", "/fit_picture", "/inspect_lora", "/merge_loras",
        "/place_instance", "/predict_lora", "/predict_many", "/regauge_lora", "/resize_lora",
        "/sample_faces", "/sample_shapes", "/walk_shapes",
    ]  # fmt: skip
