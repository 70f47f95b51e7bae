"""The tabs of shapes: what is on screen always belongs together, also after Stop and refusals."""

import gradio as gr
import numpy as np
import pandas as pd
import pytest

from tests.media.shapes import ball
from wsdemo.domains import shape_fitting
from wsdemo.media.mesh_files import mesh_bytes
from wsdemo.media.meshes import Mesh
from wsdemo.ui.fields import shape_fit_tab, shape_sample_tab

SKIP = gr.skip()


def is_skip(value: object) -> bool:
    return isinstance(value, dict) and value == SKIP


@pytest.fixture
def mesh(tmp_path):
    path = tmp_path / "ball.obj"
    far = Mesh(ball().vertices + np.array([0, 5.4e6, 0]), ball().faces)
    path.write_bytes(mesh_bytes(far, "obj"))
    return str(path)


def test_a_new_fit_clears_the_last_one_and_a_refused_one_says_so(tmp_path):
    bad = tmp_path / "bad.obj"
    bad.write_text("v 0 0 0\n")
    stream = shape_fit_tab.fit(str(bad), "shapes", next(iter(shape_fit_tab.PRESETS)))
    first = next(stream)
    assert [value for i, value in enumerate(first) if i != 2] == [None] * 9
    assert "Not fitted" in next(stream)[2]
    with pytest.raises(gr.Error):
        next(stream)


def test_a_fit_says_that_it_measures_and_ends_with_everything(mesh, monkeypatch):
    compared, plain = [], shape_fitting.reference_surface
    monkeypatch.setattr(
        shape_fitting, "reference_surface", lambda source: compared.append(1) or plain(source)
    )
    monkeypatch.setattr(shape_fit_tab, "PRESETS", {"quick": (8, 1.0)})
    moments = list(shape_fit_tab.fit(mesh, "shapes", "quick"))
    assert "Measuring" in moments[-2][2]
    _, curve, status, shown, pair, _, facts, file, files, last = moments[-1]
    assert status.startswith("Done: F-score ")
    assert isinstance(curve, pd.DataFrame)
    assert len(pair) == 2
    assert len(files) == 4
    assert file == last
    assert shown.endswith(".glb")
    assert compared == [1]
    assert "PLY and STL keep 7 digits" in facts  # the ball stood far away


def test_stopping_leaves_weights_that_belong_to_the_pictures(monkeypatch):
    monkeypatch.setattr(shape_sample_tab, "thumbnail", lambda one: float(one.weights.sum()))
    drawn = None  # nothing yet: what was drawn before stays
    for pictures, _, state in shape_sample_tab.draw("shapes", "car", 2, 3, 12, 2.0):
        drawn = drawn if is_skip(state) else state
        if is_skip(pictures):
            assert is_skip(state)
            continue
        assert drawn[0] == "shapes"
        assert [pytest.approx(w.sum(), rel=1e-4) for w in drawn[1]] == pictures
    assert len(drawn[1]) == 2
