"""Rendering: two renderers, one picture; the choice is open."""

import threading
import tracemalloc

import numpy as np
import pytest

from tests.conftest import little_work
from tests.media.shapes import ball, box, torus
from wsdemo.errors import WsdemoError
from wsdemo.media import opengl
from wsdemo.media import render as rendering
from wsdemo.media.camera import BACKGROUND, Camera, framed
from wsdemo.media.meshes import Mesh
from wsdemo.media.render import choose_renderer, render, turntable

needs_egl = pytest.mark.skipif(
    opengl.problem() is not None, reason=f"OpenGL through EGL: {opengl.problem()}"
)


@needs_egl
@pytest.mark.parametrize("mesh", [ball(), box(), torus()], ids=["ball", "box", "torus"])
def test_both_renderers_draw_the_same_picture(mesh):
    a = render(mesh, 128, renderer="egl").astype(int)
    b = render(mesh, 128, renderer="software").astype(int)
    mask_a, mask_b = (a != BACKGROUND).any(-1), (b != BACKGROUND).any(-1)
    assert (mask_a & mask_b).sum() / (mask_a | mask_b).sum() > 0.97
    assert np.abs(a - b).mean() < 1.0


@pytest.mark.parametrize("mesh", [ball(0.2), box(2, 2, 2), box(0.1, 1.8, 0.1), torus()])
@pytest.mark.parametrize("azimuth", [0, 35, 200])
def test_a_framed_mesh_fills_the_picture_and_is_all_in_it(mesh, azimuth):
    picture = render(mesh, 100, framed(mesh, azimuth), "software")
    ys, xs = np.nonzero((picture != BACKGROUND).any(-1))
    margins = [xs.min(), ys.min(), 99 - xs.max(), 99 - ys.max()]
    assert min(margins) in (1, 2, 3)


@needs_egl
def test_opengl_draws_from_any_thread():
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(3) as pool:
        pictures = list(pool.map(lambda _: render(ball(), 64, renderer="egl"), range(3)))
    np.testing.assert_array_equal(pictures[0], pictures[1])
    np.testing.assert_array_equal(pictures[0], pictures[2])


def test_nearer_faces_hide_farther_ones():
    picture = render(torus(), 96, Camera(0, 0), "software")  # seen along its axis: a ring
    assert (picture[48, 48] == BACKGROUND).all()
    edge_on = render(torus(), 96, Camera(90, 0), "software")
    assert (edge_on[48, 48] != BACKGROUND).all()


def test_a_ball_is_round_centred_and_lit_from_above_left():
    picture = render(ball(), 128, Camera(0, 0), "software").astype(int)
    rows, columns = np.nonzero((picture != BACKGROUND).any(-1))
    assert rows.mean() == pytest.approx(63.5, abs=1)
    assert columns.mean() == pytest.approx(63.5, abs=1)
    assert np.ptp(rows) == pytest.approx(np.ptp(columns), abs=1)
    assert picture[52, 52].sum() > picture[76, 76].sum() + 60


def test_a_turntable_goes_around():
    views = turntable(box(), 4, 64, "software")
    assert len(views) == 4
    assert np.abs(views[0].astype(int) - views[1]).mean() > 1
    assert np.abs(views[0].astype(int) - views[2]).mean() < 1  # a box looks alike from behind


def test_the_choice_of_renderer_says_why(monkeypatch):
    assert choose_renderer("software") == ("software", "as wished")
    with pytest.raises(WsdemoError, match="vulkan"):
        choose_renderer("vulkan")
    monkeypatch.setattr(opengl, "problem", lambda: "no driver")
    name, why = choose_renderer("auto")
    assert name == "software"
    assert "no driver" in why
    with pytest.raises(WsdemoError, match="no driver"):
        choose_renderer("egl")


def heap(count: int) -> Mesh:
    corners = np.random.default_rng(0).uniform(-0.9, 0.9, (3 * count, 3))
    return Mesh(corners, np.arange(3 * count).reshape(-1, 3))


def test_many_large_triangles_take_little_memory_and_time():
    tracemalloc.start()
    try:
        with little_work(20):
            render(heap(100), 256, renderer="software")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 100 * 2**20


def test_how_many_triangles_are_drawn_at_once_does_not_show(monkeypatch):
    wanted = render(heap(40), 64, renderer="software")
    monkeypatch.setattr(rendering, "CHUNK", 1)
    np.testing.assert_array_equal(render(heap(40), 64, renderer="software"), wanted)


def test_a_driver_that_hangs_fails_one_picture_at_most_and_not_the_next(monkeypatch):
    asked, release = [], threading.Event()

    def hang(*_):
        asked.append(1)
        release.wait(30)

    monkeypatch.setattr(opengl, "_WORKER", opengl._Worker())
    monkeypatch.setattr(opengl, "_SECONDS", 0.01)
    monkeypatch.setattr(opengl, "_first_problem", lambda: None)
    monkeypatch.setattr(opengl, "_draw", hang)
    wanted = render(ball(), 32, renderer="software")
    assert choose_renderer("auto")[0] == "egl"
    np.testing.assert_array_equal(render(ball(), 32), wanted)
    np.testing.assert_array_equal(render(ball(), 32), wanted)
    assert len(asked) == 1
    assert "hangs" in choose_renderer("auto")[1]
    with pytest.raises(WsdemoError, match="hangs"):
        render(ball(), 32, renderer="egl")
    assert opengl._WORKER._thread.daemon  # or the process could not end
    release.set()


# ---- framing and shading -------------------------------------------------------------


@pytest.mark.parametrize("renderer", ["software", pytest.param("egl", marks=needs_egl)])
@pytest.mark.parametrize("mesh", [box(1.8, 1.8, 1.8), box(2, 2, 2), ball(0.9)])
def test_the_usual_camera_crops_nothing(mesh, renderer):
    picture = render(mesh, 100, renderer=renderer)
    seen = (picture != BACKGROUND).any(-1)
    assert not (seen[0].any())
    assert not (seen[-1].any())
    assert not (seen[:, 0].any())
    assert not (seen[:, -1].any())


@pytest.mark.parametrize("renderer", ["software", pytest.param("egl", marks=needs_egl)])
@pytest.mark.parametrize("mesh", [ball(), box(), torus()], ids=["ball", "box", "torus"])
def test_an_inside_out_mesh_looks_the_same(mesh, renderer):
    turned = Mesh(mesh.vertices, mesh.faces[:, ::-1].copy())
    a, b = (render(m, 96, renderer=renderer).astype(int) for m in (mesh, turned))
    assert np.abs(a - b).mean() < 0.5


@pytest.mark.parametrize("renderer", ["software", pytest.param("egl", marks=needs_egl)])
def test_sharp_edges_are_flat_and_round_ones_smooth(renderer):
    picture = render(box(1.2, 1.2, 1.2), 128, renderer=renderer)
    _colours, counts = np.unique(picture.reshape(-1, 3), axis=0, return_counts=True)
    assert (counts > 300).sum() == 4  # the background and three faces
    round_one = render(ball(), 128, renderer=renderer)
    assert len(np.unique(round_one.reshape(-1, 3), axis=0)) > 80
