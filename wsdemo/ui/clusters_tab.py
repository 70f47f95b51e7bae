"""Tab Clusters: the map of weight space, edits along directions, the symmetry exhibit."""

import dataclasses
import math
from pathlib import Path
from typing import Any

import gradio as gr
import pandas as pd
import torch
from PIL import Image

from wsdemo import maps, pipelines, shape_pipelines, walks
from wsdemo.errors import WsdemoError
from wsdemo.fields.instance import Instance
from wsdemo.media.render import render
from wsdemo.ui import edit_tab, map_view
from wsdemo.ui.events import COMPUTE, QUICK, download_file, guarded
from wsdemo.ui.predict_panel import curve_svg
from wsdemo.ui.text import text_of

INTRO = """Every point is a fitted face or shape; near points have near weights. Points with a dark
rim are held out: no model has seen them. Click one, or use the arrow keys and Enter."""
SIDE = 320
NEAR = 8
STEPS = 9
"""Pictures along a walk."""


def _picture_of(instance: Instance) -> Image.Image:
    if instance.domain == "image":
        pixels = pipelines.render_faces(instance.weights[None], instance.adapter, 64)[0]
        return Image.fromarray(pixels.permute(1, 2, 0).numpy()).resize((SIDE, SIDE))
    mesh = shape_pipelines.decode_shape(instance.weights, instance.adapter, shape_pipelines.PREVIEW)
    return Image.fromarray(render(mesh, SIDE))


def representations(name: str) -> list[str]:
    """What a map can show."""
    return list(maps.weight_map(name).coordinates)


def label_text(found: maps.WeightMap, index: int) -> str:
    """What is known of a point."""
    row = found.labels[index].bool().tolist()
    true = [n.replace("_", " ") for n, v in zip(found.label_names, row, strict=True) if v]
    where = "held out" if bool(found.is_held_out[index]) else "training"
    return f"**{text_of(found.names[index])}** ({where}). {', '.join(true)}."


# ---- the map -------------------------------------------------------------------------


@guarded
def redraw(
    name: str, representation: str, kind: str, colour: str, has_pictures: bool, index: int | None
) -> dict[str, Any]:
    """The map after a control has changed."""
    selected = -1 if index is None else index
    return map_view.map_value(name, representation, kind, colour, has_pictures, selected=selected)


@guarded
def other_set(name: str) -> tuple[Any, ...]:
    """The controls of the other set, and its map."""
    own = representations(name)
    labels = list(maps.weight_map(name).label_names)
    is_faces = name == "faces"
    colour = gr.Dropdown(choices=labels, value="Male" if is_faces else None, visible=is_faces)
    return (
        gr.Dropdown(choices=own, value=own[0]), colour,
        map_view.map_value(name, own[0], "t-SNE", "Male"), None, None, "", [], "",
    )  # fmt: skip


def show_point(name: str, index: int) -> tuple[Any, ...]:
    """A point decoded, and as a file."""
    found = maps.weight_map(name)
    picture = map_view.point_picture(name, index, SIDE)
    path = download_file(b"", f"{name}-point-{index}.safetensors")
    maps.point_instance(found, index).save(Path(path))
    return index, picture, label_text(found, index), path


@guarded
def show_near(name: str, representation: str, index: int | None) -> list[Any]:
    """The points whose weights are nearest to a point's, as pictures."""
    if index is None:
        return []
    found = maps.weight_map(name)
    if not found.covered(representation)[index]:
        gr.Warning(f"{found.names[index]} was not fitted as {representation}: no neighbours there.")
        return []
    near = [i for i, _ in maps.nearest_points(found, representation, index, NEAR)]
    return [(map_view.point_picture(name, i, 96), _caption(found, i)) for i in near]


def _caption(found: maps.WeightMap, index: int) -> str:
    if found.name == "shapes":
        return found.label_names[int(found.classes[index])]
    return found.names[index].removesuffix(".jpg")


@guarded
def measure(name: str, representation: str, colour: str) -> str:
    """Cluster figures of the map's held-out points, computed now."""
    found = maps.weight_map(name)
    v = maps.cluster_figures(found, representation, colour if name == "faces" else None)
    what = colour if name == "faces" else f"{len(found.label_names)} categories"
    return (
        f"{representation}, {v['count']} held-out instances against {v['training_count']:,} of"
        f" training, {text_of(what)}: k-means ARI **{v['ari']:.3f}**, NMI {v['nmi']:.3f}; 1-NN"
        f" **{v['knn_accuracy']:.1%}**, logistic regression **{v['logistic_accuracy']:.1%}**"
        f" ({v['cross_validated']:.1%} by five folds of the training instances); retrieval mAP"
        f" {v['retrieval_map']:.3f}."
    )


@guarded
def drop(
    path: str | None, name: str, representation: str, kind: str, colour: str
) -> tuple[Any, ...]:
    """A dropped instance on the map, with its nearest points."""
    if path is None:
        return map_view.map_value(name, representation, kind, colour), None, "", []
    found = maps.weight_map(name)
    instance = pipelines.open_instance(Path(path))
    placed = maps.place(found, instance, kind)
    x, y = placed.position
    value = map_view.map_value(
        name, maps.OWN, kind, colour, marks=[{"x": x, "y": y, "label": "yours"}]
    )
    tiles = [
        (map_view.point_picture(name, i, 96), _caption(found, i)) for i, _ in placed.neighbours
    ]
    said = (
        f"**Your instance**, placed by its {maps.PLACED_BY} nearest points."
        f" {placed.percentile:.0f} % of held-out instances lie nearer to their nearest training"
        " instance than it does."
    )
    return value, _picture_of(instance), said, tiles


@guarded
def own_fit(path: str | None, trail: list[tuple[float, float]]) -> tuple[Any, ...]:
    """The face that was fitted last, on the map of faces, with the way it went there."""
    if path is None:
        raise WsdemoError("Nothing fitted yet", "No photo was fitted.", "Fit one in the tab Fit.")
    found = maps.weight_map("faces")
    instance = pipelines.open_instance(Path(path))
    placed = maps.place(found, instance)
    x, y = placed.position
    value = map_view.map_value(
        "faces", maps.OWN, "t-SNE", "Male", marks=[{"x": x, "y": y, "label": "your fit"}],
        path=[list(p) for p in trail],
    )  # fmt: skip
    near = [i for i, _ in placed.neighbours]
    tiles = [(map_view.point_picture("faces", i, 96), _caption(found, i)) for i in near]
    said = f"**Your fit**, and the way it went there in {len(trail)} reports of the fit."
    own = representations("faces")
    return (
        "faces", gr.Dropdown(choices=own, value=own[0]), gr.Dropdown(visible=True), "t-SNE", value,
        None, _picture_of(instance), said, tiles,
    )  # fmt: skip


def table(name: str) -> Any:
    """The twin of the map for those who cannot see it."""
    found = maps.weight_map(name)
    spots = found.positions[maps.OWN]["t-SNE"]
    rows = [
        (i, found.names[i].rsplit("/", 1)[-1], _caption(found, i) if name == "shapes" else "face",
         "held out" if bool(found.is_held_out[i]) else "training",
         round(float(spots[i, 0]), 3), round(float(spots[i, 1]), 3))
        for i in range(len(found))
    ]  # fmt: skip
    return pd.DataFrame(rows, columns=["point", "name", "class", "split", "x", "y"])


# ---- walking -----------------------------------------------------------------------------


@guarded
def walk(name: str, a: int | None, b: int | None) -> tuple[Any, str]:
    """Pictures along the straight path in weight space, and how far each is from both ends."""
    if a is None or b is None or a == b:
        raise WsdemoError(
            "Two points are needed",
            "Choose a point and press 'Walk from here', then another and 'to here'.",
        )
    found = maps.weight_map(name)
    start, end = maps.point_instance(found, a), maps.point_instance(found, b)
    tiles, curve = walk_pictures(start, end)
    return tiles, curve


def walk_pictures(start: Instance, end: Instance) -> tuple[list[Any], str]:
    """(picture, caption) along a walk, and its curve as SVG."""
    shares = [i / (STEPS - 1) for i in range(STEPS)]
    if start.domain == "image":
        weights = torch.stack([pipelines.blend(start, end, s) for s in shares])
        faces = pipelines.render_faces(weights, start.adapter)
        error = [pipelines.mean_psnr(faces, faces[i].expand_as(faces)) for i in (0, -1)]
        values = [float(v) for v in torch.maximum(*[e.clamp(max=60) for e in error])]
        title = "PSNR (dB) to the nearer end along the walk"
        pictures = [Image.fromarray(f.permute(1, 2, 0).numpy()).resize((128, 128)) for f in faces]
    else:
        from wsdemo.shape_fitting import walk_shapes

        steps = list(walk_shapes(start, end, STEPS))
        values = [0.0 if s.mesh is None else min(s.to_first, s.to_second) * 1e3 for s in steps]
        values = [0.0 if math.isnan(v) else v for v in values]
        title = "Chamfer distance x 1000 to the nearer end along the walk"
        blank = Image.new("RGB", (128, 128), "#f1f5f9")
        pictures = [
            blank if s.mesh is None else Image.fromarray(render(s.mesh, 128)) for s in steps
        ]
    tiles = [(p, f"{s:.0%}") for p, s in zip(pictures, shares, strict=True)]
    return tiles, curve_svg(shares, values, title)


@guarded
def walk_side_by_side(name: str, a: int | None, b: int | None) -> tuple[Any, str]:
    """The same walk between two faces by the weights of every representation, a row each."""
    if name != "faces" or a is None or b is None or a == b:
        raise WsdemoError(
            "Two faces are needed",
            "Shapes would take minutes to fit again in every representation."
            if name != "faces"
            else "No walk between two points has been chosen.",
            "Choose a face and press 'Walk from here', then another and 'to here'.",
        )
    pictures = maps.point_faces(maps.weight_map(name), [a, b])
    shares = [i / (STEPS - 1) for i in range(STEPS)]
    tiles, curves = [], ""
    for found in walks.walk_by_representation(pictures, STEPS):
        tiles += [
            (Image.fromarray(face.permute(1, 2, 0).numpy()).resize((128, 128)), caption)
            for face, caption in zip(
                found.pictures,
                [found.representation, *(f"{s:.0%}" for s in shares[1:])],
                strict=True,
            )
        ]
        title = f"{found.representation}: PSNR (dB) to the nearer end"
        curves += f"<div style='width:25%'>{curve_svg(shares, found.psnr, title)}</div>"
    side_by_side = f"<div style='display:flex;flex-wrap:wrap'>{curves}</div>"
    return tiles, side_by_side


@guarded
def variations(name: str, index: int | None, strength: float) -> list[Any]:
    """Instances that the diffusion model draws from a point's weights and some noise."""
    if index is None:
        raise WsdemoError("No point chosen", "There is nothing to vary yet.", "Click a point.")
    found = maps.weight_map(name)
    drawn = found.model.draw(NEAR, seed=1, steps=50, start=found.weights(index), strength=strength)
    tiles = []
    for weights in drawn:
        instance = dataclasses.replace(maps.point_instance(found, index), weights=weights)
        try:
            tiles.append((_picture_of(instance).resize((128, 128)), ""))
        except WsdemoError:  # a shape without a surface
            tiles.append((Image.new("RGB", (128, 128), "#f1f5f9"), "no surface"))
    return tiles


# ---- layout ----------------------------------------------------------------------------------


def build(last: gr.State, trail: gr.State) -> None:
    """Lays out the tab inside the current Blocks.

    Args:
        last, trail: Of the tab Fit: the last fit's file, and its way on the map of faces.
    """
    with gr.Tab("Map"):
        _build_map(last, trail)
    with gr.Tab("Edit a face"):
        edit_tab.build_edit()
    with gr.Tab("Symmetry"):
        edit_tab.build_symmetry()


def _build_map(last: gr.State, trail: gr.State) -> None:
    gr.Markdown(INTRO)
    with gr.Row():
        name = gr.Radio(list(maps.MAPS), value="shapes", label="Set", elem_id="map-set")
        representation = gr.Dropdown(
            representations("shapes"), value=maps.OWN, label="Weights", elem_id="map-weights"
        )
        kind = gr.Radio(["t-SNE", "PCA"], value="t-SNE", label="Flattened by")
        colour = gr.Dropdown(
            list(maps.weight_map("faces").label_names), value="Male", label="Colour", visible=False
        )
        pictures = gr.Checkbox(False, label="Show pictures")
    with gr.Row():
        with gr.Column(scale=3, min_width=420):
            chart = map_view.view(map_view.map_value("shapes", maps.OWN, "t-SNE", None))
        with gr.Column(scale=2, min_width=300):
            shown = gr.Image(
                label="Decoded from its weights", interactive=False, height=SIDE, format="png",
                elem_id="map-point", buttons=[],
            )  # fmt: skip
            said = gr.Markdown("No point chosen yet.", elem_id="map-said")
            near = gr.Gallery(
                label="Nearest by weights", columns=4, height=240, elem_id="map-near",
                object_fit="contain", allow_preview=False,
            )  # fmt: skip
            with gr.Row():
                file = gr.DownloadButton("Download this instance", size="sm")
                use_a = gr.Button("Walk from here", size="sm")
                use_b = gr.Button("to here", size="sm")
    figures = gr.Markdown()
    count = gr.Button("Measure the clusters", elem_id="map-measure")
    gr.Markdown("## Walk through weight space")
    path = gr.Gallery(
        label="Along the straight line between two points", columns=STEPS, height=190,
        elem_id="map-walk", object_fit="contain", allow_preview=False,
    )  # fmt: skip
    barrier = gr.HTML()
    with gr.Accordion("The same walk by the weights of other representations", open=False):
        beside = gr.Button("Fit both faces anew and walk", elem_id="map-beside")
        abreast = gr.Gallery(
            label="One row a representation", columns=STEPS, height=520, elem_id="map-walks",
            object_fit="contain", allow_preview=False,
        )  # fmt: skip
        barriers = gr.HTML()
    gr.Markdown("## Variations of a point")
    with gr.Row():
        strength = gr.Slider(0.1, 1.0, 0.5, step=0.05, label="Share of the noise's times")
        vary = gr.Button("Draw variations", elem_id="map-vary")
    varied = gr.Gallery(
        label="Drawn by the diffusion model from the point's weights and some noise",
        columns=NEAR, height=190, object_fit="contain", allow_preview=False, elem_id="map-varied",
    )  # fmt: skip
    dropped = gr.File(
        label="Your own instance (.safetensors), from Fit or Sample",
        file_types=[".safetensors"], height=120, elem_id="map-drop",
    )  # fmt: skip
    mine = gr.Button("Show my last fitted face on the map", elem_id="map-mine")
    with gr.Accordion("The map as a table", open=False):
        rows = gr.Dataframe(
            table("shapes"), interactive=False, max_height=360, label="Points", elem_id="map-table"
        )
    index, first, second = gr.State(None), gr.State(None), gr.State(None)

    private: dict[str, Any] = {"api_visibility": "private"}
    controls = [name, representation, kind, colour, pictures, index]
    opened = [index, shown, said, file]
    nearby = [name, representation, index]

    @guarded
    def click(own: str, event: gr.EventData) -> tuple[Any, ...]:
        return show_point(own, int(event.index))

    @guarded
    def row(own: str, event: gr.SelectData) -> tuple[Any, ...]:
        return show_point(own, int(event.row_value[0]))

    quiet: dict[str, Any] = {**private, **QUICK, "show_progress": "hidden"}
    for event in (
        chart.select(click, name, opened, **quiet),
        rows.select(row, name, opened, **quiet),
    ):
        event.then(show_near, nearby, near, **quiet)
    for control in (representation, kind, colour, pictures):
        control.input(redraw, controls, chart, **private, **COMPUTE)
    name.input(
        other_set, name, [representation, colour, chart, index, shown, said, near, figures],
        **private, **QUICK,
    ).then(table, name, rows, **private, **QUICK)  # fmt: skip
    count.click(measure, [name, representation, colour], figures, **private, **COMPUTE)
    dropped.change(
        drop, [dropped, name, representation, kind, colour], [chart, shown, said, near],
        api_name="place_instance", **QUICK,
    )  # fmt: skip
    vary.click(variations, [name, index, strength], varied, **private, **COMPUTE)
    mine.click(
        own_fit,
        [last, trail],
        [name, representation, colour, kind, chart, index, shown, said, near],
        **private,
        **QUICK,
    )
    use_a.click(lambda i: i, index, first, **private).then(
        lambda i: f"The walk begins at point {i}." if i is not None else "Choose a point first.",
        first, said, **private,
    )  # fmt: skip
    use_b.click(lambda i: i, index, second, **private).then(
        walk, [name, first, second], [path, barrier], **private, **COMPUTE
    )
    for event in (use_b.click, name.input):  # what stands there belongs to another walk
        event(lambda: ([], ""), None, [abreast, barriers], **private)
    beside.click(
        walk_side_by_side, [name, first, second], [abreast, barriers], **private, **COMPUTE
    )
    name.input(lambda: (None, None), None, [first, second], **private)
