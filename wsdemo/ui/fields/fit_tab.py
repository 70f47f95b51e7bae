"""Tab Fit: a photo becomes weights; weights become pictures; two faces blend."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr
import pandas as pd
from torch import Tensor

from wsdemo.domains import face_fitting, pipelines
from wsdemo.errors import WsdemoError
from wsdemo.fields.instance import Instance
from wsdemo.maps import weight_map as maps
from wsdemo.media.images import Crop, open_picture, to_picture, to_square
from wsdemo.ui.fields.photo import Photo
from wsdemo.ui.shared.events import (
    COMPUTE,
    QUICK,
    download_file,
    guarded,
    guarded_stream,
    stop_button,
)

PRESETS = {
    "Fast: 4 s, rank 8": face_fitting.FitOptions(rank=8, seconds=4.0),
    "Fine: 20 s, rank 18": face_fitting.FitOptions(rank=18, seconds=20.0, start="carried"),
    "As the training faces: for the map, edits and predictions": face_fitting.FitOptions(
        is_comparable=True
    ),
}
EXAMPLES = Path(__file__).parent.parent / "examples"


def square(path: str | None, x: float, y: float, zoom: float) -> tuple[Any, list[str]]:
    """The 64x64 crop of an uploaded photo, and notes on how it was read."""
    if path is None:
        raise WsdemoError("No photo", "There is nothing to fit yet.", "Drop or pick a photo.")
    picture, notes = open_picture(Path(path))
    return to_square(picture, Crop(x, y, zoom), pipelines.SIZE), notes


@guarded
def show_crop(path: str | None, x: float, y: float, zoom: float) -> Any:
    """What the field will see of the photo."""
    return None if path is None else to_picture(square(path, x, y, zoom)[0])


def describe(instance: Instance, size: int) -> str:
    """The facts of an instance as a table."""
    m = instance.measured
    config = instance.adapter.config
    rows = [
        ("Representation", f"{config.representation}, rank {config.rank}"),
        ("Weights", f"{instance.adapter.weight_count:,}"),
        ("File", f"{size:,} bytes"),
    ]
    names = (("psnr", "PSNR", "{:.2f} dB"), ("ssim", "SSIM", "{:.3f}"))
    rows += [(label, form.format(m[key])) for key, label, form in names if key in m]
    if {"seconds", "steps"} <= set(m):
        rows.append(("Time", f"{m['seconds']:.1f} s, {m['steps']:.0f} steps"))
    return "| | |\n|---|---|\n" + "\n".join(f"| {a} | {b} |" for a, b in rows)


@dataclass(frozen=True)
class Fitting:
    """How far a fit has come.

    Attributes:
        step: Its last report.
        original: (3, 64, 64) uint8, what is fitted.
        notes: How the photo was read.
        trail: Where the weights have been on the map of faces.
    """

    step: face_fitting.FitStep
    original: Tensor
    notes: list[str]
    trail: list[tuple[float, float]]


@guarded_stream
def fit(
    path: str | None, x: float, y: float, zoom: float, preset: str
) -> Iterator[tuple[Any, ...]]:
    """Streams preview, PSNR curve, status and how far it is; ends with what ``finished`` shows."""
    if preset not in PRESETS:
        raise WsdemoError(
            "Unknown preset", f"Found {preset[:40]!r}.", f"Choose {' or '.join(PRESETS)}."
        )
    image, notes = square(path, x, y, zoom)
    yield None, None, "Starting.", None, "", None, None, None, [], None  # nothing of an older fit
    curve: list[tuple[float, float]] = []
    trail: list[tuple[float, float]] = []
    for step in face_fitting.fit_picture(image, PRESETS[preset]):
        curve.append((step.seconds, step.psnr))
        trail += on_map(step.instance)
        table = pd.DataFrame(curve, columns=["seconds", "PSNR (dB)"])
        now = Fitting(step, image, notes, list(trail))
        if step.is_last:
            yield finished(now, table)
            return
        text = f"{step.psnr:.2f} dB after {step.step} steps, {step.seconds_left:.0f} s left."
        yield to_picture(step.image), table, text, *[gr.skip()] * 6, now


def finished(now: Fitting, curve: Any) -> tuple[Any, ...]:
    """All that the tab shows of a fit that is over or stopped: preview, PSNR curve, status,
    comparison, facts, files, its trail on the map, and that none is running any more."""
    step, shown = now.step, to_picture(now.step.image)
    content = step.instance.to_bytes()
    canonical = pipelines.canonical(step.instance).to_bytes()
    file = download_file(content, "fit.safetensors")
    word = "Done" if step.is_last else f"Stopped after {step.step} steps"
    return (
        shown,
        curve,
        " ".join([f"{word}: {step.psnr:.2f} dB.", *now.notes]),
        (to_picture(now.original).resize((256, 256), 0), shown.resize((256, 256), 0)),
        describe(step.instance, len(content)),
        file,
        download_file(canonical, "fit-canonical.safetensors"),
        file,
        now.trail,
        None,
    )


def stopped(now: Fitting | None) -> tuple[Any, ...]:
    """What Stop leaves: the weights so far; nothing new if none were there yet."""
    return (gr.skip(),) * 10 if now is None else finished(now, gr.skip())


def on_map(instance: Instance) -> list[tuple[float, float]]:
    """Where weights lie on the map of faces; nothing if they are of another representation."""
    found = maps.weight_map("faces")
    if instance.adapter.config != found.model.adapter.config:
        return []
    return [maps.place(found, instance).position]


@guarded
def open_file(path: str | None, size: int) -> tuple[Any, str]:
    """Decodes an instance file that a visitor dropped."""
    if path is None:
        return None, ""
    instance = pipelines.open_instance(Path(path), "image")
    pictures = pipelines.render_faces(instance.weights[None], instance.adapter, size)
    return to_picture(pictures[0]), describe(instance, Path(path).stat().st_size)


@guarded
def blend(a: str | None, b: str | None, share: float) -> Any:
    """A point of the straight path between two instances."""
    if a is None or b is None:
        return None
    first, second = (pipelines.open_instance(Path(p), "image") for p in (a, b))
    weights = pipelines.blend(first, second, share)
    return to_picture(pipelines.render_faces(weights[None], first.adapter, 192)[0])


def build() -> tuple[gr.State, gr.State]:
    """Lays out the tab; returns the last fit's file and its trail on the map of faces."""
    gr.Markdown(
        "A photo becomes the weights that make the shared base field show it. Faces fit best: the "
        "base has seen 8,000 of them at 64x64 pixels. Your photo goes nowhere but to the machine "
        "that runs this app, which deletes it within a day."
    )
    with gr.Row():
        with gr.Column(scale=2, min_width=300):
            photo = Photo(
                elem_id="photo",
                type="filepath",
                label="Photo",
                sources=["upload", "webcam", "clipboard"],
                height=260,
            )
            examples = gr.Examples(
                [[str(p)] for p in sorted(EXAMPLES.glob("*.png"))], photo, label="Or one of these"
            )
            with gr.Row():
                crop = gr.Image(
                    label="The field sees this square", interactive=False, height=150,
                    format="png", elem_id="crop", buttons=[],
                )  # fmt: skip
                with gr.Column():
                    x = gr.Slider(0, 1, 0.5, step=0.01, label="Left to right")
                    y = gr.Slider(0, 1, 0.5, step=0.01, label="Top to bottom")
                    zoom = gr.Slider(1, 6, 1, step=0.05, label="Zoom")
            preset = gr.Radio(list(PRESETS), value=next(iter(PRESETS)), label="Preset")
            with gr.Row():
                go = gr.Button("Fit", variant="primary")
                stop = gr.Button("Stop")
        with gr.Column(scale=3, min_width=400):
            with gr.Row():
                preview = gr.Image(
                    label="What the weights show", interactive=False, height=280, format="png",
                    elem_id="preview", buttons=[],
                )  # fmt: skip
                curve = gr.LinePlot(  # a label would take its height from the axis below
                    x="seconds", y="PSNR (dB)", title="PSNR while fitting", height=280,
                    label="PSNR while fitting", show_label=False, elem_id="psnr",
                )  # fmt: skip
            status = gr.Markdown("Nothing fitted yet.", elem_classes="status")
            with gr.Row():
                with gr.Column(min_width=280):
                    compare = gr.ImageSlider(
                        label="Photo · fitted", interactive=False, format="png", height=280
                    )
                with gr.Column(min_width=240):
                    facts = gr.Markdown()
            with gr.Row():
                file = gr.DownloadButton("Download the weights")
                canonical = gr.DownloadButton("Download canonical factors")
    last, trail, now = gr.State(None), gr.State([]), gr.State(None)

    crop_inputs = [photo, x, y, zoom]
    # Not photo.change: one photo in another's place changes twice, and errs twice if it is bad.
    events = [photo.input, examples.load_input_event.then, x.change, y.change, zoom.change]
    for event in events:
        event(
            show_crop, crop_inputs, crop, api_visibility="private", show_progress="hidden", **QUICK
        )
    outputs = [preview, curve, status, compare, facts, file, canonical, last, trail, now]
    run = go.click(fit, [*crop_inputs, preset], outputs, api_name="fit_picture", **COMPUTE)
    others = [o for o in outputs if o is not status]
    stop_button(stop, run, status, others).then(
        stopped, now, outputs, api_visibility="private", show_progress="hidden", **QUICK
    )
    _build_files(last)
    return last, trail


def _build_files(last: gr.State) -> None:
    """The lower half: decode an instance file, blend two."""
    with gr.Row():
        with gr.Column():
            gr.Markdown("## Open an instance file")
            dropped = gr.File(
                label="Instance (.safetensors)",
                file_types=[".safetensors"],
                height=120,
                elem_id="instance",
            )
            size = gr.Radio([64, 128, 256, 512], value=256, label="Render at (pixels)")
            decoded = gr.Image(
                label="Decoded",
                interactive=False,
                height=260,
                format="png",
                buttons=["download", "fullscreen"],
            )
            facts = gr.Markdown()
        with gr.Column():
            gr.Markdown("## Walk from one face to another, through weight space")
            with gr.Row():
                a = gr.File(label="From (.safetensors)", file_types=[".safetensors"], height=120)
                b = gr.File(label="To (.safetensors)", file_types=[".safetensors"], height=120)
            with gr.Row():
                use_a = gr.Button("Use my fit as From", size="sm")
                use_b = gr.Button("Use my fit as To", size="sm")
            share = gr.Slider(0, 1, 0.5, step=0.02, label="Share of the second face")
            mixed = gr.Image(
                label="Blend",
                interactive=False,
                height=260,
                format="png",
                buttons=["download", "fullscreen"],
            )
    inputs: list[Any] = [dropped, size]
    dropped.change(open_file, inputs, [decoded, facts], api_name="decode_instance", **QUICK)
    size.input(open_file, inputs, [decoded, facts], api_visibility="private", **QUICK)
    for button, slot in ((use_a, a), (use_b, b)):
        button.click(lambda path: path, last, slot, api_visibility="private")
    gr.on(
        [a.change, b.change, share.change], blend, [a, b, share], mixed, api_name="blend",
        trigger_mode="always_last", show_progress="hidden", **QUICK,
    )  # fmt: skip
