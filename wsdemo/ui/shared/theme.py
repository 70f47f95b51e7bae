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
/* A label stands above the icon of an upload, not on it. */
button[aria-dropeffect] { padding-top: 30px !important; }
.wd-facts table { width: 100%; border-collapse: collapse; border: none !important; }
.wd-facts thead { display: none; }
.wd-facts td { border: none !important; padding: 4px 8px !important; word-break: normal !important;
  border-bottom: 1px solid var(--border-color-primary) !important; }
.wd-actions { gap: 6px !important; }
.wd-actions button, .wd-actions a { flex: 1 1 auto !important; }
/* A strip of views is one view until it is pointed at, then it turns. */
.wd-turning img { object-position: 0 0; }
.wd-turning button:hover img, .wd-turning button:focus-visible img {
  animation: wd-turn 2.4s steps(6, jump-none) infinite; }
@keyframes wd-turn { from { object-position: 0 0; } to { object-position: 100% 0; } }
@media (prefers-reduced-motion: reduce) { .wd-turning img { animation: none !important; } }
.wd-no-webgl .wd-viewer, body:not(.wd-no-webgl) .wd-still { display: none !important; }
.wd-answer table { width: 100%; border-collapse: collapse; }
.wd-answer th, .wd-answer td { padding: 3px 8px; text-align: left; vertical-align: middle;
  border: none !important; border-bottom: 1px solid #e2e8f0 !important; }
.wd-scroll { max-height: 460px; overflow: auto; }
.wd-answer th[scope=row] { font-weight: 400 !important; }
.wd-num { white-space: nowrap; font-variant-numeric: tabular-nums; }
.wd-bar { width: 34%; }
.wd-card { border: 1px solid #c7d2fe; border-radius: 8px; padding: 12px 18px; min-height: 90px; }
.wd-card h2 { margin: 0 0 8px; font-size: 1.25em; overflow-wrap: anywhere; }
.wd-card dl { margin: 0; }
.wd-card dl > div { display: flex; gap: 12px; padding: 2px 0; }
.wd-card dt { flex: 0 0 130px; font-weight: 600; }
.wd-card dd { margin: 0; overflow-wrap: anywhere; }
.wd-network { max-height: 460px; overflow: auto; }
.wd-network table { border-collapse: collapse; font-size: 0.85em; }
.wd-network th { font-weight: 400 !important; text-align: left; padding: 2px 8px;
  white-space: nowrap; }
.wd-network thead th { position: sticky; top: 0; background: var(--block-background-fill); }
.wd-network td { min-width: 52px; text-align: center; padding: 2px 4px; border: 1px solid #e2e8f0;
  font-variant-numeric: tabular-nums; }
.wd-progress { width: 100%; height: 12px; accent-color: #4f46e5; }
.wd-map { display: block; width: 100%; max-width: 720px; margin: 0 auto; }
.wd-map circle { cursor: default; }
.wd-map circle:hover, .wd-map circle:focus { stroke: currentColor; stroke-width: 3; }
.wd-legend { display: flex; flex-wrap: wrap; gap: 4px 18px; list-style: none !important;
  padding: 0 !important; margin: 8px 0 !important; }
.wd-legend li { overflow-wrap: anywhere; }
.wd-legend span { display: inline-block; width: 12px; height: 12px; border-radius: 6px;
  margin-right: 6px; }
.wd-groups li { overflow-wrap: anywhere; }
.wd-curves { display: flex; flex-wrap: wrap; gap: 12px; }
@media (max-width: 700px) {  /* what is drawn comes before what may be chosen */
  .wd-sample > .wd-tiles { display: contents !important; }
  .wd-sample > *, .wd-tiles > * { width: 100% !important; flex: none !important; }
  .wd-sample .wd-controls { order: 2; }
}
@media (max-width: 600px) {
  .grid-container { grid-template-columns: repeat(3, minmax(0, 1fr)) !important; }
  #faces .grid-container, #varied .grid-container {
    grid-template-columns: repeat(2, minmax(0, 1fr)) !important; }
}
"""

# What gradio leaves out for screen readers and keyboards: names of pictures and example buttons,
# focus for tables that scroll, the order of focus where a viewer of shapes changes it. And whether
# that viewer can draw here: where it cannot, CSS shows the picture from all around in its place.
JS = """() => {
  const name = () => {
    document.querySelectorAll(".empty[aria-label]:not([role])").forEach(
      (e) => e.setAttribute("role", "img"));
    document.querySelectorAll("button.gallery-item:not([aria-label])").forEach(
      (b, i) => b.setAttribute("aria-label", `Example ${i + 1}`));
    document.querySelectorAll("button:not([aria-label]):has(> .image-frame)").forEach((b) => {
      const label = b.closest(".block")?.querySelector("[data-testid=block-label]");
      b.setAttribute("aria-label", (label && label.innerText.trim()) || "Picture");
    });
    document.querySelectorAll("button img[alt]:not([alt=''])").forEach((i) => {
      if (i.closest("button").innerText.trim() === i.alt) i.alt = "";  // its caption says it
    });
    document.querySelectorAll("canvas[tabindex='1']").forEach(
      (c) => c.setAttribute("tabindex", "0"));
    document.querySelectorAll(".virtual-table-viewport:not([tabindex])").forEach(
      (t) => t.setAttribute("tabindex", "0"));
  };
  name();
  const canvas = document.createElement("canvas");
  if (!canvas.getContext("webgl2") && !canvas.getContext("webgl"))
    document.body.classList.add("wd-no-webgl");
  new MutationObserver(name).observe(document.body,
    { childList: true, subtree: true, attributes: true, attributeFilter: ["tabindex"] });
}"""
