"""Tab Clusters: the map of weight space, edits along directions, the symmetry exhibit."""

from functools import partial
from pathlib import Path
from typing import Any

import gradio as gr
import pandas as pd

from wsdemo.domains.domain import Domain
from wsdemo.domains.instances import domain_of, open_instance
from wsdemo.domains.registry import mapped_names
from wsdemo.errors import WsdemoError
from wsdemo.maps.clusters import cluster_figures
from wsdemo.maps.place import PLACED_BY, nearest_points, place
from wsdemo.maps.weight_map import OWN, WeightMap, editable_maps, point_instance, weight_map
from wsdemo.ui.clusters import edit_tab, map_view
from wsdemo.ui.clusters.map_walk import (
    NEAR,
    ON_THE_WAY,
    SIDE,
    STEPS,
    VARIED,
    Chosen,
    begin,
    instance_of,
    mix,
    picture_of,
    variations,
    walk,
    walk_side_by_side,
)
from wsdemo.ui.shared.events import COMPUTE, QUICK, download_file, guarded
from wsdemo.ui.shared.text import text_of

INTRO = """Every point is a fitted face or shape; near points have near weights. Points with a dark
rim are held out: no model has seen them. Click one, or use the arrow keys and Enter."""


def representations(name: str) -> list[str]:
    """What a map can show."""
    return list(weight_map(name).coordinates)


def label_text(drawn: WeightMap, index: int) -> str:
    """What is known of a point."""
    row = drawn.labels[index].bool().tolist()
    true = [n.replace("_", " ") for n, v in zip(drawn.label_names, row, strict=True) if v]
    where = "held out" if bool(drawn.is_held_out[index]) else "training"
    return f"**{text_of(drawn.names[index])}** ({where}). {', '.join(true)}."


# ---- the map -------------------------------------------------------------------------

Yours = dict[str, Any] | None
"""A visitor's own instance on the map: its ``path``, ``label``, and the ``trail`` of its fit."""
NOTHING_CHOSEN = "No point chosen yet."


def _value(
    name: str, representation: str, kind: str, colour: str, has_pictures: bool, chosen: Chosen,
    yours: Yours,
) -> dict[str, Any]:  # fmt: skip
    """The map with all that is on it; a new instance has a place among the app's own weights."""
    marks, path = [], []
    if yours is not None and representation == OWN:
        x, y = place(weight_map(name), instance_of(name, yours["path"]), kind).position
        marks = [{"x": x, "y": y, "label": yours["label"]}]
        path = [list(p) for p in yours["trail"]] if kind == "t-SNE" else []
    selected = chosen if isinstance(chosen, int) else -1
    return map_view.map_value(
        name, representation, kind, colour, has_pictures, marks, path, selected
    )


@guarded
def redraw(
    name: str, representation: str, kind: str, colour: str, has_pictures: bool, chosen: Chosen,
    yours: Yours,
) -> dict[str, Any]:  # fmt: skip
    """The map after a control has changed."""
    return _value(name, representation, kind, colour, has_pictures, chosen, yours)


def _controls(name: str) -> tuple[Any, Any]:
    """The dropdowns of weights and colour, for a set."""
    own = representations(name)
    drawn = weight_map(name)
    colours = {} if drawn.domain.labels.are_exclusive else {"choices": list(drawn.label_names)}
    return gr.Dropdown(choices=own, value=OWN), gr.Dropdown(**colours, visible=bool(colours))


@guarded
def other_set(name: str, kind: str, colour: str, has_pictures: bool) -> tuple[Any, ...]:
    """The controls of the other set, its map, and nothing chosen."""
    value = _value(name, OWN, kind, colour, has_pictures, None, None)
    return *_controls(name), value, None, None, None, NOTHING_CHOSEN, [], None


def nothing_walked() -> tuple[Any, ...]:
    """What stands below the map belongs to another set: gone."""
    mixed, varied = gr.Image(None, label=ON_THE_WAY), gr.Gallery([], label=VARIED)
    return "", None, None, "", [], "", mixed, [], "", varied


def show_point(name: str, index: int) -> tuple[Any, ...]:
    """A point decoded, and as a file."""
    drawn = weight_map(name)
    picture = map_view.point_picture(name, index, SIDE)
    path = download_file(b"", f"{name}-point-{index}.safetensors")
    point_instance(drawn, index).save(Path(path))
    return index, picture, label_text(drawn, index), path


@guarded
def show_near(name: str, representation: str, chosen: Chosen) -> list[Any]:
    """The points whose weights are nearest to what is chosen, as pictures."""
    if chosen is None:
        return []
    drawn = weight_map(name)
    if isinstance(chosen, str):
        near = [i for i, _ in place(drawn, instance_of(name, chosen), count=NEAR).neighbours]
    elif not drawn.covered(representation)[chosen]:
        gr.Warning(f"{drawn.names[chosen]} was not fitted as {representation}: no neighbours.")
        return []
    else:
        near = [i for i, _ in nearest_points(drawn, representation, chosen, NEAR)]
    return [(map_view.point_picture(name, i, 96), _caption(drawn, i)) for i in near]


def _caption(drawn: WeightMap, index: int) -> str:
    if drawn.domain.labels.are_exclusive:
        return drawn.label_names[int(drawn.classes[index])]
    return drawn.names[index].removesuffix(".jpg")


@guarded
def other_weights(name: str, representation: str, chosen: Chosen, yours: Yours) -> list[Any]:
    """What else changes with the weights: the neighbours."""
    if yours is not None and representation != OWN:
        gr.Info(f"Your instance has a place among the weights of {OWN} only.")
    return show_near(name, representation, chosen)


@guarded
def measure(name: str, representation: str, colour: str) -> str:
    """Cluster figures of the map's held-out points, computed now."""
    drawn = weight_map(name)
    labels = drawn.domain.labels
    label = None if labels.are_exclusive else map_view.colour_of(drawn, colour)
    v = cluster_figures(drawn, representation, label)
    what = label or f"{len(drawn.label_names)} {labels.many}"
    absent = v["without_held_out"]
    return (
        f"{representation}, {v['count']} held-out instances against {v['training_count']:,} of"
        f" training, {text_of(what)}: k-means ARI **{v['ari']:.3f}**, NMI {v['nmi']:.3f}; 1-NN"
        f" **{v['knn_accuracy']:.1%}**, logistic regression **{v['logistic_accuracy']:.1%}**"
        f" ({v['cross_validated']:.1%} by five folds of the training instances); retrieval mAP"
        f" {v['retrieval_map']:.3f}."
        + (f" No held-out instance of {', '.join(absent)}." if absent else "")
    )


@guarded
def drop(
    path: str | None, name: str, kind: str, colour: str, has_pictures: bool
) -> tuple[Any, ...]:
    """A dropped instance on the map, with its nearest points."""
    if path is None:
        raise WsdemoError("No file", "There is nothing to place yet.", "Drop an instance file.")
    instance = open_instance(Path(path))
    placed = place(weight_map(name), instance, kind)
    yours = {"path": path, "label": "yours", "trail": []}
    value = _value(name, OWN, kind, colour, has_pictures, path, yours)
    words = (
        f"**Your instance**, placed by its {PLACED_BY} nearest points."
        f" {placed.percentile:.0f} % of held-out instances lie nearer to their nearest training"
        " instance than it does."
    )
    near = show_near(name, OWN, path)
    return value, picture_of(instance), words, near, *_controls(name), path, yours, path


@guarded
def undrop(
    name: str, representation: str, kind: str, colour: str, has_pictures: bool, chosen: Chosen
) -> tuple[Any, ...]:
    """The map without the instance that was dropped."""
    kept = None if isinstance(chosen, str) else chosen
    value = _value(name, representation, kind, colour, has_pictures, kept, None)
    if chosen is not None and kept is not None:  # a point is shown: it stays
        return value, *[gr.skip()] * 3, kept, None, gr.skip()
    return value, None, NOTHING_CHOSEN, [], None, None, None


@guarded
def own_fit(
    path: str | None, trail: list[tuple[float, float]], name: str, colour: str, has_pictures: bool
) -> tuple[Any, ...]:
    """What was fitted last, on the map of its domain, with the way it went there."""
    if path is None:
        raise WsdemoError("Nothing fitted yet", "Nothing was fitted.", "Fit in the tab Fit.")
    own = domain_of(open_instance(Path(path))).name
    yours = {"path": path, "label": "your fit", "trail": list(trail)}
    value = _value(own, OWN, "t-SNE", colour, has_pictures, path, yours)
    words = "**Your fit**" + (
        f", and the way it went there in {len(trail)} reports of the fit." if trail else "."
    )
    picture, near = picture_of(instance_of(own, path)), show_near(own, OWN, path)
    below = [gr.skip()] * 10 if name == own else nothing_walked()
    return (
        own, "t-SNE", *_controls(own), value, path, yours, picture, words, near, path,
        *below,
    )  # fmt: skip


def to_fit(domain: Domain, name: str, chosen: Chosen) -> tuple[str, list[Any]]:
    """What is chosen, as the last fit of a domain's tab Fit."""
    if name != domain.name:
        raise WsdemoError(
            f"Not a {domain.one}",
            f"The tab Fit takes over {domain.many} only.",
            "Download the instance instead.",
        )
    path = download_file(instance_of(name, chosen).to_bytes(), "from-the-map.safetensors")
    gr.Info("In the tab Fit, 'Use my fit as From' and 'as To' now take it.")
    return path, []


def table(name: str, representation: str, kind: str, colour: str) -> Any:
    """The twin of the map for those who cannot see it: the points drawn, where, and of what."""
    drawn = weight_map(name)
    spots = drawn.positions[representation][kind]
    labels, colour = drawn.domain.labels, map_view.colour_of(drawn, colour)
    has_each = not labels.are_exclusive
    column = drawn.labels[:, drawn.label_names.index(colour)].tolist() if has_each else []
    rows = [
        (i, drawn.names[i].rsplit("/", 1)[-1],
         ("yes" if column[i] else "no") if has_each else _caption(drawn, i),
         "held out" if bool(drawn.is_held_out[i]) else "training",
         round(float(spots[i, 0]), 3), round(float(spots[i, 1]), 3))
        for i in drawn.covered(representation).nonzero().flatten().tolist()
    ]  # fmt: skip
    what = colour.replace("_", " ") if has_each else labels.one
    return pd.DataFrame(rows, columns=["point", "name", what, "split", "x", "y"])


# ---- layout ----------------------------------------------------------------------------------


def build(domain: Domain, last: gr.State, trail: gr.State) -> None:
    """Lays out the tab inside the current Blocks.

    Args:
        domain: Whose fits are taken over, from and to the tab Fit.
        last, trail: Of that tab: the last fit's file, and its way on the map.
    """
    with gr.Tab("Map"):
        _build_map(domain, last, trail)
    for drawn in editable_maps():
        with gr.Tab(f"Edit a {drawn.domain.one}"):
            edit_tab.build_edit(drawn)
    with gr.Tab("Symmetry"):
        edit_tab.build_symmetry(domain)


def _build_map(domain: Domain, last: gr.State, trail: gr.State) -> None:
    gr.Markdown(INTRO)
    *_, at_first = mapped_names()
    labels = weight_map(at_first).domain.labels
    usual = labels.usual or domain.labels.usual
    colours = list(weight_map(at_first if labels.usual else domain.name).label_names)
    with gr.Row():
        name = gr.Radio(mapped_names(), value=at_first, label="Set", elem_id="map-set")
        representation = gr.Dropdown(
            representations(at_first), value=OWN, label="Weights", elem_id="map-weights"
        )
        kind = gr.Radio(["t-SNE", "PCA"], value="t-SNE", label="Flattened by")
        colour = gr.Dropdown(
            colours, value=usual, label="Colour", visible=not labels.are_exclusive,
            elem_id="map-colour",
        )  # fmt: skip
        pictures = gr.Checkbox(False, label="Show pictures")
    with gr.Row():
        with gr.Column(scale=3, min_width=420):
            chart = map_view.view(map_view.map_value(at_first, OWN, "t-SNE", None))
            dropped = gr.File(
                label="Your own instance (.safetensors), from Fit or Sample",
                file_types=[".safetensors"], height=120, elem_id="map-drop",
            )  # fmt: skip
            mine = gr.Button(f"Show my last fitted {domain.one} on the map", elem_id="map-mine")
        with gr.Column(scale=2, min_width=300):
            shown = gr.Image(
                label="Decoded from its weights", interactive=False, height=SIDE, format="png",
                elem_id="map-point", buttons=[],
            )  # fmt: skip
            words = gr.Markdown(NOTHING_CHOSEN, elem_id="map-said")
            near = gr.Gallery(
                label="Nearest by weights", columns=4, height=240, elem_id="map-near",
                object_fit="contain", allow_preview=False,
            )  # fmt: skip
            with gr.Row():
                file = gr.DownloadButton("Download this instance", size="sm")
                use_a = gr.Button("Walk from here", size="sm")
                use_b = gr.Button("to here", size="sm")
                send = gr.Button("Use as my fit", size="sm", elem_id="map-to-fit")
            begins = gr.Markdown(elem_id="map-begins")
    figures = gr.Markdown(elem_id="map-figures")
    count = gr.Button("Measure the clusters", elem_id="map-measure")
    gr.Markdown("## Walk through weight space")
    path = gr.Gallery(
        label="Along the straight line from one to the other", columns=STEPS, height=190,
        elem_id="map-walk", object_fit="contain", allow_preview=False,
    )  # fmt: skip
    with gr.Row():
        with gr.Column(min_width=300):
            share = gr.Slider(
                0, 1, 0.5, step=0.02, label="Share of the second", elem_id="map-share"
            )
            mixed = gr.Image(
                label=ON_THE_WAY, interactive=False, height=SIDE, format="png",
                elem_id="map-mixed", buttons=[],
            )  # fmt: skip
        with gr.Column(min_width=300):
            barrier = gr.HTML()
    with gr.Accordion("The same walk by the weights of other representations", open=False):
        beside = gr.Button("Fit both anew and walk", elem_id="map-beside")
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
        label=VARIED, columns=NEAR, height=190, object_fit="contain", allow_preview=False,
        elem_id="map-varied",
    )  # fmt: skip
    with gr.Accordion("The map as a table", open=False):
        rows = gr.Dataframe(
            table(at_first, OWN, "t-SNE", usual),
            interactive=False,
            max_height=360,
            label="Points",
            elem_id="map-table",
        )
    chosen, yours = gr.State(None), gr.State(None)
    first, second, seed = gr.State(None), gr.State(None), gr.State(1)

    private: dict[str, Any] = {"api_visibility": "private"}
    quiet: dict[str, Any] = {**private, **QUICK, "show_progress": "hidden"}
    drawn = [name, representation, kind, colour]
    controls = [*drawn, pictures, chosen, yours]
    opened = [representation, colour, chart, chosen, yours, shown, words, near, file]
    below = [figures, first, second, begins, path, barrier, mixed, abreast, barriers, varied]
    ends = [name, first, second]

    @guarded
    def click(own: str, event: gr.EventData) -> tuple[Any, ...]:
        return show_point(own, int(event.index))

    @guarded
    def row(own: str, event: gr.SelectData) -> tuple[Any, ...]:
        return show_point(own, int(event.row_value[0]))

    point = [chosen, shown, words, file]
    clicked = chart.select(click, name, point, **quiet)
    chosen_row = rows.select(row, name, point, **quiet)
    chosen_row.then(redraw, controls, chart, **quiet)
    for event in (clicked, chosen_row):
        event.then(show_near, [name, representation, chosen], near, **quiet)
    for control in (representation, kind, colour, pictures):
        event = control.input(redraw, controls, chart, **private, **COMPUTE)
        if control is not pictures:
            event.then(table, drawn, rows, **quiet)
    representation.input(other_weights, [name, representation, chosen, yours], near, **quiet)
    switched = name.input(
        other_set, [name, kind, colour, pictures], opened, **private, **QUICK
    ).then(nothing_walked, None, below, **quiet)
    placed = dropped.upload(
        drop, [dropped, name, kind, colour, pictures],
        [chart, shown, words, near, representation, colour, chosen, yours, file],
        api_name="place_instance", **QUICK,
    )  # fmt: skip
    dropped.clear(
        undrop, [*drawn, pictures, chosen], [chart, shown, words, near, chosen, yours, file],
        **private, **QUICK,
    )  # fmt: skip
    fitted = mine.click(
        own_fit, [last, trail, name, colour, pictures], [name, kind, *opened, *below],
        **private, **QUICK,
    )  # fmt: skip
    for event in (switched, placed, fitted):
        event.then(table, drawn, rows, **quiet)
    count.click(measure, [*drawn[:2], colour], figures, **private, **COMPUTE)
    send.click(guarded(partial(to_fit, domain)), [name, chosen], [last, trail], **private, **QUICK)
    vary.click(variations, [name, chosen, strength, seed], [varied, seed], **private, **COMPUTE)
    use_a.click(begin, [name, chosen], [first, begins], **private)
    use_b.click(lambda c: (c, [], ""), chosen, [second, abreast, barriers], **private).then(
        walk, ends, [path, barrier, begins], **private, **COMPUTE
    ).then(mix, [*ends, share], mixed, **quiet)
    share.input(mix, [*ends, share], mixed, trigger_mode="always_last", **quiet)
    beside.click(walk_side_by_side, ends, [abreast, barriers], **private, **COMPUTE)
