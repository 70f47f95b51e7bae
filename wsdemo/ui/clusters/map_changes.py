"""What changes on the map: another set, other weights, an instance that comes or goes."""

from pathlib import Path
from typing import Any

import gradio as gr

from wsdemo.domains.instances import check_ends, domain_of, open_instance
from wsdemo.errors import WsdemoError
from wsdemo.maps.clusters import cluster_figures
from wsdemo.maps.place import PLACED_BY, place
from wsdemo.maps.weight_map import OWN, editable_maps, point_instance, weight_map
from wsdemo.ui.clusters import map_view
from wsdemo.ui.clusters.map_walk import ON_THE_WAY, Chosen, instance_of, picture_of
from wsdemo.ui.clusters.points import representations, show_near
from wsdemo.ui.shared.events import guarded
from wsdemo.ui.shared.hand import words_of
from wsdemo.ui.shared.text import text_of

Yours = dict[str, Any] | None
"""A visitor's own instance on the map: its ``path``, ``label``, and the ``trail`` of its fit."""
NOTHING_CHOSEN = "No point chosen yet."


def value_of(
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
    return value_of(name, representation, kind, colour, has_pictures, chosen, yours)


def controls_of(name: str) -> tuple[Any, Any]:
    """The dropdowns of weights and colour, for a set."""
    drawn = weight_map(name)
    colours = {} if drawn.domain.labels.are_exclusive else {"choices": list(drawn.label_names)}
    return (
        gr.Dropdown(choices=representations(name), value=OWN),
        gr.Dropdown(**colours, visible=bool(colours)),
    )


def edit_button(name: str) -> Any:
    """The action Edit, for sets whose directions are known."""
    return gr.Button(visible=name in {drawn.name for drawn in editable_maps()})


@guarded
def other_set(name: str, kind: str, colour: str, has_pictures: bool) -> tuple[Any, ...]:
    """The controls of the other set, its map, and nothing chosen."""
    value = value_of(name, OWN, kind, colour, has_pictures, None, None)
    return *controls_of(name), value, None, None, None, NOTHING_CHOSEN, [], None


def nothing_walked() -> tuple[Any, ...]:
    """What stands below the map belongs to another set: gone."""
    mixed, to_here = gr.Image(None, label=ON_THE_WAY), gr.Button(visible=False)
    return "", None, None, "", to_here, [], "", mixed, None, [], ""


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


# ---- an instance that comes from elsewhere -------------------------------------------------


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
    value = value_of(name, OWN, kind, colour, has_pictures, path, yours)
    words = f"**Your instance**, {placed_words(placed.percentile)}"
    near = show_near(name, OWN, path)
    return value, picture_of(instance), words, near, *controls_of(name), path, yours, path


def placed_words(percentile: float) -> str:
    """How a new instance was placed, and how far out it lies."""
    return (
        f"placed by its {PLACED_BY} nearest points. {percentile:.0f} % of held-out instances lie"
        " nearer to their nearest training instance than it does."
    )


@guarded
def undrop(
    name: str, representation: str, kind: str, colour: str, has_pictures: bool, chosen: Chosen
) -> tuple[Any, ...]:
    """The map without the instance that was dropped."""
    kept = None if isinstance(chosen, str) else chosen
    value = value_of(name, representation, kind, colour, has_pictures, kept, None)
    if chosen is not None and kept is not None:  # a point is shown: it stays
        return value, *[gr.skip()] * 3, kept, None, gr.skip()
    return value, None, NOTHING_CHOSEN, [], None, None, None


def placed_in(
    path: str, trail: list[tuple[float, float]], name: str, colour: str, has_pictures: bool,
    label: str = "",
) -> dict[str, Any]:  # fmt: skip
    """An instance on the map of its domain, with the way that its fit went there, by the names of
    the components; what is below the map goes if it belongs to another set.

    Raises:
        WsdemoError: Its domain has no map, or it has no place there.
    """
    instance = open_instance(Path(path))
    own_set = domain_of(instance).name
    placed = place(weight_map(own_set), instance)
    label = label or words_of(path)
    yours = {"path": path, "label": label, "trail": list(trail)}
    words = f"**{text_of(label[:1].upper() + label[1:])}**, {placed_words(placed.percentile)}"
    if trail:
        words += f" The line is the way it went there in {len(trail)} reports of the fit."
    weights, colours = controls_of(own_set)
    return {
        "name": own_set, "kind": "t-SNE", "representation": weights, "colour": colours,
        "chart": value_of(own_set, OWN, "t-SNE", colour, has_pictures, path, yours),
        "chosen": path, "yours": yours, "shown": picture_of(instance), "words": words,
        "near": show_near(own_set, OWN, path), "file": path, "edit": edit_button(own_set),
        **({} if own_set == name else dict(zip(BELOW, nothing_walked(), strict=True))),
    }  # fmt: skip


BELOW = (
    "figures", "first", "second", "begins", "to_here", "path", "barrier", "mixed", "mixed_file",
    "abreast", "barriers",
)  # fmt: skip
"""What stands below the map, in the order of ``nothing_walked``."""


def walk_begins_in(path: str, name: str, colour: str, has_pictures: bool) -> dict[str, Any]:
    """An instance as the beginning of a walk, on the map of its domain, where the end is chosen.

    Raises:
        WsdemoError: It has no place on a map, or does not mix with the map's points.
    """
    onto = placed_in(path, [], name, colour, has_pictures)
    check_ends(open_instance(Path(path)), point_instance(weight_map(onto["name"]), 0))
    words = text_of(words_of(path))
    return onto | {
        "first": path,
        "begins": f"The walk begins at **{words}**. Choose where it ends, then press Walk to here.",
        "to_here": gr.Button(visible=True),
    }
