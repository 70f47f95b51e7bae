"""Writes docs/api.md: ``python -m wsdemo.ui.api.document > docs/api.md``."""

from typing import Any

from wsdemo.ui.api.page import Page, parameter_words
from wsdemo.ui.api.words import File, return_names, words_of

HEAD = """# The page's functions, from a program

Every function below is the page's own, over HTTP and as a tool of the Model Context Protocol.
This page is written by `python -m wsdemo.ui.api.document > docs/api.md`; a test calls every
example.

```python
from gradio_client import Client, handle_file

client = Client("http://127.0.0.1:7860")  # or "owner/name" of a Space
```

For an assistant, the server is `http://127.0.0.1:7860/gradio_api/mcp/` (of a Space:
`https://OWNER-NAME.hf.space/gradio_api/mcp/`); a file is given as an http address. Without a page,
`python -m wsdemo mcp` serves the LoRA functions over stdin and stdout.

A refusal is an error whose text says what was found, what was expected and what to do.
"""


def example_of(endpoint: str, parameters: list[dict[str, Any]]) -> dict[str, Any]:
    """The arguments of an endpoint's example; files that it needs are named by what they hold."""
    words = words_of(endpoint)
    given = dict(words.example) if words else {}
    for parameter in parameters:
        name = parameter["parameter_name"]
        is_shown_first = name == "path"  # what the page opens on is nobody's own file
        if name not in given and (is_shown_first or not parameter["parameter_has_default"]):
            is_file = parameter["component"] in ("File", "Image")
            given[name] = File(file_name(endpoint)) if is_file else None
    return given


def file_name(endpoint: str) -> str:
    """What an endpoint's file would be called."""
    action, _, of = endpoint.partition("_")
    if action != "fit":
        return f"{of or 'instance'}.safetensors"
    return {"picture": "photo.png", "mesh": "mesh.glb"}.get(of, f"{of}.dat")


def call_text(endpoint: str, given: dict[str, Any]) -> str:
    """An example of a call as Python's gradio_client has it."""

    def text(value: Any) -> str:
        if isinstance(value, File):
            return f'handle_file("{value.name}")'
        if isinstance(value, list):
            return "[" + ", ".join(text(v) for v in value) + "]"
        return f'"{value}"' if isinstance(value, str) else repr(value)

    lines = [f"    {name}={text(value)}," for name, value in given.items()]
    return "\n".join(["client.predict(", *lines, f'    api_name="/{endpoint}",', ")"])


def document(page: Page) -> str:
    """The text of docs/api.md: every public endpoint, what it takes and gives, an example."""
    parts = [HEAD]
    info = page.get_api_info()["named_endpoints"]
    for name in sorted(info):
        endpoint = name.lstrip("/")
        words = words_of(endpoint)
        takes = parameter_words(page, endpoint)
        labels = [r["label"] for r in info[name]["returns"]]
        gives = return_names(endpoint, labels)
        parts.append(f"## {endpoint}\n\n{words.does if words else info[name]['description']}\n")
        rows = [f"| `{n}` | takes | {t} |" for n, t in takes.items()]
        rows += [f"| `{n}` | gives | {t} |" for n, t in gives.items()]
        parts.append("| name | | what |\n|---|---|---|\n" + "\n".join(rows) + "\n")
        call = call_text(endpoint, example_of(endpoint, info[name]["parameters"]))
        parts.append(f"```python\n{call}\n```\n")
    return "\n".join(parts)


if __name__ == "__main__":
    from wsdemo.ui.blocks import build_blocks

    print(document(build_blocks()), end="")
