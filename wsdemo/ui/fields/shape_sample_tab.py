"""Tab Sample, shapes: draw shapes from the weight diffusion models, turn one around."""

import random
import time
from collections.abc import Iterator
from typing import Any

import gradio as gr
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from wsdemo.checkpoints import DIRECTORY, load_checkpoint
from wsdemo.domains import shape_pipelines as shapes
from wsdemo.errors import WsdemoError
from wsdemo.fields.instance import Instance
from wsdemo.limits import MAX_SEED
from wsdemo.media.camera import framed
from wsdemo.media.mesh_files import WRITABLE, mesh_bytes
from wsdemo.media.meshes import Pose, statistics
from wsdemo.media.render import choose_renderer, render, turntable
from wsdemo.ui.shared.events import (
    COMPUTE,
    QUICK,
    download_file,
    guarded,
    guarded_stream,
    stop_button,
    zero_gpu,
)

FAMILIES = {"Ten categories": "shapes", "Airplanes": "airplane"}
ANY = "any"
THUMBNAIL = 192
Weights = NDArray[np.float32]


def thumbnail(instance: Instance) -> Any:
    """A picture of a shape at preview resolution; an empty one if it has no surface yet."""
    try:
        mesh = shapes.decode_instance(instance, shapes.PREVIEW)
    except WsdemoError:
        return Image.new("RGB", (THUMBNAIL, THUMBNAIL), (245, 245, 245))
    return Image.fromarray(render(mesh, THUMBNAIL, framed(mesh)))


@zero_gpu
@guarded_stream
def draw(
    family: str,
    category: str,
    count: float | None,
    seed: float | None,
    steps: float,
    guidance: float,
    temperature: float = shapes.TEMPERATURE,
) -> Iterator[tuple[Any, Any, Any]]:
    """Streams the gallery, a status line and the weights of the shapes that the gallery shows."""
    if count is None or seed is None:
        raise WsdemoError("Number missing", "Count or seed is empty.", "Fill it in.")
    name = FAMILIES.get(family, family)
    wish = None if category == ANY or name == "airplane" else category
    started, moment = time.monotonic(), None
    arguments = (name, int(count), int(seed), int(steps), guidance, wish, temperature)
    for moment in shapes.sample_shapes(*arguments):
        if moment.step % 10 == 0 and moment.step < moment.steps:
            text = f"Step {moment.step} of {moment.steps}: denoising weights, not meshes."
            yield gr.skip(), text, gr.skip()
    assert moment is not None
    pictures: list[Any] = []
    adapter = shapes.shape_diffusion(name).adapter
    for weights in moment.instances:
        pictures.append(thumbnail(shapes.drawn_instance(name, adapter, weights, temperature)))
        shown = name, moment.instances[: len(pictures)].numpy(), temperature
        yield pictures, f"Shape {len(pictures)} of {len(moment.instances)} meshed.", shown
    text = (
        f"{len(pictures)} shapes, seed {int(seed)}, {time.monotonic() - started:.1f} s. "
        "Select one to turn it around."
    )
    yield pictures, text, shown


@guarded
def inspect(
    drawn: tuple[str, Weights, float] | None, index: int | None, resolution: int, largest: bool
) -> tuple[Any, ...]:
    """A chosen shape: its mesh, views, files, nearest training shape, and the words for it."""
    if drawn is None or index is None or index >= len(drawn[1]):
        raise WsdemoError(
            "No shape chosen", "There is no such shape.", "Draw first, then select one."
        )
    name, _, temperature = drawn
    adapter = shapes.shape_diffusion(name).adapter
    own = torch.from_numpy(drawn[1][index])
    instance = shapes.drawn_instance(name, adapter, own, temperature)
    mesh = shapes.decode_instance(instance, resolution, largest)
    normals = shapes.shape_normals(own, adapter, mesh)
    files = [download_file(mesh_bytes(mesh, kind, normals), f"shape.{kind}") for kind in WRITABLE]
    near = shapes.nearest_training_shape(name, own, adapter)
    facts = statistics(mesh)
    text = (
        f"**Shape {index + 1}** · {adapter.weight_count:,} weights, rank {adapter.config.rank} "
        f"{adapter.config.representation} · mesh of {facts['faces']:,} faces in "
        f"{facts['parts']} part{'s' if facts['parts'] > 1 else ''}.\n\nNearest training shape in "
        f"weight space: {near.name}, distance {near.distance:.1f}. {near.percentile:.0f} % of "
        "unseen real shapes lie closer to one than this one does; a copy would be at 0 %."
    )
    views = np.concatenate(turntable(mesh, 6, 128), axis=1)
    return (
        files[0],
        Image.fromarray(views),
        thumbnail(shapes.shape_instance(name, adapter, near.weights, {}, Pose())),
        text,
        download_file(instance.to_bytes(), "shape.safetensors"),
        files,
    )


def examples() -> tuple[tuple[str, Weights], list[Any]]:
    """The shipped samples and their pictures: what is on screen before the first click."""
    tensors, meta = load_checkpoint(DIRECTORY / "shapes-examples.safetensors")
    pictures = [Image.fromarray(p) for p in tensors["pictures"].numpy()]
    return (str(meta["set"]), tensors["instances"].float().numpy(), shapes.TEMPERATURE), pictures


def build() -> None:
    """Lays out the tab inside the current Blocks."""
    shipped, pictures = examples()
    drawn, chosen = gr.State(shipped), gr.State(None)
    known = shapes.shape_diffusion("shapes").attribute_names
    gr.Markdown(
        "Each shape below is **about 10,000 neural-network weights**, drawn by a diffusion model. "
        "The shared base field turns them into a distance at every point of space, and marching "
        "cubes into a mesh at any resolution. The models have seen 153 airplanes and 970 shapes of "
        "ten categories, so look at the nearest training shape: some samples are near-copies."
    )
    with gr.Row():
        with gr.Column(scale=2, min_width=300):
            family = gr.Radio(list(FAMILIES), value=next(iter(FAMILIES)), label="Model")
            category = gr.Dropdown([ANY, *known], value=ANY, label="Category")
            count = gr.Slider(1, 12, value=8, step=1, label="Shapes")
            with gr.Row():
                seed = gr.Number(7, label="Seed", precision=0, minimum=0, maximum=MAX_SEED)
                dice = gr.Button("New seed", size="sm")
            with gr.Accordion("Sampler", open=False):
                steps = gr.Slider(5, 100, value=30, step=1, label="Denoising steps (DDIM)")
                guidance = gr.Slider(
                    0, 6, value=2, step=0.25, label="Guidance", info="Strength of the category"
                )
                temperature = gr.Slider(
                    0, 1.5, value=shapes.TEMPERATURE, step=0.05, label="Temperature",
                    info="Below 1: more typical, less various",
                )  # fmt: skip
            with gr.Row():
                go = gr.Button("Draw shapes", variant="primary")
                stop = gr.Button("Stop")
        with gr.Column(scale=4, min_width=400):
            gallery = gr.Gallery(
                value=pictures,
                label="Shapes",
                show_label=False,  # it would lie on the first of them
                elem_id="shapes",
                columns=4,
                height=440,
                format="png",
                allow_preview=False,
                interactive=False,
            )
            status = gr.Markdown(
                "Drawn beforehand; select a shape, or draw new ones.", elem_classes="status"
            )
    with gr.Row(visible=False) as details:
        with gr.Column(scale=3):
            viewer = gr.Model3D(
                label="Mesh", height=420, clear_color=(0.96, 0.96, 0.96, 1.0), interactive=False
            )
            views = gr.Image(
                label="From all around", interactive=False, format="png", buttons=["download"]
            )
            with gr.Row():
                resolution = gr.Radio(
                    [64, 128, 256], value=128, label="Cells a side (marching cubes)"
                )
                largest = gr.Checkbox(False, label="Largest piece only")
        with gr.Column(scale=2):
            words = gr.Markdown()
            nearest = gr.Image(
                label="Nearest training shape", buttons=[], format="png", interactive=False,
                height=200,
            )  # fmt: skip
            file = gr.DownloadButton("Download its weights (.safetensors)")
            files = gr.File(label="Download the mesh", file_count="multiple", interactive=False)
            gr.Markdown(f"Pictures are drawn with {choose_renderer()[0]}: {choose_renderer()[1]}.")

    def choose(event: gr.SelectData) -> tuple[int, Any]:
        return int(event.index), gr.Row(visible=True)

    def offer(chosen_family: str) -> Any:
        return gr.Dropdown(visible=FAMILIES.get(chosen_family) == "shapes")

    family.change(offer, family, category, api_visibility="private", show_progress="hidden")
    dice.click(lambda: random.randrange(10**6), None, seed, api_visibility="private")
    run = go.click(lambda: gr.Row(visible=False), None, details, api_visibility="private").then(
        draw,
        [family, category, count, seed, steps, guidance, temperature],
        [gallery, status, drawn],
        api_name="sample_shapes",
        **COMPUTE,
    )
    stop_button(stop, run, status)
    inputs = [drawn, chosen, resolution, largest]
    outputs = [viewer, views, nearest, words, file, files]
    gallery.select(choose, None, [chosen, details], api_visibility="private").then(
        inspect, inputs, outputs, api_visibility="private", **QUICK
    )
    for component in (resolution, largest):
        component.input(inspect, inputs, outputs, api_visibility="private", **QUICK)
