"""Tab Sample: draw faces from the weight diffusion model, look closely at one."""

import random
import time
from collections.abc import Iterator
from typing import Any

import gradio as gr
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from wsdemo.checkpoints import DIRECTORY, load_checkpoint
from wsdemo.domains import pipelines
from wsdemo.errors import WsdemoError
from wsdemo.limits import MAX_SEED
from wsdemo.media.images import to_picture
from wsdemo.ui.shared.events import (
    COMPUTE,
    QUICK,
    download_file,
    guarded,
    guarded_stream,
    stop_button,
    zero_gpu,
)

LABELS = {
    "Smiling": "smiling",
    "Eyeglasses": "glasses",
    "Male": "male",
    "Young": "young",
    "Wearing_Hat": "hat",
    "Bangs": "bangs",
    "No_Beard": "no beard",
    "Black_Hair": "black hair",
    "Blond_Hair": "blond hair",
    "Brown_Hair": "brown hair",
    "Gray_Hair": "gray hair",
}
GALLERY_SIZE = 128
Weights = NDArray[np.float32]


def gallery_pictures(instances: Tensor, size: int) -> list[Any]:
    """Decodes weights for the gallery."""
    adapter = pipelines.face_diffusion().adapter
    return [to_picture(p) for p in pipelines.render_faces(instances, adapter, size)]


@zero_gpu
@guarded_stream
def draw(
    count: float | None,
    seed: float | None,
    steps: float,
    guidance: float,
    wanted: list[str],
    unwanted: list[str],
    temperature: float = 1.0,
) -> Iterator[tuple[Any, Any, Weights]]:
    """Streams the gallery, a status line and the weights of what is shown, also to stop at."""
    if count is None or seed is None:
        raise WsdemoError("Number missing", "Count or seed is empty.", "Fill it in.")
    both = sorted(set(wanted) & set(unwanted))
    if both:
        raise WsdemoError(
            "Contradiction",
            f"{', '.join(LABELS.get(b, b) for b in both)} is wanted and unwanted.",
            "Remove it from one of the two lists.",
        )
    wishes = dict.fromkeys(wanted, True) | dict.fromkeys(unwanted, False)
    started = shown = time.monotonic()
    moment = None
    options = (int(count), int(seed), int(steps), guidance, wishes, temperature)
    for moment in pipelines.sample_faces(*options):
        now = time.monotonic()
        first = moment.step == 1
        if moment.step < moment.steps and (first or now - shown > 0.35 + 0.05 * count):
            text = f"Step {moment.step} of {moment.steps}: denoising weights, not pixels."
            yield gallery_pictures(moment.instances, 64), text, moment.instances.numpy()
            shown = time.monotonic()
    assert moment is not None
    pictures = gallery_pictures(moment.instances, GALLERY_SIZE)
    text = (
        f"{len(pictures)} faces, seed {int(seed)}, {time.monotonic() - started:.1f} s. "
        "Select one to see it closely."
    )
    yield pictures, text, moment.instances.numpy()


@guarded
def inspect(weights: Weights | None, index: int | None, size: int) -> tuple[Any, Any, Any, str]:
    """A chosen face: large picture, its file, its nearest training face, the words for it."""
    if weights is None or index is None or index >= len(weights):
        raise WsdemoError(
            "No face chosen", "There is no such face.", "Draw first, then select one."
        )
    adapter = pipelines.face_diffusion().adapter
    own = torch.from_numpy(weights[index])
    picture = to_picture(pipelines.render_faces(own[None], adapter, size)[0])
    file = download_file(pipelines.face_instance(adapter, own, {}).to_bytes(), "face.safetensors")
    near = pipelines.nearest_training_face(own, adapter)
    shown = to_picture(pipelines.render_faces(near.weights[None], adapter, GALLERY_SIZE)[0])
    text = (
        f"**Face {index + 1}** · {adapter.weight_count:,} weights, rank {adapter.config.rank} "
        f"{adapter.config.representation}.\n\nNearest training face in weight space: number "
        f"{near.index + 1}, distance {near.distance:.1f}. {near.percentile:.0f} % of unseen real "
        "faces lie closer to a training face than this one does; a copy would be at 0 %."
    )
    return picture, file, shown, text


def examples() -> Tensor:
    """The shipped samples: what is on screen before the first click."""
    tensors, _ = load_checkpoint(DIRECTORY / "faces-examples.safetensors")
    return tensors["instances"].float()


def build() -> None:
    """Lays out the tab inside the current Blocks."""
    shipped = examples()
    choices = [(LABELS[n], n) for n in pipelines.face_diffusion().attribute_names]
    weights = gr.State(shipped.numpy())
    chosen = gr.State(None)
    gr.Markdown(
        "Each face below is **about 10,000 neural-network weights**, drawn by a diffusion "
        "model. The shared base field turns them into a picture at any resolution."
    )
    with gr.Row():
        with gr.Column(scale=2, min_width=300):
            count = gr.Slider(1, 16, value=8, step=1, label="Faces")
            with gr.Row():
                seed = gr.Number(7, label="Seed", precision=0, minimum=0, maximum=MAX_SEED)
                dice = gr.Button("New seed", size="sm")
            wanted = gr.Dropdown(choices, multiselect=True, label="With", value=[])
            unwanted = gr.Dropdown(choices, multiselect=True, label="Without", value=[])
            with gr.Accordion("Sampler", open=False):
                steps = gr.Slider(5, 100, value=30, step=1, label="Denoising steps (DDIM)")
                guidance = gr.Slider(
                    0, 6, value=2, step=0.25, label="Guidance", info="Strength of the wishes above"
                )
                temperature = gr.Slider(
                    0, 1.5, value=1, step=0.05, label="Temperature",
                    info="Below 1: more typical, less various",
                )  # fmt: skip
            with gr.Row():
                go = gr.Button("Draw faces", variant="primary")
                stop = gr.Button("Stop")
        with gr.Column(scale=4, min_width=400):
            gallery = gr.Gallery(
                value=gallery_pictures(shipped, GALLERY_SIZE),
                label="Faces",
                show_label=False,  # it would lie on the first of them
                elem_id="faces",
                columns=4,
                height=440,
                format="png",
                allow_preview=False,
                interactive=False,
            )
            status = gr.Markdown(
                "Drawn beforehand; select a face, or draw new ones.", elem_classes="status"
            )
    with gr.Row(visible=False) as details:
        with gr.Column(scale=3):
            picture = gr.Image(
                label="Rendered", elem_id="rendered", format="png", interactive=False, height=420,
                buttons=["download", "fullscreen"],
            )  # fmt: skip
            size = gr.Radio([64, 128, 256, 512], value=256, label="Render at (pixels)")
        with gr.Column(scale=2):
            words = gr.Markdown()
            nearest = gr.Image(
                label="Nearest training face", buttons=[],
                elem_id="nearest", format="png", interactive=False, height=180,
            )  # fmt: skip
            file = gr.DownloadButton("Download its weights (.safetensors)")

    def choose(event: gr.SelectData) -> tuple[int, Any]:
        return int(event.index), gr.Row(visible=True)

    dice.click(lambda: random.randrange(10**6), None, seed, api_visibility="private")
    run = go.click(lambda: gr.Row(visible=False), None, details, api_visibility="private").then(
        draw,
        [count, seed, steps, guidance, wanted, unwanted, temperature],
        [gallery, status, weights],
        api_name="sample_faces",
        **COMPUTE,
    )
    stop_button(stop, run, status, [gallery, weights])
    outputs = [picture, file, nearest, words]
    gallery.select(choose, None, [chosen, details], api_visibility="private").then(
        inspect, [weights, chosen, size], outputs, api_visibility="private", **QUICK
    )
    size.input(inspect, [weights, chosen, size], outputs, api_visibility="private", **QUICK)
