"""An image input that hands over the uploaded file untouched."""

from typing import Any

import gradio as gr


class Photo(gr.Image):
    """gr.Image decodes an upload before any handler sees it, so a damaged or huge picture
    ends in a bare "Error". This one leaves reading to ``media.images.open_picture``, which
    knows limits and says what is wrong.
    """

    is_template = True  # the browser shows it as the Image that it is

    def preprocess(self, payload: Any) -> str | None:
        """Returns the path of the uploaded file; gradio has checked that it is an upload."""
        return None if payload is None else payload.path
