"""Colours and fonts. Nothing is loaded from another host."""

import gradio as gr

FONT = (gr.themes.LocalFont("Source Sans Pro"), "system-ui", "sans-serif")
MONO = (gr.themes.LocalFont("IBM Plex Mono"), "ui-monospace", "monospace")


def theme() -> gr.themes.Base:
    """A quiet theme whose text keeps a contrast of at least 4.5 to 1."""
    return gr.themes.Soft(primary_hue="indigo", neutral_hue="slate", font=FONT, font_mono=MONO).set(
        button_primary_background_fill="*primary_700",
        button_primary_background_fill_hover="*primary_800",
        button_primary_text_color="white",
        button_primary_background_fill_dark="*primary_700",
        block_title_text_color="*neutral_900",
        block_title_text_color_dark="*neutral_50",
        block_label_text_color="*neutral_900",
        block_label_text_color_dark="*neutral_50",
        block_info_text_color="*neutral_700",
        block_info_text_color_dark="*neutral_200",
    )


CSS = """
.gradio-container { max-width: 1180px !important; margin: 0 auto !important; }
#faces img, #rendered img, #nearest img, #preview img { image-rendering: auto; }
.status { min-height: 1.6em; }
footer { color: var(--neutral-700); }
"""
