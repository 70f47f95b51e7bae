"""The card of a predictor: what it was trained on, how good it is, and its reliability drawn."""

from pathlib import Path
from typing import Any

from wsdemo.checkpoints import load_checkpoint
from wsdemo.files import write_whole

SIDE, MARGIN = 240, 34


def reliability_svg(curves: dict[str, list[list[float]]]) -> str:
    """Predicted probability (x) against share of true labels (y), a curve a task.

    Args:
        curves: Task → (mean probability, share of true labels, count) of every bin; the area
            of a dot is the share of predictions in its bin.
    """
    colours = ("#4f46e5", "#b45309", "#047857", "#be185d")
    size = SIDE + 2 * MARGIN

    def at(x: float, y: float) -> str:
        return f"{MARGIN + SIDE * x:.1f},{MARGIN + SIDE * (1 - y):.1f}"

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{size}" height="{size + 18 * len(curves)}"'
        ' font-family="sans-serif" font-size="11">',
        f'<rect width="{size}" height="{size + 18 * len(curves)}" fill="white"/>',
        f'<rect x="{MARGIN}" y="{MARGIN}" width="{SIDE}" height="{SIDE}" fill="none"'
        ' stroke="#9ca3af"/>',
        f'<polyline points="{at(0, 0)} {at(1, 1)}" stroke="#9ca3af" stroke-dasharray="4"/>',
        f'<text x="{MARGIN}" y="{MARGIN - 8}">share of true labels</text>',
        f'<text x="{MARGIN + SIDE - 108}" y="{size - 12}">predicted probability</text>',
    ]
    for i, (task, bins) in enumerate(curves.items()):
        colour = colours[i % len(colours)]
        line = " ".join(at(x, y) for x, y, _ in bins)
        parts.append(f'<polyline points="{line}" fill="none" stroke="{colour}"/>')
        total = sum(count for *_, count in bins)
        for x, y, count in bins:
            cx, cy = at(x, y).split(",")
            radius = 2 + 8 * (count / total) ** 0.5
            parts.append(f'<circle cx="{cx}" cy="{cy}" r="{radius:.1f}" fill="{colour}"'
                         ' fill-opacity="0.45"/>')  # fmt: skip
        named = task.replace("&", "&amp;").replace("<", "&lt;")
        parts.append(f'<text x="{MARGIN}" y="{size + 12 + 18 * i}" fill="{colour}">{named}</text>')
    return "\n".join([*parts, "</svg>"]) + "\n"


def reliability_of(meta: dict[str, Any]) -> dict[str, list[list[float]]]:
    """Task → reliability bins, of those tasks that have them."""
    bins_of = {e["task"]["name"]: e["measured"].get("reliability") for e in meta["tasks"]}
    return {task: bins for task, bins in bins_of.items() if bins}


def draw_reliability(path: Path) -> str:
    """Draws ``NAME-reliability.svg`` beside a predictor; returns the card's line, or nothing."""
    curves = reliability_of(load_checkpoint(path)[1])
    if not curves:
        return ""
    picture = path.with_name(f"{path.stem}-reliability.svg")
    write_whole(picture, reliability_svg(curves))
    return (
        f"![Predicted probability against share of true labels]({picture.name})\n\n*Reliability on"
        " the test LoRAs: a dot's area is the share of predictions in its bin.*"
    )


def predictor_card(path: Path) -> str:
    """The card of a predictor, from its own metadata."""
    _, meta = load_checkpoint(path)
    lines = [f"# {meta['name']}", f"{meta['title']}.", meta["card"],
             "Predictions come from the weights alone; the base model is not run."]  # fmt: skip
    for entry in meta["tasks"]:
        shown = {k: v for k, v in entry["measured"].items() if not isinstance(v, dict | list)}
        facts = "\n".join(
            f"- {k.replace('_', ' ')}: {v:.4g}" if isinstance(v, float) else f"- {k}: {v}"
            for k, v in shown.items()
        )
        lines.append(f"**{entry['task']['name']}**, on the test LoRAs:\n\n{facts}")
    drawn = draw_reliability(path)
    return "\n\n".join([*lines, *([drawn] if drawn else [])]) + "\n"
