"""Links into the page, and a link to what is on it.

``?lora=owner/name[@revision][:path]`` opens a LoRA's report, ``?tab=NAME`` a tab, and
``?tab=faces&seed=7`` draws there; every control of the sampler may be named as the endpoint's
parameter is (``count``, ``steps``, ``guidance``, …). The address follows what a visitor does, so
that whoever signs in, reloads or sends it comes back to the same.
"""

import html
import inspect
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import gradio as gr

from wsdemo.errors import WsdemoError
from wsdemo.ui.api.page import public
from wsdemo.ui.shared.events import QUICK

SCRIPT = Path(__file__).with_suffix(".js").read_text(encoding="utf-8")
DRAWING = "sample_"
"""How the endpoints begin that draw from a seed."""
LORA, TAB, SEED = "lora", "tab", "seed"
HOME_OF_LORAS = "lora-evaluator"


def slug(label: str) -> str:
    """A tab's name as addresses write it: ``A mesh`` is ``a-mesh``."""
    return re.sub(r"[^a-z0-9]+", "-", label.lower()).strip("-")


def tabs_of(page: gr.Blocks) -> dict[str, gr.Tab]:
    """The page's tabs by slug; of several with one name the first."""
    known: dict[str, gr.Tab] = {}
    for block in page.blocks.values():
        if isinstance(block, gr.Tab):
            known.setdefault(slug(str(block.label)), block)
    return known


def way_to(tab: gr.Tab) -> dict[gr.Tabs, Any]:
    """What has to be selected for a tab to be on screen: in each row of tabs, whose id."""
    way: dict[gr.Tabs, Any] = {}
    block: Any = tab
    while block is not None:
        if isinstance(block, gr.Tab) and isinstance(block.parent, gr.Tabs):
            way[block.parent] = block.id
        block = block.parent
    return way


def value_for(component: Any, name: str, text: str) -> Any:
    """What a link says of a control, as the control's value.

    Raises:
        WsdemoError: It cannot have that value.
    """
    if isinstance(component, gr.Slider | gr.Number):
        low, high = component.minimum, component.maximum
        try:
            number = float(text)
        except ValueError:
            number = float("nan")
        if not (number >= (low or 0) and (high is None or number <= high)):
            bounds = f"{low or 0:g} or more" if high is None else f"{low or 0:g} to {high:g}"
            raise WsdemoError("Link not understood", f"Found {name}={text[:40]}.",
                              f"Expected {bounds}.")  # fmt: skip
        return int(number) if number.is_integer() else number
    choices = [value for _, value in getattr(component, "choices", None) or ()]
    chosen = [part for part in text.split(",") if part]
    unknown = [part for part in chosen if part not in choices]
    if unknown or not chosen:
        raise WsdemoError(
            "Link not understood", f"Found {name}={text[:40]}.",
            f"Expected some of {', '.join(map(str, choices))[:200]}.",
        )  # fmt: skip
    return chosen if getattr(component, "multiselect", False) else chosen[0]


def asked_values(controls: Mapping[str, Any], query: Mapping[str, str]) -> dict[str, Any]:
    """Values of the controls that a link names.

    Raises:
        WsdemoError: One of them cannot be.
    """
    return {
        name: value_for(component, name, query[name])
        for name, component in controls.items()
        if name in query
    }


def wire(page: gr.Blocks) -> None:
    """Makes a page whose tabs are all there follow links; call it last, inside of the page."""
    page.fill_expected_parents()  # rows of tabs that gradio would only add at the page's end
    tabs = tabs_of(page)
    for name, tab in tabs.items():
        tab.id = tab.id or name  # only a tab with an id can be selected from here
    rows = list(dict.fromkeys(t.parent for t in tabs.values() if isinstance(t.parent, gr.Tabs)))
    drawing = {
        slug(name.removeprefix(DRAWING)): fn
        for name, fn in public(page).items() if name.startswith(DRAWING)
    }  # fmt: skip
    controls = {name: _controls(fn) for name, fn in drawing.items()}
    queries = {name: gr.State(None) for name in drawing}

    def follow(request: gr.Request) -> dict[Any, Any]:
        query = {k: str(v)[:600] for k, v in dict(request.query_params).items()}
        name = HOME_OF_LORAS if LORA in query else slug(query.get(TAB, ""))
        updates: dict[Any, Any] = {}
        try:
            if name and name not in tabs:
                raise WsdemoError(
                    "No such tab", f"The link asks for {name[:60]}.",
                    f"There are {', '.join(tabs)}.",
                )  # fmt: skip
            if name:
                updates |= {row: gr.Tabs(selected=at) for row, at in way_to(tabs[name]).items()}
            if SEED in query:
                which = name if name in drawing else next(iter(drawing))
                values = asked_values(controls[which], query)
                updates |= {controls[which][key]: value for key, value in values.items()}
                updates[queries[which]] = query
        except WsdemoError as error:
            gr.Warning(html.escape(f"{error.title}. {error.message} {error.hint}", quote=False))
        return updates or {rows[0]: gr.skip()}

    outputs = [*rows, *queries.values(), *(c for each in controls.values() for c in each.values())]
    private: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
    # By the queue: only its answers tell the browser which states have changed.
    page.load(follow, None, outputs, **private, **QUICK)
    page.load(None, None, None, js=SCRIPT)
    for name, fn in drawing.items():
        _draw_if(queries[name], queries[name].change, fn, page)


def _draw_if(state: gr.State, event: Callable[..., Any], fn: Any, page: gr.Blocks) -> None:
    """Lets an event do, for a link, what a handler of the page does, and what follows that one."""
    run = event(
        _if_asked(fn.fn, len(fn.outputs)), [state, *fn.inputs], fn.outputs,
        api_visibility="private", show_progress=fn.show_progress,
        concurrency_id=fn.concurrency_id, concurrency_limit=fn.concurrency_limit,
    )  # fmt: skip
    for after in [one for one in page.fns.values() if one.trigger_after == fn._id and one.fn]:
        _draw_if(state, run.success, after, page)


def _if_asked(handler: Callable[..., Any], outputs: int) -> Callable[..., Any]:
    """A handler or stream that answers only for a link: what is on screen stays else."""
    kept = gr.skip() if outputs == 1 else tuple([gr.skip()] * outputs)

    def stream(query: Any, *values: Any) -> Iterator[Any]:
        if query:
            yield from handler(*values)
        else:
            yield kept

    def call(query: Any, *values: Any) -> Any:
        return handler(*values) if query else kept

    return stream if inspect.isgeneratorfunction(handler) else call


def _controls(fn: Any) -> dict[str, Any]:
    """An endpoint's controls by the names of its parameters."""
    names = list(inspect.signature(fn.fn).parameters)
    return {n: c for n, c in zip(names, fn.inputs, strict=False) if not isinstance(c, gr.State)}


def share_button() -> None:
    """Lays out the button that shows the address of what is on the page, to copy."""
    with gr.Row(elem_id="share-row"):
        share = gr.Button("Link to this", size="sm", elem_id="share", scale=0, min_width=140)
        address = gr.Textbox(
            label="Opens the page here", visible=False, interactive=False, buttons=["copy"],
            elem_id="share-address", scale=4,
        )  # fmt: skip
    share.click(
        lambda text: gr.Textbox(text, visible=True), address, address, queue=False,
        js="() => [window.location.href]", api_visibility="private", show_progress="hidden",
    )  # fmt: skip


def remember(run: Any, controls: Mapping[str, Any], tab: str) -> None:
    """Puts what was drawn into the address, once it is.

    Args:
        run: The event of drawing.
        controls: What it was drawn by, by name.
        tab: Slug of the tab.
    """
    names = list(controls)
    script = f"(...values) => {{ window.wsdemoAddress?.({tab!r}, {names!r}, values); return []; }}"
    run.success(None, list(controls.values()), None, js=script, api_visibility="private")
