"""The page: heading, tabs, foot."""

import gradio as gr

from wsdemo.ui.clusters import clusters_tab
from wsdemo.ui.fields import fit_tab, sample_tab, shape_fit_tab, shape_sample_tab
from wsdemo.ui.lora import lora_tab

HEADING = """# wsdemo: neural-network weights as data
Faces and shapes as the weights of neural fields: draw them, fit them, walk between them.
"""
FOOT = """Trained on 8,000 CelebA faces (non-commercial research terms) and about 1,000 meshes
(academic research only); every picture shown is decoded from weights. Sampled faces are of
nobody; fitted ones are of whom you upload."""


def build_blocks() -> gr.Blocks:
    """Builds the whole app; ``app.py`` launches it."""
    with gr.Blocks(title="wsdemo", analytics_enabled=False, delete_cache=(3600, 86400)) as blocks:
        gr.Markdown(HEADING)
        with gr.Tab("Sample"):
            with gr.Tab("Faces"):
                sample_tab.build()
            with gr.Tab("Shapes"):
                shape_sample_tab.build()
        with gr.Tab("Fit"):
            with gr.Tab("A photo"):
                last, trail = fit_tab.build()
            with gr.Tab("A mesh"):
                shape_fit_tab.build()
        with gr.Tab("Clusters"):
            clusters_tab.build(last, trail)
        with gr.Tab("LoRA evaluator"):
            lora_tab.build()
        gr.Markdown(FOOT)
    return blocks
