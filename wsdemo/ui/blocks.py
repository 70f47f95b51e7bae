"""The page: heading, tabs, foot."""

from pathlib import Path
from typing import Any

import gradio as gr

from wsdemo.domains.instances import open_instance
from wsdemo.domains.registry import families
from wsdemo.ui import links
from wsdemo.ui.api.page import Page, name_handlers
from wsdemo.ui.clusters import clusters_tab
from wsdemo.ui.fields import files_section, fit_tab, sample_tab
from wsdemo.ui.lora import lora_tab
from wsdemo.ui.opening.kept import FOLDER
from wsdemo.ui.shared.hand import Hand, Taker, opened

HEADING = """# wsdemo: neural-network weights as data
Faces and shapes as the weights of neural fields: draw them, fit them, walk between them.
"""
FOOT = """Trained on 8,000 CelebA faces (non-commercial research terms) and about 1,000 meshes
(academic research only); every picture shown is decoded from weights. Sampled faces are of
nobody; fitted ones are of whom you upload."""


def build_blocks() -> gr.Blocks:
    """Builds the whole app; ``app.py`` launches it."""
    hand = Hand()
    gr.set_static_paths([FOLDER])  # served from where they lie: no copy that anybody may empty
    with Page(title="wsdemo", analytics_enabled=False, delete_cache=(3600, 86400)) as blocks:
        gr.Markdown(HEADING)
        links.share_button()
        with gr.Tabs() as page:
            hand.tabs["page"] = page
            with gr.Tab("Sample", id="sample"), gr.Tabs() as samples:
                hand.tabs["sample"] = samples
                for family in families():
                    with gr.Tab(family[0].many.capitalize(), id=family[0].many):
                        sample_tab.build(family, hand)
            with gr.Tab("Fit", id="fit"):
                last, trail = _build_fit(hand)
            with gr.Tab("Clusters", id="clusters"):
                clusters_tab.build(families()[0][0], last, trail, hand)
            with gr.Tab("LoRA evaluator", id="lora"):
                lora_tab.build(hand)
        gr.Markdown(FOOT)
        hand.wire()
        name_handlers(blocks)
        links.wire(blocks)
    return blocks


def _build_fit(hand: Hand) -> tuple[gr.State, gr.State]:
    """Lays out the tab Fit: originals to fit, instances to open. Returns the last fit of the first
    kind and its trail on the map."""
    slots: dict[str, gr.File] = {}
    with gr.Tabs() as tabs:
        hand.tabs["fit"] = tabs
        fits = []
        for family in families():
            with gr.Tab(f"A {family[0].original}", id=family[0].original):
                fits.append(fit_tab.build(family, hand))
        for family, (last, _) in zip(families(), fits, strict=True):
            with gr.Tab(f"Open {family[0].many}", id=f"open-{family[0].kind}"):
                slots[family[0].kind] = files_section.build(family, last, hand)

    def take(path: str, _: Any) -> dict[str, Any]:
        kind = open_instance(Path(path)).domain
        return {**opened(page="fit", fit=f"open-{kind}"), kind: path}

    outputs = {"page": hand.tabs["page"], "fit": tabs, **slots}
    hand.on("large", Taker(take, [], outputs))
    return fits[0]
