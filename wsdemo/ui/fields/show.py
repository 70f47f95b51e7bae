"""What tabs show of instances: pictures, tables of facts, files to download."""

import dataclasses
from typing import Any

from PIL import Image

from wsdemo.domains.domain import Domain, Shown
from wsdemo.domains.instances import domain_of
from wsdemo.fields.instance import Instance
from wsdemo.ui.shared.events import download_file


def blank(size: int) -> Image.Image:
    """The picture of nothing."""
    return Image.new("RGB", (size, size), (245, 245, 245))


def file_bytes(instance: Instance, shown: Shown, name: str) -> Any:
    """What a component shows: a file for the viewer, in the field's own place, or a picture."""
    domain = domain_of(instance)
    if not domain.viewer:
        return picture_of(domain, shown)
    placeless = dataclasses.replace(instance, measured={})
    content = domain.content(shown, domain.viewer, placeless)
    return download_file(content, f"{name}.{domain.viewer}")


def picture_of(domain: Domain, shown: Shown | None) -> Image.Image:
    """A picture at its own size, where it has one; an empty one of nothing."""
    return blank(320) if shown is None else domain.picture(shown, domain.side(shown))


def files_of(instance: Instance, shown: Shown, name: str) -> list[str]:
    """Downloads of what an instance shows, in every format, where its original stood."""
    domain = domain_of(instance)
    endings = [ending.removeprefix(".") for ending in domain.writes]
    return [
        download_file(domain.content(shown, ending, instance), f"{name}.{ending}")
        for ending in endings
    ]


def describe(instance: Instance, size: int, original_size: int | None = None) -> str:
    """The facts of an instance as a table."""
    domain, m, config = domain_of(instance), instance.measured, instance.adapter.config
    beside = f" (the {domain.original}: {original_size:,})" if original_size else ""
    rows = [
        ("Representation", f"{config.representation}, rank {config.rank}"),
        ("Weights", f"{instance.adapter.weight_count:,}"),
        ("File", f"{size:,} bytes{beside}"),
    ]
    rows += [(x.label, x.form.format(m[x.key])) for x in domain.measures if x.key in m]
    if {"seconds", "steps"} <= set(m):
        rows.append(("Time of the fit", f"{m['seconds']:.1f} s, {m['steps']:.0f} steps"))
    return "| What | Value |\n|---|---|\n" + "\n".join(f"| {a} | {b} |" for a, b in rows)


def losses(instance: Instance, shown: Shown) -> str:
    """What files of it lose, as a paragraph."""
    domain = domain_of(instance)
    endings = [ending.removeprefix(".") for ending in domain.writes]
    return "".join(f"\n\n{note}" for note in domain.losses(shown, instance, endings))


def endpoint(domain: Domain, action: str, usual: str) -> dict[str, str]:
    """The name of an endpoint in the page's API, or that it has none."""
    name = domain.endpoints.get(action, usual)
    return {"api_name": name} if name else {"api_visibility": "private"}
