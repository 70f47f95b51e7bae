"""What handlers do when the machine cannot: a titled message, and bugs stay bugs."""

import errno
import os
from pathlib import Path

import gradio as gr
import numpy as np
import pytest
from gradio import processing_utils
from PIL import Image

from wsdemo.errors import WsdemoError
from wsdemo.ui.shared import pictures
from wsdemo.ui.shared.events import guarded, guarded_stream
from wsdemo.ui.shared.pictures import mend_pictures


@pytest.mark.parametrize(
    ("error", "said"),
    [(WsdemoError("Bad", "x", "y"), "Bad"),
     (OSError(errno.ENOSPC, "No space left on device", "/tmp/x"), "No room for a file"),
     (RuntimeError("DefaultCPUAllocator: can't allocate memory"), "Not enough memory"),
     (MemoryError(), "Not enough memory")],
)  # fmt: skip
def test_what_the_machine_refuses_is_said(error, said):
    def fail():
        raise error

    def stream():
        yield 1
        raise error

    with pytest.raises(gr.Error, match=said):
        guarded(fail)()
    with pytest.raises(gr.Error, match=said):
        list(guarded_stream(stream)())


@pytest.mark.parametrize("error", [ValueError("x"), RuntimeError("shapes"), OSError("x")])
def test_a_bug_is_not_explained_away(error):
    def fail():
        raise error

    with pytest.raises(type(error), match=str(error)):
        guarded(fail)()


def test_a_picture_that_is_there_is_not_written_again(tmp_path, monkeypatch):
    """Somebody may be reading it; and one that is written is whole or not there."""
    monkeypatch.setattr(processing_utils, "save_pil_to_cache", processing_utils.save_pil_to_cache)
    mend_pictures()
    picture = Image.new("RGB", (40, 30), "red")
    path = Path(processing_utils.save_pil_to_cache(picture, str(tmp_path), format="png"))
    assert Image.open(path).getpixel((3, 3)) == (255, 0, 0)
    os.utime(path, (1, 1))
    before = path.stat()
    again = processing_utils.save_img_array_to_cache(np.array(picture), str(tmp_path), "png")
    assert Path(again) == path
    after = path.stat()
    assert (after.st_ino, after.st_ctime_ns > before.st_ctime_ns) == (before.st_ino, True)
    assert after.st_mtime > 1  # gradio deletes by age
    assert [p.name for p in tmp_path.rglob("*") if p.is_file()] == [path.name]

    def refused(path, content):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(pictures, "write_whole", refused)
    with pytest.raises(OSError, match="No space"):
        processing_utils.save_pil_to_cache(Image.new("RGB", (9, 9)), str(tmp_path))
