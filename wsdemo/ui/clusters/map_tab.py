"""Sub-tab Map: the points of a set, one of them large, and the walk between two."""

from collections.abc import Mapping
from functools import partial
from typing import Any

import gradio as gr

from wsdemo.domains.domain import Domain
from wsdemo.domains.registry import mapped_names, set_title
from wsdemo.errors import WsdemoError
from wsdemo.maps.weight_map import OWN, editable_maps, weight_map
from wsdemo.ui.clusters import map_changes, map_view
from wsdemo.ui.clusters.map_changes import BELOW
from wsdemo.ui.clusters.map_walk import ON_THE_WAY, SIDE, STEPS, mix, walk, walk_side_by_side
from wsdemo.ui.clusters.points import near_points, representations, show_near, show_point, table
from wsdemo.ui.opening.kept import kept
from wsdemo.ui.shared.events import COMPUTE, QUICK, guarded
from wsdemo.ui.shared.hand import Hand, Taker, opened

INTRO = """Every point is a fitted face or shape; near points have near weights. Points with a dark
rim are held out: no model has seen them. Click one, or use the arrow keys and Enter."""
Parts = dict[str, Any]
QUIET: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden", **QUICK}
PRIVATE: dict[str, Any] = {"api_visibility": "private"}
HERE = partial(opened, page="clusters", clusters="map")


def build(domain: Domain, last: gr.State, trail: gr.State, hand: Hand) -> None:
    """Lays out the sub-tab; see clusters_tab.build."""
    at_first = mapped_names()[0]
    opening = kept("map")
    gr.Markdown(INTRO)
    parts: Parts = {}
    with gr.Row(equal_height=False):
        with gr.Column(scale=3, min_width=320):
            chosen = opening.get("chosen")
            parts["chart"] = map_view.view(
                map_view.map_value(at_first, OWN, "t-SNE", None, selected=-1 if chosen is None
                                   else chosen)
            )  # fmt: skip
            _controls(parts, at_first, domain)
        with gr.Column(scale=2, min_width=320):
            _point(parts, opening, hand, at_first)
    _walk(parts, opening, hand, at_first)
    _bring(parts, domain)
    _table(parts)
    parts |= {
        "chosen": gr.State(chosen), "yours": gr.State(None),
        "first": gr.State(opening.get("first")), "second": gr.State(opening.get("second")),
    }  # fmt: skip
    _wire_points(parts)
    _wire_controls(parts)
    _wire_walk(parts)
    _wire_instances(parts, last, trail, hand)


# ---- layout --------------------------------------------------------------------------------


def _controls(parts: Parts, at_first: str, domain: Domain) -> None:
    """What is drawn, and how."""
    labels = weight_map(at_first).domain.labels
    usual = labels.usual or domain.labels.usual
    colours = list(weight_map(at_first if labels.usual else domain.name).label_names)
    with gr.Row():
        parts["name"] = gr.Radio(
            [(set_title(name), name) for name in mapped_names()], value=at_first, label="Set",
            elem_id="map-set", min_width=150,
        )  # fmt: skip
        parts["representation"] = gr.Dropdown(
            representations(at_first), value=OWN, label="Weights", elem_id="map-weights",
            min_width=160,
        )  # fmt: skip
        parts["kind"] = gr.Radio(
            ["t-SNE", "PCA"], value="t-SNE", label="Flattened by", min_width=150
        )
        parts["colour"] = gr.Dropdown(
            colours, value=usual, label="Colour", visible=not labels.are_exclusive,
            elem_id="map-colour", min_width=160,
        )  # fmt: skip
    parts["pictures"] = gr.Checkbox(False, label="Show pictures on the map")


def _point(parts: Parts, opening: Mapping[str, Any], hand: Hand, at_first: str) -> None:
    """The chosen point, what can be done with it, its neighbours."""
    parts["shown"] = gr.Image(
        opening.get("shown"), label="Decoded from its weights", interactive=False, height=SIDE,
        format="png", elem_id="map-point", buttons=[],
    )  # fmt: skip
    parts["words"] = gr.Markdown(
        opening.get("words", map_changes.NOTHING_CHOSEN), elem_id="map-said"
    )
    parts["file"] = hand.row(value=opening.get("file"))
    parts["edit"] = hand.button("edit")
    parts["edit"].visible = at_first in {drawn.name for drawn in editable_maps()}
    parts["begins"] = gr.Markdown(elem_id="map-begins")
    parts["to_here"] = gr.Button(
        "Walk to here", size="sm", variant="primary", visible=False, elem_id="map-to-here"
    )
    gr.Markdown("Nearest by weights; select one to go there:")
    parts["near"] = gr.Gallery(
        opening.get("near"), label="Nearest by weights", show_label=False, columns=4,
        height=230, elem_id="map-near", object_fit="contain", allow_preview=False, buttons=[],
    )  # fmt: skip


def _walk(parts: Parts, opening: Mapping[str, Any], hand: Hand, at_first: str) -> None:
    """The walk, a place on it, and what is measured on the way."""
    gr.Markdown("## Walk through weight space\nAlong the straight line from one to the other:")
    parts["path"] = gr.Gallery(
        opening.get("path"), label="The walk", show_label=False, columns=STEPS,
        height=160, elem_id="map-walk", object_fit="contain", allow_preview=False, buttons=[],
    )  # fmt: skip
    with gr.Row(equal_height=False):
        with gr.Column(min_width=300):
            parts["mixed"] = gr.Image(
                opening.get("mixed"), label=ON_THE_WAY, interactive=False, height=SIDE,
                format="png", elem_id="map-mixed", buttons=[],
            )  # fmt: skip
        with gr.Column(min_width=300):
            parts["share"] = gr.Slider(
                0, 1, 0.5, step=0.02, label="Share of the second", elem_id="map-share"
            )
            parts["mixed_file"] = hand.row(without=("walk",), value=opening.get("mixed_file"))
            parts["barrier"] = gr.HTML(opening.get("barrier"))
    with gr.Accordion("The same walk by the weights of other representations", open=False):
        parts["beside"] = gr.Button("Fit both anew and walk", elem_id="map-beside")
        parts["abreast"] = gr.Gallery(
            label="One row a representation", columns=STEPS, height=520, elem_id="map-walks",
            object_fit="contain", allow_preview=False, buttons=[],
        )  # fmt: skip
        parts["barriers"] = gr.HTML()


def _bring(parts: Parts, domain: Domain) -> None:
    """Where a visitor's own instance comes in."""
    with gr.Accordion("Your own instance on the map", open=False):
        parts["mine"] = gr.Button(
            f"Show my last fitted {domain.one} on the map", elem_id="map-mine"
        )
        parts["dropped"] = gr.File(
            label="An instance (.safetensors), from Fit or Sample", file_types=[".safetensors"],
            height=170, elem_id="map-drop",
        )  # fmt: skip


def _table(parts: Parts) -> None:
    """How well the points fall into groups, and the points as rows.

    There are rows only while one looks at them, and not all at once: many make every event of the
    page slow.
    """
    with gr.Accordion("How well the groups come apart", open=False):
        parts["count"] = gr.Button("Measure the clusters", elem_id="map-measure")
        parts["figures"] = gr.Markdown(elem_id="map-figures")
    parts["is_open"] = gr.State(False)
    with gr.Accordion("The map as a table", open=False) as parts["as_table"]:
        parts["containing"] = gr.Textbox(
            label="Only points in whose name, label or split this is", max_length=100,
            elem_id="map-containing",
        )  # fmt: skip
        parts["rows"] = gr.Dataframe(
            interactive=False, max_height=360, label="Points", elem_id="map-table"
        )


# ---- events --------------------------------------------------------------------------------


def _of(parts: Parts, *names: str) -> list[Any]:
    return [parts[name] for name in names]


DRAWN = ("name", "representation", "kind", "colour")
LISTED = (*DRAWN, "is_open", "containing")
SHOWN = (*DRAWN, "pictures", "chosen", "yours")
"""What the map is drawn from."""


def _wire_points(parts: Parts) -> None:
    """A point is chosen: on the map, in the table, among the neighbours."""

    @guarded
    def click(name: str, event: gr.EventData) -> tuple[Any, ...]:
        return show_point(name, int(event.index))

    @guarded
    def row(name: str, event: gr.SelectData) -> tuple[Any, ...]:
        return show_point(name, int(event.row_value[0]))

    @guarded
    def next_to(
        name: str, representation: str, chosen: Any, event: gr.SelectData
    ) -> tuple[Any, ...]:
        near = near_points(name, representation, chosen)
        if event.index >= len(near):
            raise WsdemoError("No such point", "The neighbours have changed.", "Choose again.")
        return show_point(name, near[event.index])

    point = _of(parts, "chosen", "shown", "words", "file")
    clicked = parts["chart"].select(click, parts["name"], point, **QUIET)
    for event in (
        parts["rows"].select(row, parts["name"], point, **QUIET),
        parts["near"].select(next_to, _of(parts, "name", "representation", "chosen"), point,
                             **QUIET),
    ):  # fmt: skip
        redrawn = event.then(map_changes.redraw, _of(parts, *SHOWN), parts["chart"], **QUIET)
        redrawn.then(
            show_near, _of(parts, "name", "representation", "chosen"), parts["near"], **QUIET
        )
    clicked.then(show_near, _of(parts, "name", "representation", "chosen"), parts["near"], **QUIET)


def _wire_controls(parts: Parts) -> None:
    """Another set, other weights, another look; figures on demand."""
    for name in ("representation", "kind", "colour", "pictures"):
        event = parts[name].input(
            map_changes.redraw, _of(parts, *SHOWN), parts["chart"], **PRIVATE, **COMPUTE
        )
        if name != "pictures":
            event.then(table, _of(parts, *LISTED), parts["rows"], **QUIET)
    parts["representation"].input(
        map_changes.other_weights, _of(parts, "name", "representation", "chosen", "yours"),
        parts["near"], **QUIET,
    )  # fmt: skip
    reset = _of(parts, "representation", "colour", "chart", "chosen", "yours", "shown", "words",
                 "near", "file")  # fmt: skip
    switched = parts["name"].input(
        map_changes.other_set, _of(parts, "name", "kind", "colour", "pictures"), reset, **PRIVATE,
        **QUICK,
    )  # fmt: skip
    switched.then(map_changes.nothing_walked, None, _of(parts, *BELOW), **QUIET).then(
        map_changes.edit_button, parts["name"], parts["edit"], **QUIET
    ).then(table, _of(parts, *LISTED), parts["rows"], **QUIET)
    for event, is_open in ((parts["as_table"].expand, True), (parts["as_table"].collapse, False)):
        event(partial(bool, is_open), None, parts["is_open"], **QUIET).then(
            table, _of(parts, *LISTED), parts["rows"], **QUIET
        )
    parts["containing"].input(
        table, _of(parts, *LISTED), parts["rows"], trigger_mode="always_last", **QUIET
    )
    parts["count"].click(
        map_changes.measure, _of(parts, "name", "representation", "colour"), parts["figures"],
        **PRIVATE, **COMPUTE,
    )  # fmt: skip


def _wire_walk(parts: Parts) -> None:
    """The walk, once both its ends are chosen."""
    ends, placed = _of(parts, "name", "first", "second"), _of(parts, "mixed", "mixed_file")
    parts["to_here"].click(
        lambda chosen: (chosen, [], ""), parts["chosen"], _of(parts, "second", "abreast",
        "barriers"), **PRIVATE,
    ).then(
        walk, ends, _of(parts, "path", "barrier", "begins"), **PRIVATE, **COMPUTE
    ).then(mix, [*ends, parts["share"]], placed, **QUIET)  # fmt: skip
    parts["share"].input(mix, [*ends, parts["share"]], placed, trigger_mode="always_last", **QUIET)
    parts["beside"].click(
        walk_side_by_side, ends, _of(parts, "abreast", "barriers"), **PRIVATE, **COMPUTE
    )


def _wire_instances(parts: Parts, last: gr.State, trail: gr.State, hand: Hand) -> None:
    """Instances from elsewhere: dropped, fitted, in hand."""
    dropped, shown = parts["dropped"], _of(parts, "name", "colour", "pictures")
    arrived = dropped.upload(
        map_changes.drop, [dropped, *_of(parts, "name", "kind", "colour", "pictures")],
        _of(parts, "chart", "shown", "words", "near", "representation", "colour", "chosen",
            "yours", "file"),
        api_name="place_instance", **QUICK,
    )  # fmt: skip
    arrived.then(table, _of(parts, *LISTED), parts["rows"], **QUIET)
    dropped.clear(
        map_changes.undrop, _of(parts, *DRAWN, "pictures", "chosen"),
        _of(parts, "chart", "shown", "words", "near", "chosen", "yours", "file"),
        **PRIVATE, **QUICK,
    )  # fmt: skip
    names = (*DRAWN, "chart", "chosen", "yours", "shown", "words", "near", "file", "edit", *BELOW)
    outputs = {name: parts[name] for name in names}

    @guarded
    def own_fit(
        path: str | None, way: list[tuple[float, float]], name: str, colour: str, pictures: bool
    ) -> list[Any]:
        if path is None:
            raise WsdemoError("Nothing fitted yet", "Nothing was fitted.", "Fit in the tab Fit.")
        onto = map_changes.placed_in(path, way, name, colour, pictures, "your fit")
        return [onto.get(key, gr.skip()) for key in outputs]

    parts["mine"].click(
        own_fit, [last, trail, *shown], list(outputs.values()), **PRIVATE, **QUICK
    ).then(table, _of(parts, *LISTED), parts["rows"], **QUIET)
    pages = {key: hand.tabs[key] for key in ("page", "clusters")}
    rows = (table, _of(parts, *LISTED), [parts["rows"]], QUICK)
    hand.on("place", Taker(
        lambda path, way, *values: HERE() | map_changes.placed_in(path, way, *values),
        shown, pages | outputs, rows,
    ))  # fmt: skip
    hand.on("walk", Taker(
        lambda path, _, *values: HERE() | map_changes.walk_begins_in(path, *values),
        shown, pages | outputs, rows,
    ))  # fmt: skip
