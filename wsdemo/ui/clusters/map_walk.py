"""Instances that a visitor chose on the map, and the walk between two of them."""

from pathlib import Path
from typing import Any

import gradio as gr
from PIL import Image

from wsdemo.domains.instances import (
    between,
    check_ends,
    decode_one,
    domain_of,
    open_instance,
    preview,
)
from wsdemo.errors import WsdemoError
from wsdemo.fields.instance import Instance
from wsdemo.maps.walk import shares_of, walk_by_representation
from wsdemo.maps.walk import walk as walk_steps
from wsdemo.maps.weight_map import point_instance, weight_map
from wsdemo.ui.shared.curve import curve_svg
from wsdemo.ui.shared.events import download_file, guarded
from wsdemo.ui.shared.hand import words_of
from wsdemo.ui.shared.text import text_of

SIDE = 320
NEAR = 8
"""Neighbours and variations that are shown at once."""
ON_THE_WAY = "On the way"
STEPS = 9
"""Pictures along a walk."""
NOTHING = "nothing to show"
BLANK = Image.new("RGB", (128, 128), "#f1f5f9")

Chosen = int | str | None
"""What a visitor has chosen: a point of the map, the file of an instance of their own, nothing."""


def instance_of(name: str, chosen: Chosen) -> Instance:
    """What is chosen, as an instance.

    Raises:
        WsdemoError: Nothing is, or its file is no longer kept.
    """
    if chosen is None:
        raise WsdemoError("No point chosen", "There is nothing to start from yet.", "Click one.")
    if isinstance(chosen, int):
        return point_instance(weight_map(name), chosen)
    if not Path(chosen).is_file():
        raise WsdemoError("File gone", "Your instance is no longer kept here.", "Drop it again.")
    return open_instance(Path(chosen))


def picture_of(instance: Instance, size: int = SIDE) -> Image.Image:
    """What an instance shows, as a picture.

    Raises:
        WsdemoError: It shows nothing.
    """
    domain = domain_of(instance)
    return domain.picture(decode_one(instance, **domain.quick), size)


# ---- walking -----------------------------------------------------------------------------


def _words_of(name: str, chosen: Chosen) -> str:
    if not isinstance(chosen, int):
        return text_of(words_of(str(chosen)))
    return text_of(weight_map(name).names[chosen])


def _ends(name: str, a: Chosen, b: Chosen) -> tuple[Instance, Instance]:
    """Both ends of a walk."""
    if a is None or b is None or a == b:
        raise WsdemoError(
            "Two points are needed",
            "Both ends are the same." if a is not None and a == b else "An end is missing.",
            "Choose a point and press 'Walk to …', then another and 'Walk to here'.",
        )
    start, end = instance_of(name, a), instance_of(name, b)
    check_ends(start, end)
    return start, end


@guarded
def walk(name: str, a: Chosen, b: Chosen) -> tuple[Any, str, str]:
    """Pictures along the straight path in weight space, and how far each is from both ends."""
    tiles, curve = walk_pictures(*_ends(name, a, b))
    words = f"The walk goes from **{_words_of(name, a)}** to **{_words_of(name, b)}**, below."
    return tiles, curve, words


@guarded
def mix(name: str, a: Chosen, b: Chosen, share: float) -> tuple[Any, str | None]:
    """One place of a walk, decoded, and its file; nothing while there is no walk."""
    if a is None or b is None or a == b:
        return None, None
    start, end = _ends(name, a, b)
    mixed = between(start, end, share)
    shown, label = preview(mixed), f"At {share:.0%} of the way"
    file = download_file(mixed.to_bytes(), f"{domain_of(start).one}-at-{share:.0%}.safetensors")
    if shown is None:
        return gr.Image(BLANK, label=f"{label}: {NOTHING}"), file
    return gr.Image(domain_of(start).picture(shown, SIDE), label=label), file


def walk_pictures(start: Instance, end: Instance) -> tuple[list[Any], str]:
    """(picture, caption) along a walk, and its curve as SVG."""
    domain = domain_of(start)
    walking, tiles, known, empty = domain.walking, [], [], []
    for step in walk_steps(start, end, STEPS):
        if step.shown is None:
            tiles.append((BLANK, f"{step.share:.0%}, {NOTHING}"))
            empty.append(f"{step.share:.0%}")
        else:
            tiles.append((domain.picture(step.shown, 128), f"{step.share:.0%}"))
            known.append((step.share, walking.nearness(step.measured)))
    title = f"{walking.title} to the nearer end along the walk"
    curve = curve_svg([s for s, _ in known], [v for _, v in known], title)
    gap = f"<p>{NOTHING.capitalize()} at {', '.join(empty)}.</p>" if empty else ""
    return tiles, curve + gap


@guarded
def walk_side_by_side(name: str, a: Chosen, b: Chosen) -> tuple[Any, str]:
    """The same walk by the weights of every representation, a row each."""
    domain = weight_map(name).domain
    if not domain.walking.ranks or a is None or b is None or a == b:
        raise WsdemoError(
            "Two points are needed",
            "No walk between two points has been chosen."
            if domain.walking.ranks
            else f"{domain.many.capitalize()} would take minutes to fit again in every"
            " representation.",
            f"Choose a {domain.one} and press 'Walk to …', then another and 'Walk to here'.",
        )
    shown = [decode_one(end) for end in _ends(name, a, b)]
    shares = shares_of(STEPS)
    tiles, curves = [], ""
    for row in walk_by_representation(domain, shown, STEPS):
        captions = [row.representation, *(f"{s:.0%}" for s in shares[1:])]
        tiles += [
            (domain.picture(signal, 128), caption)
            for signal, caption in zip(row.shown, captions, strict=True)
        ]
        title = f"{row.representation}: {domain.walking.title} to the nearer end"
        curves += f"<div style='width:25%'>{curve_svg(shares, row.nearness, title)}</div>"
    side_by_side = f"<div style='display:flex;flex-wrap:wrap'>{curves}</div>"
    return tiles, side_by_side
