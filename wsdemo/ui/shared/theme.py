"""Colours and fonts. Nothing is loaded from another host."""

import gradio as gr

FONT = (gr.themes.LocalFont("Source Sans Pro"), "system-ui", "sans-serif")
MONO = (gr.themes.LocalFont("IBM Plex Mono"), "ui-monospace", "monospace")


def theme() -> gr.themes.Base:
    """A quiet theme whose text keeps a contrast of at least 4.5 to 1."""
    return gr.themes.Soft(primary_hue="indigo", neutral_hue="slate", font=FONT, font_mono=MONO).set(
        body_text_color_subdued="*neutral_600",
        body_text_color_subdued_dark="*neutral_300",
        checkbox_label_background_fill_selected="*primary_700",
        checkbox_label_background_fill_selected_dark="*primary_700",
        block_border_width="1px",
        block_border_color="*neutral_200",
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
strong, h1, h2, h3 { font-weight: 600 !important; }
button.primary, button.secondary, [data-testid="block-info"] { font-weight: 600 !important; }
.gradio-container { max-width: 1180px !important; margin: 0 auto !important;
  width: 100% !important; min-width: 0 !important; }
#rendered img, #nearest img, #preview img, #crop img {
  width: 100%; height: 100%; object-fit: contain;
}
.status { min-height: 1.6em; }
.wd-answer table { width: 100%; border-collapse: collapse; }
.wd-answer th, .wd-answer td { padding: 3px 8px; text-align: left; vertical-align: middle;
  border: none !important; border-bottom: 1px solid #e2e8f0 !important; }
.wd-scroll { max-height: 460px; overflow: auto; }
.wd-answer th[scope=row] { font-weight: 400 !important; }
.wd-num { white-space: nowrap; font-variant-numeric: tabular-nums; }
.wd-bar { width: 34%; }
.wd-curves { display: flex; flex-wrap: wrap; gap: 12px; }
@media (max-width: 600px) {
  #faces .grid-container { grid-template-columns: repeat(2, 1fr) !important; }
}
"""

# What gradio leaves out for screen readers and keyboards: names of empty pictures and example
# buttons, and focus for tables that scroll.
JS = """() => {
  const name = () => {
    document.querySelectorAll(".empty[aria-label]:not([role])").forEach(
      (e) => e.setAttribute("role", "img"));
    document.querySelectorAll("button.gallery-item:not([aria-label])").forEach(
      (b, i) => b.setAttribute("aria-label", `Example ${i + 1}`));
    document.querySelectorAll(".virtual-table-viewport:not([tabindex])").forEach(
      (t) => t.setAttribute("tabindex", "0"));
  };
  name();
  new MutationObserver(name).observe(document.body, { childList: true, subtree: true });
}"""
