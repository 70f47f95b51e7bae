"""Inputs that hand over uploaded files untouched: a picture, or files that belong together."""

from typing import Any

import gradio as gr
from gradio.data_classes import ListFiles
from pydantic import model_validator


class Photo(gr.Image):
    """gr.Image decodes an upload before any handler sees it, so a damaged or huge picture
    ends in a bare "Error". This one leaves reading to ``media.images.open_picture``, which
    knows limits and says what is wrong.
    """

    is_template = True  # the browser shows it as the Image that it is

    def preprocess(self, payload: Any) -> str | None:
        """Returns the path of the uploaded file; gradio has checked that it is an upload."""
        return None if payload is None else payload.path


class OneOrMore(ListFiles):
    """Files, or one, as callers of the API may send it."""

    @model_validator(mode="before")
    @classmethod
    def _listed(cls, payload: Any) -> Any:
        return [payload] if isinstance(payload, dict) else payload


def files_input(**options: Any) -> gr.File:
    """Several files at once, as ``scene.gltf`` and its ``scene.bin``: a list of their paths."""
    made = gr.File(file_count="multiple", type="filepath", **options)
    made.data_model = OneOrMore
    return made
