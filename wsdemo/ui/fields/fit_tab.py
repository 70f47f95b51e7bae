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
from wsdemo.ui.fields import fit_layout, options
from wsdemo.ui.fields.closely import named
from wsdemo.ui.fields.fit_layout import OUTPUTS, is_cropped
from wsdemo.ui.fields.show import (
    describe,
    endpoint,
    file_bytes,
    files_of,
    losses,
    picture_of,
)
from wsdemo.ui.opening.kept import kept
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
from wsdemo.ui.shared.hand import Hand

SIDE = 320
Dropped = str | Sequence[str] | None


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
    return [Path(name) for name in ([path] if isinstance(path, str) else path or [])]


def opened(domain: Domain, path: Dropped, framing: Mapping[str, Any]) -> Original:
    """What a visitor dropped, read."""
    paths = dropped(path)
    if not paths:
        raise WsdemoError(
            f"No {domain.original}", "There is nothing to fit yet.",
            f"Drop or pick a {domain.original}.",
        )  # fmt: skip
    original = paths if len(paths) > 1 else paths[0]
    return domain.open(domain, original, **domain.chosen(domain.page_framing, framing))


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
    size = sum(file.stat().st_size for file in dropped(path))
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


def on_map(domain: Domain, instance: Instance) -> list[tuple[float, float]]:
    """Where weights lie on the domain's map; nothing without a map of their representation."""
    if domain.name not in mapped_names():
        return []
    drawn = weight_map(domain.name)
    if instance.adapter.config != drawn.model.adapter.config:
        return []
    return [place(drawn, instance).position]


# ---- layout --------------------------------------------------------------------------


def build(family: Sequence[Domain], hand: Hand) -> tuple[gr.State, gr.State]:
    """Lays out the tab for domains of one kind; returns the last fit's file and its trail on the
    map."""
    domain = family[0]
    opening = kept(f"fit-{domain.original}")
    parts: dict[str, Any] = {
        "fitted": gr.State(None), "now": gr.State(None), "last": gr.State(opening.get("file")),
        "trail": gr.State(opening.get("trail", [])),
    }  # fmt: skip
    gr.Markdown(domain.intro_fit)
    with gr.Row(equal_height=False):
        with gr.Column(scale=5, min_width=320):
            viewer = fit_layout.results(domain, parts, opening, hand)
        with gr.Column(scale=3, min_width=300):
            inputs, seen, report, changes = fit_layout.inputs(family, opening)
            with gr.Row():
                go = gr.Button("Fit" if is_cropped(domain) else f"Fit the {domain.original}",
                               variant="primary", min_width=120)  # fmt: skip
                stop = gr.Button("Stop", min_width=80)
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
    start = go.click(lambda: None, None, viewer, api_visibility="private")
    run = start.then(
        options.streamed(fit_one, list(inputs)), list(inputs.values()), shown,
        **endpoint(domain, "fit", f"fit_{domain.original}"), **COMPUTE,
    )  # fmt: skip
    others = [part for name, part in parts.items() if name != "status"]
    after = stop_button(stop, run, parts["status"], others).then(
        stopped, parts["now"], shown, api_visibility="private", show_progress="hidden", **QUICK
    )
    if domain.viewer:
        # In a step of its own: a viewer that a stream fills stays empty (seen with gradio 6.31).
        for event in (run.success, after.success):
            event(lambda path: path, parts["fitted"], viewer, api_visibility="private")
    return parts["last"], parts["trail"]
