"""Tab Clusters: the map of weight space, variations, edits along directions, symmetries."""

from pathlib import Path
from typing import Any

import gradio as gr

from wsdemo.domains.domain import Domain
from wsdemo.domains.instances import domain_of, open_instance
from wsdemo.domains.registry import either
from wsdemo.errors import WsdemoError
from wsdemo.maps.edit import edit
from wsdemo.maps.weight_map import WeightMap, editable_maps
from wsdemo.ui.clusters import edit_tab, map_tab, vary_tab
from wsdemo.ui.opening.kept import kept
from wsdemo.ui.shared.hand import Hand, Taker, opened


def build(domain: Domain, last: gr.State, trail: gr.State, hand: Hand) -> None:
    """Lays out the tab inside the current Blocks.

    Args:
        domain: Whose last fit the map can show.
        last, trail: Of its tab Fit: the last fit's file, and its way on the map.
        hand: The thing in hand.
    """
    with gr.Tabs() as tabs:
        hand.tabs["clusters"] = tabs
        with gr.Tab("Map", id="map"):
            map_tab.build(domain, last, trail, hand)
        with gr.Tab("Variations", id="vary"):
            vary_tab.build(hand, kept("variations"))
        slots = {}
        for kind, maps in _by_kind().items():
            with gr.Tab(f"Edit a {maps[0].domain.one}", id=f"edit-{kind}"):
                slots[kind] = edit_tab.build_edit(maps, hand, kept(f"edit-{maps[0].name}"))
        with gr.Tab("Symmetry", id="symmetry"):
            edit_tab.build_symmetry(domain, kept("symmetry"))
    pages = {name: hand.tabs[name] for name in ("page", "clusters")}
    hand.on("edit", Taker(edit_in_hand, [], pages | slots))


def edit_in_hand(path: str, _: Any) -> dict[str, Any]:
    """An instance in the sub-tab that edits its like.

    Raises:
        WsdemoError: No directions are known for it.
    """
    instance = open_instance(Path(path))
    domain = domain_of(instance)
    name, kind = domain.name, domain.kind
    maps = {drawn.name: drawn for drawn in editable_maps()}
    if name not in maps:
        raise WsdemoError(
            "Cannot be edited",
            f"Directions are known for {either(d.domain.many for d in maps.values())} only.",
            "Draw variations of it, or walk to another.",
        )
    edit(maps[name], instance, maps[name].label_names[0], 0.0)  # refuses what has no place there
    return opened(page="clusters", clusters=f"edit-{kind}") | {kind: path}


def _by_kind() -> dict[str, list[WeightMap]]:
    """Maps with directions to move along, those of one kind together."""
    maps: dict[str, list[WeightMap]] = {}
    for drawn in editable_maps():
        maps.setdefault(drawn.domain.kind, []).append(drawn)
    return maps
