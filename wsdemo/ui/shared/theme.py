"""Colours and fonts. Nothing is loaded from another host."""

from pathlib import Path

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


CSS = Path(__file__).with_suffix(".css").read_text(encoding="utf-8")

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
    document.querySelectorAll(".virtual-table-viewport:not([tabindex])").forEach((t) => {
      t.setAttribute("tabindex", "0");
      const grid = t.closest("[role=grid]");  // what has focus is it, not what is around it
      if (!grid) return;
      for (const { name, value } of [...grid.attributes]) {
        if (name !== "role" && !name.startsWith("aria-")) continue;
        t.setAttribute(name, value);
        grid.removeAttribute(name);
      }
    });
  };
  let isDue = false;
  const soon = () => {  // once a frame: a page that is built changes a thousand times
    if (isDue) return;
    isDue = true;
    requestAnimationFrame(() => { isDue = false; name(); });
  };
  name();
  const canvas = document.createElement("canvas");
  if (!canvas.getContext("webgl2") && !canvas.getContext("webgl"))
    document.body.classList.add("wd-no-webgl");
  new MutationObserver(soon).observe(document.body,
    { childList: true, subtree: true, attributes: true, attributeFilter: ["tabindex"] });
}"""
