"""How the tab Fit is laid out: what a fit shows, and what is chosen before it."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import gradio as gr

from wsdemo.domains.domain import Domain
from wsdemo.maps.weight_map import editable_maps
from wsdemo.ui.fields import options
from wsdemo.ui.fields.closely import named
from wsdemo.ui.fields.photo import Photo, files_input
from wsdemo.ui.shared.hand import Hand

EXAMPLES = Path(__file__).parent.parent / "examples"
OUTPUTS = (
    "preview", "curve", "status", "compare", "facts", "file", "canonical", "off", "files",
    "fitted", "last", "trail", "now",
)  # fmt: skip
"""What a fit streams to, in order."""


def is_cropped(domain: Domain) -> bool:
    """Whether originals are pictures, framed by sliders; else files, that may come several."""
    return any(option.bounds is not None for option in domain.page_framing)


def inputs(
    family: Sequence[Domain], opening: Mapping[str, Any]
) -> tuple[dict[str, Any], Any, Any, list[Any]]:
    """What is chosen before a fit, by name, in the order of the endpoint's parameters; where the
    field's view of it is shown; and the events that change that view."""
    domain = family[0]
    path, examples = _original(domain, str(EXAMPLES / opening["example"]) if opening else None)
    with gr.Row(visible=bool(opening)) as framing:  # once there is something to frame
        seen = gr.Image(
            opening.get("seen"), label="Seen by the field", interactive=False, height=190,
            format="png", elem_id="crop", buttons=[], min_width=150, scale=2,
        )  # fmt: skip
        with gr.Column(min_width=180, scale=3):
            framed = options.controls(domain.page_framing)
            report = gr.Markdown(opening.get("report", ""))
    path.change(
        lambda chosen: gr.Row(visible=bool(chosen)), path, framing,
        api_visibility="private", show_progress="hidden", queue=False,
    )  # fmt: skip
    taken: dict[str, Any] = {"path": path}
    if is_cropped(domain):
        taken |= framed
        # Not photo.change: one photo in another's place changes twice, and errs twice if it is bad.
        changes = [path.input]
        if examples is not None:
            changes.append(examples.load_input_event.then)
    else:
        before = gr.State([])
        quiet: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
        events = [
            path.upload(partial(latest, domain), [before, path], [before, path], **quiet),
            gr.on([path.clear, path.delete], lambda paths: paths or [], path, before, **quiet),
        ]
        if examples is not None:
            chosen = examples.load_input_event
            events.append(chosen.then(lambda paths: paths or [], path, before, **quiet))
        changes = [event.then(lambda: (None, ""), None, [seen, report], **quiet).then
                   for event in events]  # fmt: skip
    if len(family) > 1:
        titles = [d.title for d in family]
        taken["base"] = gr.Radio(titles, value=titles[0], label="Base field")
    presets = list(domain.presets)
    taken["preset"] = gr.Radio(presets, value=presets[0], label="Preset")
    if "base" in taken and any(list(d.presets) != presets for d in family):
        taken["base"].input(
            lambda title, preset: _offered(named(family, title), preset),
            [taken["base"], taken["preset"]], taken["preset"],
            api_visibility="private", show_progress="hidden", queue=False,
        )  # fmt: skip
    taken |= options.controls([option for option in domain.detail if option.is_of_fits])
    taken |= framed  # of a mesh last, as programs name the parameters before it in order
    if "base" in taken and is_cropped(domain):  # likewise, of a photo
        taken["base"] = taken.pop("base")
    changes += [component.change for component in framed.values()]
    return taken, seen, report, changes


def latest(
    domain: Domain, before: Sequence[str], now: Sequence[str]
) -> tuple[list[str], list[str]]:
    """What counts of the files that lie in an upload area, twice: to remember, and to show.

    Files that are dropped join those that lie there, as a scene's buffers must; but an original in
    another's place stands for itself.
    """
    added = now[len(before) :]

    def holds(paths: Sequence[str]) -> bool:
        return any(Path(path).suffix.lower() in (*domain.reads, ".zip") for path in paths)

    kept = added if holds(before) and holds(added) else list(now)
    return kept, kept


def _offered(domain: Domain, preset: str) -> Any:
    """The choice of a base's presets; the chosen one stays if it is among them."""
    presets = list(domain.presets)
    return gr.Radio(presets, value=preset if preset in presets else presets[0])


def _original(domain: Domain, example: str | None) -> tuple[Any, Any]:
    """Where an original is dropped, with one that ships in it; and the choice of such."""
    if is_cropped(domain):
        path: Any = Photo(
            example, elem_id=domain.original, type="filepath", label=f"Your {domain.original}",
            sources=["upload", "webcam", "clipboard"], height=230,
        )  # fmt: skip
    else:
        kinds = ", ".join(ending.removeprefix(".").upper() for ending in domain.reads)
        gr.Markdown(f"A {domain.original} ({kinds}), with the files that belong to it.")
        # Empty, though a fit is shown: what is dropped would join the file of an example.
        path = files_input(label=f"Your {domain.original}", height=170, elem_id=domain.original)
    shipped = sorted(p for p in EXAMPLES.iterdir() if p.suffix in domain.reads)
    if not shipped:
        return path, None
    offered = [[str(p)] if is_cropped(domain) else [[str(p)]] for p in shipped]
    return path, gr.Examples(offered, path, label="Or one of these")


def results(domain: Domain, parts: dict[str, Any], opening: Mapping[str, Any], hand: Hand) -> Any:
    """Lays out what a fit shows, adds its parts by name, and returns the viewer."""
    viewer = options.shown_component(
        domain, label="Fitted: turn it", height=360, value=opening.get("fitted")
    )
    viewer.visible = bool(domain.viewer)
    with gr.Row():
        parts["compare"] = gr.ImageSlider(
            _pair(opening), label=f"{domain.original.capitalize()} · fitted", interactive=False,
            format="png", height=220 if domain.viewer else 340, min_width=200,
        )  # fmt: skip
        parts["preview"] = gr.Image(
            opening.get("preview"), label="What the weights show", interactive=False,
            height=220 if domain.viewer else 340, format="png", min_width=180,
            elem_id="surface" if domain.viewer else "preview", buttons=[],
        )  # fmt: skip
        parts["off"] = gr.Image(
            opening.get("off"), label=domain.overlay[1] if domain.overlay else "",
            interactive=False, height=220, format="png", buttons=["download"], min_width=180,
            visible=domain.overlay is not None,
        )  # fmt: skip
    parts["status"] = gr.Markdown(
        opening.get("status", "Nothing fitted yet."), elem_classes="status"
    )
    can_edit = domain.kind in {m.domain.kind for m in editable_maps()}
    parts["file"] = hand.row(
        without=() if can_edit else ("edit",), trail=parts["trail"], value=opening.get("file"),
        label="Download the weights",
    )  # fmt: skip
    with gr.Row():
        with gr.Column(min_width=240):
            parts["facts"] = gr.Markdown(opening.get("facts", ""), elem_classes="wd-facts")
            parts["canonical"] = gr.DownloadButton(
                "Download canonical factors", value=opening.get("canonical"), size="sm"
            )
        parts["curve"] = gr.LinePlot(  # a label would take its height from the axis below
            opening.get("curve"), x="seconds", y="PSNR (dB)", title="PSNR while fitting",
            height=280, label="PSNR while fitting", show_label=False,
            elem_id="psnr" if not domain.viewer else None,
        )  # fmt: skip
    parts["files"] = options.files_component(
        domain, f"Download the fitted {domain.original}", opening.get("files")
    )
    return viewer


def _pair(opening: Mapping[str, Any]) -> tuple[Any, ...] | None:
    return tuple(opening["compare"]) if opening else None
