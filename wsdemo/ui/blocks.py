"""The page: heading, tabs, foot."""

import gradio as gr

from wsdemo.domains.registry import families
from wsdemo.ui import links
from wsdemo.ui.api.page import Page, name_handlers
from wsdemo.ui.clusters import clusters_tab
from wsdemo.ui.fields import fit_tab, sample_tab
from wsdemo.ui.lora import lora_tab

HEADING = """# wsdemo: neural-network weights as data
Faces and shapes as the weights of neural fields: draw them, fit them, walk between them.
"""
FOOT = """Trained on 8,000 CelebA faces (non-commercial research terms) and about 1,000 meshes
(academic research only); every picture shown is decoded from weights. Sampled faces are of
nobody; fitted ones are of whom you upload."""


def build_blocks() -> gr.Blocks:
    """Builds the whole app; ``app.py`` launches it."""
    with Page(title="wsdemo", analytics_enabled=False, delete_cache=(3600, 86400)) as blocks:
        gr.Markdown(HEADING)
        links.share_button()
        with gr.Tab("Sample"):
            for family in families():
                with gr.Tab(family[0].many.capitalize()):
                    sample_tab.build(family)
        fits = []
        with gr.Tab("Fit"):
            for family in families():
                with gr.Tab(f"A {family[0].original}"):
                    fits.append((family[0], *fit_tab.build(family)))
        with gr.Tab("Clusters"):
            clusters_tab.build(*fits[0])
        with gr.Tab("LoRA evaluator"):
            lora_tab.build()
        gr.Markdown(FOOT)
        name_handlers(blocks)
        links.wire(blocks)
    return blocks
