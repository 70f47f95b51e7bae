"""Controls for a domain's options, components for what it shows, and handlers that take both."""

import inspect
from collections.abc import Callable, Iterator, Sequence
from functools import wraps
from typing import Any

import gradio as gr

from wsdemo.domains.domain import Domain, Option

Values = dict[str, Any]


def control(option: Option) -> Any:
    """The control of an option."""
    if option.bounds is not None:
        low, high, step = option.bounds
        return gr.Slider(low, high, option.first, step=step, label=option.label)
    if isinstance(option.first, bool):
        return gr.Checkbox(option.first, label=option.label)
    if option.choices:
        return gr.Radio(list(option.choices), value=option.first, label=option.label)
    return gr.Number(option.first, label=option.label)


def controls(options: Sequence[Option]) -> dict[str, Any]:
    """The controls of some options, by name."""
    return {option.name: control(option) for option in options}


def shown_component(
    domain: Domain, label: str, height: int, elem_id: str = "rendered", value: Any = None
) -> Any:
    """What shows a decoded instance: a picture, or a mesh to turn around."""
    if domain.viewer:
        return gr.Model3D(
            value, label=label, height=height, clear_color=(0.96, 0.96, 0.96, 1.0),
            interactive=False, elem_classes="wd-viewer",
        )  # fmt: skip
    return gr.Image(
        value, label=label, elem_id=elem_id, format="png", interactive=False, height=height,
        buttons=["download", "fullscreen"],
    )  # fmt: skip


def files_component(domain: Domain, label: str = "", value: Any = None) -> Any:
    """Downloads of what an instance shows, where its picture is not the file itself."""
    return gr.File(
        value, label=label or f"Download the {domain.original}", file_count="multiple",
        interactive=False, visible=bool(domain.viewer),
    )  # fmt: skip


# ---- handlers ------------------------------------------------------------------------


def _signature(names: Sequence[str]) -> inspect.Signature:
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    return inspect.Signature([inspect.Parameter(name, kind) for name in names])


def called(handler: Callable[[Values], Any], names: Sequence[str]) -> Callable[..., Any]:
    """A handler of values by name as one of named parameters, as the page's API lists them."""

    @wraps(handler)
    def call(*values: Any) -> Any:
        return handler(dict(zip(names, values, strict=True)))

    del call.__wrapped__  # type: ignore[attr-defined]
    call.__signature__ = _signature(names)  # type: ignore[attr-defined]
    return call


def streamed(
    handler: Callable[[Values], Iterator[Any]], names: Sequence[str]
) -> Callable[..., Iterator[Any]]:
    """A handler of values by name that yields, as one of named parameters."""

    @wraps(handler)
    def call(*values: Any) -> Iterator[Any]:
        yield from handler(dict(zip(names, values, strict=True)))

    del call.__wrapped__  # type: ignore[attr-defined]
    call.__signature__ = _signature(names)  # type: ignore[attr-defined]
    return call
