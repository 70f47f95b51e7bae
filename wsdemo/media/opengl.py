"""Drawing with pyrender through EGL: the only module that touches OpenGL.

An OpenGL context belongs to the thread that made it, so one worker thread does all drawing. A
driver that hangs is not asked again: nothing ends a thread that waits in it.
"""

import os
import threading
from collections.abc import Callable
from concurrent.futures import Future
from functools import cache
from queue import SimpleQueue
from typing import Any

import numpy as np

from wsdemo.media.camera import BACKGROUND, FIELD_OF_VIEW, Camera, Pixels
from wsdemo.media.meshes import Mesh

_SECONDS = 60.0
"""A picture takes a tenth of one; a driver that hangs must not hang the app."""


class Hung(Exception):
    """OpenGL does not come back."""


class _Worker:
    """A thread that draws, and that does not keep the process from ending while it hangs."""

    def __init__(self) -> None:
        self.hangs = False
        self._waiting: SimpleQueue[tuple[Future[Pixels], Callable[[], Pixels]]] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._starting = threading.Lock()

    def run(self, job: Callable[[], Pixels]) -> Pixels:
        """The result of a job in the thread.

        Raises:
            Hung: It did not come back in time, now or before.
        """
        if self.hangs:
            raise Hung("an earlier picture did not come back")
        with self._starting:
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="opengl", daemon=True)
                self._thread.start()
        future: Future[Pixels] = Future()
        self._waiting.put((future, job))
        try:
            return future.result(timeout=_SECONDS)
        except TimeoutError as error:
            self.hangs = True
            raise Hung(f"a picture did not come back within {_SECONDS:.0f} s") from error

    def _work(self) -> None:
        while True:
            future, job = self._waiting.get()
            try:
                future.set_result(job())
            except BaseException as error:
                future.set_exception(error)


_WORKER = _Worker()


@cache
def _pyrender() -> Any:
    # Both are read when pyrender is imported; np.infty is what pyrender 0.1.45 still calls inf.
    os.environ["PYOPENGL_PLATFORM"] = "egl"
    os.environ["PYGLET_HEADLESS"] = "1"
    if not hasattr(np, "infty"):
        vars(np)["infty"] = np.inf
    import pyrender

    return pyrender


@cache
def _renderer(size: int) -> Any:
    return _pyrender().OffscreenRenderer(size, size)


def _draw(mesh: Mesh, colours: Pixels, camera: Camera, size: int) -> Pixels:
    pyrender = _pyrender()
    primitive = pyrender.Primitive(
        positions=mesh.vertices.astype(np.float32),
        indices=mesh.faces.astype(np.uint32),
        color_0=np.column_stack([colours / 255, np.ones(len(colours))]).astype(np.float32),
        material=pyrender.MetallicRoughnessMaterial(doubleSided=True),
    )
    scene = pyrender.Scene(bg_color=[BACKGROUND / 255] * 3 + [1.0])
    scene.add(pyrender.Mesh([primitive]))
    scene.add(pyrender.PerspectiveCamera(yfov=FIELD_OF_VIEW, aspectRatio=1.0), pose=camera.pose)
    flags = pyrender.RenderFlags.FLAT | pyrender.RenderFlags.SKIP_CULL_FACES
    colour, _ = _renderer(size).render(scene, flags=flags)
    return np.asarray(colour[:, :, :3], dtype=np.uint8)


def draw(mesh: Mesh, colours: Pixels, camera: Camera, size: int) -> Pixels:
    """Draws a mesh with (V, 3) vertex colours → (size, size, 3) uint8.

    Raises:
        Hung: OpenGL does not come back.
    """
    return _WORKER.run(lambda: _draw(mesh, colours, camera, size))


def problem() -> str | None:
    """Why OpenGL through EGL does not work here; None if it does."""
    return "OpenGL hangs: a picture did not come back" if _WORKER.hangs else _first_problem()


@cache
def _first_problem() -> str | None:
    corner = Mesh(np.eye(3), np.array([[0, 1, 2]]))
    try:
        picture = draw(corner, np.full((3, 3), 128, dtype=np.uint8), Camera(), 32)
    except Exception as error:  # whatever a missing or broken driver raises
        return f"{type(error).__name__}: {str(error)[:120]}"
    if (picture == BACKGROUND).all():
        return "a test triangle was not drawn"
    return None
