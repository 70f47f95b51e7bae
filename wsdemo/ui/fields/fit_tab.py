"""Tab Fit: a photo or mesh becomes weights; what they show is compared with it, and offered."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import gradio as gr
import pandas as pd
from PIL import Image

from wsdemo.domains.domain import Domain, Original
from wsdemo.domains.fitting import FitStep, fit_original
from wsdemo.domains.instances import canonical, decode_one
from wsdemo.domains.registry import mapped_names
from wsdemo.errors import WsdemoError
from wsdemo.fields.instance import Instance
from wsdemo.maps.place import place
from wsdemo.maps.weight_map import weight_map
from wsdemo.ui.fields import files_section, options
from wsdemo.ui.fields.photo import Photo, files_input
from wsdemo.ui.fields.sample_tab import named
from wsdemo.ui.fields.show import (
    describe,
    endpoint,
    file_bytes,
    files_of,
    losses,
    picture_of,
)
from wsdemo.ui.shared.events import (
    COMPUTE,
    QUICK,
    READING,
    cache_folder,
    download_file,
    guarded,
    guarded_stream,
    stop_button,
)

EXAMPLES = Path(__file__).parent.parent / "examples"
SIDE = 320
Dropped = str | Sequence[str] | None
OUTPUTS = (
    "preview", "curve", "status", "compare", "facts", "file", "canonical", "off", "files",
    "fitted", "last", "trail", "now",
)  # fmt: skip
"""What a fit streams to, in order."""


@dataclass(frozen=True)
class Fitting:
    """How far a fit has come.

    Attributes:
        domain: Whose.
        step: Its last report.
        original: What is fitted.
        size: Bytes of its file.
        trail: Where the weights have been on the domain's map.
    """

    domain: Domain
    step: FitStep
    original: Original
    size: int
    trail: list[tuple[float, float]]


def outputs(**values: Any) -> tuple[Any, ...]:
    """Values of OUTPUTS; what is not given stays."""
    return tuple(values.get(name, gr.skip()) for name in OUTPUTS)


def dropped(path: Dropped) -> list[Path]:
    """What a visitor dropped: nothing, a file, or several that belong together."""
    return [Path(one) for one in ([path] if isinstance(path, str) else path or [])]


def opened(domain: Domain, path: Dropped, framing: Mapping[str, Any]) -> Original:
    """What a visitor dropped, read."""
    paths = dropped(path)
    if not paths:
        raise WsdemoError(
            f"No {domain.original}", "There is nothing to fit yet.",
            f"Drop or pick a {domain.original}.",
        )  # fmt: skip
    given = paths if len(paths) > 1 else paths[0]
    return domain.open(domain, given, **domain.chosen(domain.page_framing, framing))


def look(domain: Domain, path: Dropped, framing: Mapping[str, Any]) -> tuple[Any, str]:
    """What the field will see of the dropped original, and how it was read."""
    if not dropped(path):
        return None, ""
    original = opened(domain, path, framing)
    return picture_of(domain, domain.look(original)), "  \n".join(original.notes)


def fit(domain: Domain, values: Mapping[str, Any]) -> Iterator[tuple[Any, ...]]:
    """Streams preview, curve, status and how far it is; ends with what ``finished`` shows.

    What is on screen of an earlier fit goes first, so that nothing of it is taken for this one's.

    Args:
        domain: Whose.
        values: path, preset, and the domain's options by name.
    """
    nothing: dict[str, Any] = dict.fromkeys(OUTPUTS)
    yield outputs(**nothing | {"status": f"Reading the {domain.original}.", "facts": "",
                               "trail": []})  # fmt: skip
    try:
        yield from _fit(domain, values)
    except WsdemoError as error:
        yield outputs(status=f"Not fitted: {error.title}.")
        raise


def _fit(domain: Domain, values: Mapping[str, Any]) -> Iterator[tuple[Any, ...]]:
    preset, path = values["preset"], values["path"]
    if preset not in domain.presets:
        raise WsdemoError(
            "Unknown preset", f"Found {preset[:40]!r}.", f"Choose {' or '.join(domain.presets)}."
        )
    framing = {option.name: values.get(option.name) for option in domain.page_framing}
    detail = {option.name: values[option.name] for option in domain.detail if option.is_of_fits}
    original = opened(domain, path, framing)
    size = sum(one.stat().st_size for one in dropped(path))
    chosen = replace(domain.presets[preset], detail=detail)
    curve: list[tuple[float, float]] = []
    trail: list[tuple[float, float]] = []
    table = None
    for step in fit_original(domain, original, chosen, cache_folder()):
        now = Fitting(domain, step, original, size, trail)
        if step.is_last:
            yield finished(now, table)
            return
        curve.append((step.seconds, step.psnr))
        trail = trail + on_map(domain, step.instance)
        table = pd.DataFrame(curve, columns=["seconds", "PSNR (dB)"])
        text = f"{step.psnr:.2f} dB after {step.step} steps, {step.seconds_left:.0f} s left."
        if step.is_measuring:
            text = f"{step.psnr:.2f} dB after {step.step} steps. Measuring."
        yield outputs(
            preview=picture_of(domain, step.shown),
            curve=table,
            status=text,
            now=replace(now, trail=trail),
        )


def finished(now: Fitting, curve: Any) -> tuple[Any, ...]:
    """All that the tab shows of a fit that is over or stopped."""
    domain, step, instance = now.domain, now.step, now.step.instance
    shown = decode_one(instance) if step.shown is None else step.shown
    content = instance.to_bytes()
    file = download_file(content, "fit.safetensors")
    text = f"Stopped after {step.step} steps: {step.psnr:.2f} dB."
    if step.is_last:
        text = f"Done: {domain.headline(instance.measured)}, in {step.seconds:.0f} s in all."
    off = None
    if domain.overlay is not None and step.reference is not None:
        off = domain.overlay[0](shown, step.reference, SIDE)
    return outputs(
        preview=picture_of(domain, shown),
        curve=curve,
        status=" ".join([text, *now.original.notes, *step.notes]),
        compare=tuple(large(picture_of(domain, x)) for x in (domain.look(now.original), shown)),
        off=off,
        facts=describe(instance, len(content), now.size) + losses(instance, shown),
        file=file,
        canonical=download_file(canonical(instance).to_bytes(), "fit-canonical.safetensors"),
        files=files_of(instance, shown, "fit") if domain.viewer else None,
        fitted=file_bytes(instance, shown, "fit") if domain.viewer else None,
        last=file,
        trail=now.trail,
        now=None,
    )


def stopped(now: Fitting | None) -> tuple[Any, ...]:
    """What Stop leaves: the weights so far; nothing new if none were there yet."""
    return outputs() if now is None else finished(now, gr.skip())


def large(picture: Image.Image) -> Image.Image:
    """A small picture enlarged by whole pixels, so that none is smoothed."""
    times = max(1, 256 // picture.width)
    return picture.resize((picture.width * times, picture.height * times), Image.Resampling.NEAREST)


def is_cropped(domain: Domain) -> bool:
    """Whether originals are pictures, framed by sliders; else files, that may come several."""
    return any(option.bounds is not None for option in domain.page_framing)


def on_map(domain: Domain, instance: Instance) -> list[tuple[float, float]]:
    """Where weights lie on the domain's map; nothing without a map of their representation."""
    if domain.name not in mapped_names():
        return []
    found = weight_map(domain.name)
    if instance.adapter.config != found.model.adapter.config:
        return []
    return [place(found, instance).position]


# ---- layout --------------------------------------------------------------------------


def build(family: Sequence[Domain]) -> tuple[gr.State, gr.State]:
    """Lays out the tab for domains of one kind; returns the last fit's file and its trail on the
    map."""
    domain = family[0]
    parts: dict[str, Any] = {}
    gr.Markdown(domain.intro_fit)
    with gr.Row():
        with gr.Column(scale=2, min_width=300):
            inputs, seen, report, changes = _inputs(family)
            with gr.Row():
                go = gr.Button("Fit" if is_cropped(domain) else f"Fit the {domain.original}",
                               variant="primary")  # fmt: skip
                stop = gr.Button("Stop")
        with gr.Column(scale=3, min_width=400):
            viewer = _results(domain, parts)
    for name in ("fitted", "last", "now"):
        parts[name] = gr.State(None)
    parts["trail"] = gr.State([])
    shown = [parts[name] for name in OUTPUTS]

    @guarded
    def look_at(values: dict[str, Any]) -> tuple[Any, str]:
        return look(named(family, values.get("base")), values.pop("path"), values)

    @guarded_stream
    def fit_one(values: dict[str, Any]) -> Iterator[tuple[Any, ...]]:
        yield from fit(named(family, values.get("base")), values)

    framed = ["path", *[option.name for option in domain.page_framing]]
    for event in changes:
        event(
            options.called(look_at, framed), [inputs[name] for name in framed], [seen, report],
            api_visibility="private", show_progress="hidden",
            **(READING if domain.viewer else QUICK),  # a mesh may take long to read
        )  # fmt: skip
    start = go.click(
        lambda: gr.Model3D(None, visible=False) if domain.viewer else gr.skip(), None, viewer,
        api_visibility="private",
    )  # fmt: skip
    run = start.then(
        options.streamed(fit_one, list(inputs)), list(inputs.values()), shown,
        **endpoint(domain, "fit", f"fit_{domain.original}"), **COMPUTE,
    )  # fmt: skip
    others = [part for name, part in parts.items() if name != "status"]
    after = stop_button(stop, run, parts["status"], others).then(
        stopped, parts["now"], shown, api_visibility="private", show_progress="hidden", **QUICK
    )
    if domain.viewer:
        # Shown first and filled in a step of its own: a viewer that a stream fills, or that
        # appears together with its mesh, stays empty (seen with gradio 6.31).
        for event in (run.success, after.success):
            event(lambda: gr.Model3D(visible=True), None, viewer, api_visibility="private").then(
                lambda path: path, parts["fitted"], viewer, api_visibility="private"
            )
    files_section.build(family, parts["last"])
    return parts["last"], parts["trail"]


def _inputs(family: Sequence[Domain]) -> tuple[dict[str, Any], Any, Any, list[Any]]:
    """What is chosen before a fit, by name, in the order of the endpoint's parameters; where the
    field's view of it is shown; and the events that change that view."""
    domain = family[0]
    if is_cropped(domain):
        path: Any = Photo(
            elem_id=domain.original, type="filepath", label=domain.original.capitalize(),
            sources=["upload", "webcam", "clipboard"], height=260,
        )  # fmt: skip
    else:
        kinds = ", ".join(ending.removeprefix(".").upper() for ending in domain.reads)
        path = files_input(
            label=f"{domain.original.capitalize()} ({kinds}), with the files that belong to it",
            height=120, elem_id=domain.original,
        )  # fmt: skip
    shipped = sorted(p for p in EXAMPLES.iterdir() if p.suffix in domain.reads)
    examples = None
    if shipped:
        offered = [[str(p)] if is_cropped(domain) else [[str(p)]] for p in shipped]
        examples = gr.Examples(offered, path, label="Or one of these")
    seen = gr.Image(
        label="What the field will see", interactive=False, height=240, format="png",
        elem_id="crop", buttons=[],
    )  # fmt: skip
    report = gr.Markdown()
    inputs = {"path": path}
    framing = options.controls(domain.page_framing) if is_cropped(domain) else {}
    inputs |= framing
    if is_cropped(domain):
        # Not photo.change: one photo in another's place changes twice, and errs twice if it is bad.
        changes = [path.input]
        if examples is not None:
            changes.append(examples.load_input_event.then)
    else:
        cleared = path.change(lambda: (None, ""), None, [seen, report], api_visibility="private")
        changes = [cleared.then]
    if len(family) > 1:
        titles = [d.title for d in family]
        inputs["base"] = gr.Radio(titles, value=titles[0], label="Base field")
    presets = list(domain.presets)
    inputs["preset"] = gr.Radio(presets, value=presets[0], label="Preset")
    inputs |= options.controls([option for option in domain.detail if option.is_of_fits])
    if not is_cropped(domain):  # last, as programs name the parameters before it in order
        framing = options.controls(domain.page_framing)
        inputs |= framing
    changes += [component.change for component in framing.values()]
    return inputs, seen, report, changes


def _results(domain: Domain, parts: dict[str, Any]) -> Any:
    """Lays out what a fit shows, adds its parts by name, and returns the viewer."""
    with gr.Row():
        parts["preview"] = gr.Image(
            label="What the weights show", interactive=False, height=280, format="png",
            elem_id="surface" if domain.viewer else "preview", buttons=[],
        )  # fmt: skip
        parts["curve"] = gr.LinePlot(  # a label would take its height from the axis below
            x="seconds", y="PSNR (dB)", title="PSNR while fitting", height=280,
            label="PSNR while fitting", show_label=False,
            elem_id="psnr" if not domain.viewer else None,
        )  # fmt: skip
    parts["status"] = gr.Markdown("Nothing fitted yet.", elem_classes="status")
    with gr.Row():
        viewer = options.shown_component(domain, label="Fitted", height=320)
        viewer.visible = False
        parts["compare"] = gr.ImageSlider(
            label=f"{domain.original.capitalize()} · fitted", interactive=False, format="png",
            height=300,
        )  # fmt: skip
        parts["off"] = gr.Image(
            label=domain.overlay[1] if domain.overlay else "", interactive=False, height=280,
            format="png", buttons=["download"], visible=domain.overlay is not None,
        )  # fmt: skip
        with gr.Column(min_width=240):
            parts["facts"] = gr.Markdown()
    with gr.Row():
        parts["file"] = gr.DownloadButton("Download the weights")
        parts["canonical"] = gr.DownloadButton("Download canonical factors")
    parts["files"] = options.files_component(domain, f"Download the fitted {domain.original}")
    return viewer
