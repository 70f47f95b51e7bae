"""Tab Fit, meshes: a mesh becomes weights; weights become meshes; two shapes blend."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gradio as gr
import pandas as pd
from PIL import Image

from wsdemo.domains import pipelines, shape_fitting
from wsdemo.domains import shape_pipelines as shapes
from wsdemo.errors import WsdemoError
from wsdemo.fields.instance import Instance
from wsdemo.media.mesh_files import READABLE, WRITABLE, mesh_bytes, precision_note
from wsdemo.media.meshes import Mesh
from wsdemo.media.render import render
from wsdemo.ui.shared.events import (
    COMPUTE,
    QUICK,
    READING,
    cache_folder,
    download_file,
    guarded,
    guarded_stream,
    stop_button,
)

PRESETS = {
    "Fast: 15 s, rank 8": (8, 15.0),
    "Fine: 45 s, rank 18": (18, 45.0),
}
BASES = {"Ten categories": "shapes", "Airplanes": "airplane"}
EXAMPLES = Path(__file__).parent.parent / "examples"
SIZE = 320
COLOURS = {"to the first": "#3b5bdb", "to the second": "#e8590c"}


def picture(mesh: Mesh | None, size: int = SIZE) -> Any:
    """A mesh seen from the front left, or an empty picture."""
    if mesh is None:
        return Image.new("RGB", (size, size), (245, 245, 245))
    return Image.fromarray(render(mesh, size))


def describe(instance: Instance, size: int, mesh_size: int | None = None) -> str:
    """The facts of an instance as a table."""
    m, config = instance.measured, instance.adapter.config
    rows = [
        ("Representation", f"{config.representation}, rank {config.rank}"),
        ("Weights", f"{instance.adapter.weight_count:,}"),
        ("File", f"{size:,} bytes" + (f" (the mesh: {mesh_size:,})" if mesh_size else "")),
    ]
    names = (
        ("chamfer", "Chamfer distance (30,000 points, squared)", "{:.5f}"),
        ("fscore", "F-score (1 % of the length)", "{:.1%}"),
        ("iou", "Volume IoU", "{:.1%}"),
        ("normals", "Normal consistency", "{:.3f}"),
    )
    rows += [(label, form.format(m[key])) for key, label, form in names if key in m]
    if {"seconds", "steps"} <= set(m):
        rows.append(("Time of the fit", f"{m['seconds']:.1f} s, {m['steps']:.0f} steps"))
    return "| | |\n|---|---|\n" + "\n".join(f"| {a} | {b} |" for a, b in rows)


def opened(path: str | None) -> shape_fitting.MeshInput:
    """The mesh that a visitor dropped."""
    if path is None:
        raise WsdemoError("No mesh", "There is nothing to fit yet.", "Drop or pick a mesh.")
    return shape_fitting.load_mesh(Path(path))


@guarded
def look(path: str | None) -> tuple[Any, str]:
    """A picture of the dropped mesh and how it was read."""
    if path is None:
        return None, ""
    source = opened(path)
    return picture(source.mesh, 240), "  \n".join(source.describe())


@guarded_stream
def fit(
    path: str | None, base: str, preset: str, largest: bool = False
) -> Iterator[tuple[Any, ...]]:
    """Streams the surface, PSNR curve and status; ends with the comparison and the files.

    What is on screen of an earlier fit goes first, so that nothing of it is taken for this one's.
    """
    yield None, None, "Reading the mesh and measuring distances.", *[None] * 7
    try:
        yield from _fit(path, base, preset, largest)
    except WsdemoError as error:
        yield gr.skip(), gr.skip(), f"Not fitted: {error.title}.", *[gr.skip()] * 7
        raise


def _fit(path: str | None, base: str, preset: str, largest: bool) -> Iterator[tuple[Any, ...]]:
    if preset not in PRESETS:
        raise WsdemoError(
            "Unknown preset", f"Found {preset[:40]!r}.", f"Choose {' or '.join(PRESETS)}."
        )
    source = opened(path)
    rank, seconds = PRESETS[preset]
    options = shape_fitting.ShapeFitOptions(
        BASES.get(base, base), rank=rank, seconds=seconds, largest=largest
    )
    curve: list[tuple[float, float]] = []
    step = None
    for step in shape_fitting.fit_mesh(source, options, cache_folder()):
        if step.is_last:
            break
        curve.append((step.seconds, step.psnr))
        table = pd.DataFrame(curve, columns=["seconds", "PSNR (dB)"])
        text = f"{step.psnr:.1f} dB after {step.step} steps, {step.seconds_left:.0f} s left."
        if step.is_measuring:
            text = f"{step.psnr:.1f} dB after {step.step} steps. Measuring the surface."
        yield picture(step.mesh), table, text, *[gr.skip()] * 7
    assert step is not None
    assert step.mesh is not None
    assert step.reference is not None
    assert path is not None
    instance, mesh, m = step.instance, step.mesh, step.instance.measured
    content = instance.to_bytes()
    files, shown = _mesh_files(instance, mesh, "fit")
    saved = download_file(content, "fit.safetensors")
    yield (
        picture(mesh),
        table,
        f"Done: F-score {m['fscore']:.1%}, IoU {m['iou']:.1%}, in {step.seconds:.0f} s in all.",
        shown,
        (picture(source.mesh), picture(mesh)),
        Image.fromarray(shape_fitting.overlay(mesh, step.reference, SIZE)),
        describe(instance, len(content), Path(path).stat().st_size) + _precision(instance, mesh),
        saved,
        files,
        saved,
    )


def _mesh_files(instance: Instance, mesh: Mesh, name: str) -> tuple[list[str], str]:
    """Downloads of a mesh where it stood, and one in the field's own place, for the viewer."""
    normals = shapes.shape_normals(instance.weights, instance.adapter, mesh)
    placed = shapes.pose_of(instance).undo(mesh)
    files = [download_file(mesh_bytes(placed, k, normals), f"{name}.{k}") for k in WRITABLE]
    return files, download_file(mesh_bytes(mesh, "glb", normals), f"{name}.glb")


def _precision(instance: Instance, mesh: Mesh) -> str:
    note = precision_note(shapes.pose_of(instance).undo(mesh))
    return f"\n\n{note}" if note else ""


@guarded
def open_file(path: str | None, resolution: int, largest: bool) -> tuple[Any, str, Any]:
    """Decodes an instance file that a visitor dropped."""
    if path is None:
        return None, "", gr.File(visible=False)
    instance = pipelines.open_instance(Path(path), "sdf")
    mesh = shapes.decode_instance(instance, resolution, largest)
    files, shown = _mesh_files(instance, mesh, "shape")
    return (
        shown,
        describe(instance, Path(path).stat().st_size) + _precision(instance, mesh),
        gr.File(files, visible=True),
    )


def _ends(a: str | None, b: str | None) -> tuple[Instance, Instance] | None:
    if a is None or b is None:
        return None
    return pipelines.open_instance(Path(a), "sdf"), pipelines.open_instance(Path(b), "sdf")


@guarded
def blend(a: str | None, b: str | None, share: float) -> Any:
    """A point of the straight path between two instances."""
    ends = _ends(a, b)
    if ends is None:
        return None
    return picture(shapes.decode_between(*ends, share))


@guarded
def barrier(a: str | None, b: str | None) -> Any:
    """How far the surface along the path is from both ends."""
    ends = _ends(a, b)
    if ends is None:
        raise WsdemoError(
            "Two files are needed", "One end of the walk is empty.", "Drop an instance there."
        )
    rows = []
    for step in shape_fitting.walk_shapes(*ends):
        rows.append((step.share, step.to_first, "to the first"))
        rows.append((step.share, step.to_second, "to the second"))
    return pd.DataFrame(rows, columns=["share", "Chamfer distance", "distance"])


def build() -> None:
    """Lays out the tab inside the current Blocks."""
    gr.Markdown(
        "A mesh becomes the weights that make the shared base field measure its distance. The "
        "bases have seen about 1,000 shapes of ten categories; other shapes fit too, with less "
        "detail. Holes and flipped faces are no obstacle."
    )
    with gr.Row():
        with gr.Column(scale=2, min_width=300):
            mesh = gr.File(
                label="Mesh (GLB, glTF, OBJ, PLY, STL, OFF, 3MF)",
                file_types=[f".{k}" for k in READABLE],
                height=120,
                elem_id="mesh",
            )
            gr.Examples(
                [[str(p)] for p in sorted(EXAMPLES.glob("*.glb"))], mesh, label="Or one of these"
            )
            seen = gr.Image(
                label="As it was read", interactive=False, height=240, format="png", buttons=[]
            )
            report = gr.Markdown()
            base = gr.Radio(list(BASES), value=next(iter(BASES)), label="Base field")
            preset = gr.Radio(list(PRESETS), value=next(iter(PRESETS)), label="Preset")
            largest = gr.Checkbox(False, label="Largest piece only")
            with gr.Row():
                go = gr.Button("Fit the mesh", variant="primary")
                stop = gr.Button("Stop")
        with gr.Column(scale=3, min_width=400):
            with gr.Row():
                preview = gr.Image(
                    label="The surface so far", interactive=False, height=260, format="png",
                    elem_id="surface", buttons=[],
                )  # fmt: skip
                curve = gr.LinePlot(
                    x="seconds", y="PSNR (dB)", label="PSNR of distances", height=260
                )
            status = gr.Markdown("Nothing fitted yet.", elem_classes="status")
            with gr.Row():
                viewer = gr.Model3D(
                    label="Fitted mesh", height=320, clear_color=(0.96, 0.96, 0.96, 1.0),
                    interactive=False, visible=False,
                )  # fmt: skip
                compare = gr.ImageSlider(
                    label="Mesh · fitted", interactive=False, format="png", height=320
                )
            with gr.Row():
                off = gr.Image(
                    label="Red where it is off by 2 % of the length", interactive=False,
                    height=280, format="png", buttons=["download"],
                )  # fmt: skip
                with gr.Column():
                    facts = gr.Markdown()
                    file = gr.DownloadButton("Download the weights")
                    files = gr.File(
                        label="Download the fitted mesh", file_count="multiple", interactive=False
                    )
    last, fitted = gr.State(None), gr.State(None)
    mesh.change(lambda: (None, ""), None, [seen, report], api_visibility="private").then(
        look, mesh, [seen, report], api_visibility="private", **READING
    )
    run = go.click(
        lambda: gr.Model3D(None, visible=False), None, viewer, api_visibility="private"
    ).then(
        fit,
        [mesh, base, preset, largest],
        [preview, curve, status, fitted, compare, off, facts, file, files, last],
        api_name="fit_mesh",
        **COMPUTE,
    )
    # Shown first and filled in a step of its own: a viewer that a stream fills, or that appears
    # together with its mesh, stays empty (seen with gradio 6.31).
    run.success(lambda: gr.Model3D(visible=True), None, viewer, api_visibility="private").then(
        lambda path: path, fitted, viewer, api_visibility="private"
    )
    stop_button(stop, run, status)
    _build_files(last)


def _build_files(last: gr.State) -> None:
    """The lower half: decode an instance file, blend two."""
    with gr.Row():
        with gr.Column():
            gr.Markdown("## Open a shape's instance file")
            dropped = gr.File(
                label="Instance (.safetensors)", file_types=[".safetensors"], height=120
            )
            with gr.Row():
                resolution = gr.Radio([64, 128, 256], value=128, label="Cells a side")
                largest = gr.Checkbox(False, label="Largest piece only")
            viewer = gr.Model3D(
                label="Decoded", height=320, clear_color=(0.96, 0.96, 0.96, 1.0),
                interactive=False, visible=False,
            )  # fmt: skip
            facts = gr.Markdown()
            files = gr.File(
                label="Download the mesh", file_count="multiple", interactive=False, visible=False
            )
        with gr.Column():
            gr.Markdown("## Walk from one shape to another, through weight space")
            with gr.Row():
                a = gr.File(label="From (.safetensors)", file_types=[".safetensors"], height=120)
                b = gr.File(label="To (.safetensors)", file_types=[".safetensors"], height=120)
            with gr.Row():
                use_a = gr.Button("Use my fit as From", size="sm")
                use_b = gr.Button("Use my fit as To", size="sm")
            share = gr.Slider(0, 1, 0.5, step=0.05, label="Share of the second shape")
            mixed = gr.Image(
                label="Blend", interactive=False, height=280, format="png", buttons=["download"]
            )
            measure = gr.Button("Measure along the path", size="sm")
            path = gr.LinePlot(
                x="share", y="Chamfer distance", color="distance", height=240,
                color_map=COLOURS,  # named in the label: narrow screens show no legend
                label="Surface on the path, against the first end (blue) and the second (orange)",
            )  # fmt: skip
    inputs: list[Any] = [dropped, resolution, largest]
    outputs = [viewer, facts, files]
    dropped.change(
        lambda path: (gr.Model3D(None, visible=path is not None), "", gr.File(visible=False)),
        dropped, outputs, api_visibility="private",
    ).then(open_file, inputs, outputs, api_name="decode_shape", **QUICK)  # fmt: skip
    for component in (resolution, largest):
        component.input(open_file, inputs, outputs, api_visibility="private", **QUICK)
    for button, slot in ((use_a, a), (use_b, b)):
        button.click(lambda path: path, last, slot, api_visibility="private")
    mix = {"fn": blend, "inputs": [a, b, share], "outputs": mixed, "show_progress": "hidden"}
    share.change(**mix, api_name="blend_shapes", **QUICK)
    for end in (a, b):  # what was mixed and measured of other ends goes first
        end.change(lambda: (None, None), None, [mixed, path], api_visibility="private").then(
            **mix, api_visibility="private", **QUICK
        )
    measure.click(barrier, [a, b], path, api_name="walk_shapes", **COMPUTE)
