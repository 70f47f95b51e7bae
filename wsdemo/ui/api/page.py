"""A page whose endpoints have words: for /info and its clients, and as tools of MCP."""

import inspect
from collections.abc import Callable, Iterator
from typing import Any

import gradio as gr

from wsdemo.ui.api.words import TAKES, return_names, words_of


class Page(gr.Blocks):
    """Blocks whose description for programs names and explains every output."""

    def get_api_info(self, all_endpoints: bool = False, page: str | None = None) -> Any:
        """What /info answers: gradio's own, with outputs named as ``words`` has them."""
        info = super().get_api_info(all_endpoints, page)
        for name, endpoint in info["named_endpoints"].items():
            takes = parameter_words(self, name.lstrip("/"))
            for parameter in endpoint["parameters"]:
                description = takes.get(parameter["parameter_name"], "")
                parameter["python_type"]["description"] = description
            labels = [str(output["label"]) for output in endpoint["returns"]]
            names = return_names(name.lstrip("/"), labels)
            for output, (word, meaning) in zip(endpoint["returns"], names.items(), strict=True):
                output["label"] = word
                output["python_type"]["description"] = meaning
        return info


def public(page: gr.Blocks) -> dict[str, Any]:
    """Handlers that other programs may call, by endpoint."""
    return {
        str(fn.api_name): fn
        for fn in page.fns.values()
        if fn.fn is not None and fn.api_visibility == "public" and fn.api_name
    }


def parameter_words(page: gr.Blocks, endpoint: str) -> dict[str, str]:
    """Parameter → what it is, with unit and range, of the endpoint's inputs that are not states."""
    fn = public(page).get(endpoint)
    if fn is None:
        return {}
    names = list(inspect.signature(fn.fn).parameters)
    words = words_of(endpoint)
    takes = words.takes if words else {}
    descriptions = {}
    for name, component in zip(names, fn.inputs, strict=False):
        if not component.skip_api:
            text = takes.get(name) or TAKES.get(name) or str(getattr(component, "label", name))
            descriptions[name] = text + _range(component)
    return descriptions


def _range(component: Any) -> str:
    if isinstance(component, gr.Slider):
        return f"; {component.minimum:g} to {component.maximum:g}"
    choices = getattr(component, "choices", None) or ()
    if 0 < len(choices) <= 12:
        return "; one of " + ", ".join(repr(value) for _, value in choices)
    return ""


def docstring(page: gr.Blocks, endpoint: str) -> str:
    """An endpoint in words, as gradio reads it for MCP."""
    words = words_of(endpoint)
    fn = public(page)[endpoint]
    does = words.does if words else (inspect.getdoc(fn.fn) or endpoint).partition("\n")[0]
    lines = [does, "", "Args:"]
    lines += [f"    {name}: {text}" for name, text in parameter_words(page, endpoint).items()]
    outputs = [c for c in fn.outputs if not c.skip_api]
    labels = [str(getattr(c, "label", "") or "value") for c in outputs]
    lines += ["Returns:"]
    lines += [f"    {name}: {text}" for name, text in return_names(endpoint, labels).items()]
    return "\n".join(lines)


def name_handlers(page: gr.Blocks) -> None:
    """Gives every public handler its endpoint's name and words: a tool of MCP is called so."""
    for endpoint, fn in public(page).items():
        fn.fn = _described(fn.fn, endpoint, docstring(page, endpoint))


def _described(handler: Callable[..., Any], name: str, words: str) -> Callable[..., Any]:
    if inspect.isgeneratorfunction(handler):

        def call(*args: Any, **kwargs: Any) -> Iterator[Any]:
            yield from handler(*args, **kwargs)

    else:

        def call(*args: Any, **kwargs: Any) -> Any:
            return handler(*args, **kwargs)

    call.__name__ = call.__qualname__ = name
    call.__doc__ = words
    call.__module__ = getattr(handler, "__module__", __name__)
    call.__annotations__ = dict(getattr(handler, "__annotations__", {}))
    call.__signature__ = inspect.signature(handler)  # type: ignore[attr-defined]
    call.__wrapped__ = handler  # type: ignore[attr-defined]
    return call
