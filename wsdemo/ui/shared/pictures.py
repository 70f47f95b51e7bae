"""The pictures that gradio serves: written once, and whole.

Seen with gradio 6.31: a picture is written into the place that its content names even where it lies
there already. Who gets the same picture as another visitor cuts the one that is being sent to them
("peer closed connection without sending complete message body", seen in the load test).
"""

import os
from pathlib import Path
from typing import Any

from gradio import processing_utils

from wsdemo.files import write_whole


def save_picture(img: Any, cache_dir: str, name: str = "image", format: str = "webp") -> str:
    """In the place of gradio's ``save_pil_to_cache``; returns the path."""
    data = processing_utils.encode_pil_to_bytes(img, format)
    path = (Path(cache_dir) / processing_utils.hash_bytes(data) / f"{name}.{format}").resolve()
    try:
        os.utime(path)  # gradio deletes what is old
    except FileNotFoundError:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, data)
    return str(path)


def mend_pictures() -> None:
    """Lets gradio save pictures so, in this process."""
    processing_utils.save_pil_to_cache = save_picture
