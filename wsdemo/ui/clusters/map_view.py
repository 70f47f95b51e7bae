"""The clickable map: our own canvas in gr.HTML, with hover, click, zoom and keyboard."""

import base64
import io
import json
from functools import cache
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
import torch
from PIL import Image

from wsdemo.domains.instances import preview
from wsdemo.maps.weight_map import WeightMap, check_representation, point_instance, weight_map

PALETTE = (
    "#4e79a7", "#f28e2b", "#e15759", "#2a9d8f", "#59a14f", "#b6992d", "#b07aa1", "#d37295",
    "#9c755f", "#6b7280",
)  # fmt: skip

TEMPLATE = """
<div class="wm">
  <div class="wm-legend"></div>
  <canvas class="wm-canvas" tabindex="0" role="application"
    aria-label="Map of weight space. Arrow keys go to the next point in that direction,
    Enter opens it, plus and minus zoom."></canvas>
  <div class="wm-said" aria-live="polite">Point at the map, or use the arrow keys.</div>
</div>
"""

STYLE = """
.wm-canvas { width: 100%; height: 520px; background: #ffffff; border: 1px solid #cbd5e1;
  border-radius: 8px; cursor: crosshair; display: block; }
.wm-canvas:focus-visible { outline: 3px solid #4f46e5; }
.wm-legend { display: flex; flex-wrap: wrap; gap: 4px 14px; min-height: 24px; font-size: 13px; }
.wm-legend i { display: inline-block; width: 10px; height: 10px; border-radius: 5px;
  margin-right: 5px; }
.wm-said { min-height: 22px; font-size: 13px; }
"""

SCRIPT = Path(__file__).with_suffix(".js").read_text(encoding="utf-8")


def view(value: Any) -> gr.HTML:
    """The component; clicks arrive as ``select`` events with ``index``."""
    return gr.HTML(
        value=value, html_template=TEMPLATE, css_template=STYLE, js_on_load=SCRIPT,
        elem_id="weight-map", apply_default_css=False,
    )  # fmt: skip


def point_picture(name: str, index: int, size: int) -> Image.Image:
    """A point decoded, as a picture."""
    drawn = weight_map(name)
    shown = preview(point_instance(drawn, index))
    if shown is None:  # an empty picture says so
        return Image.new("RGB", (size, size), "#f1f5f9")
    return drawn.domain.picture(shown, size)


def spread_out(positions: torch.Tensor, count: int) -> list[int]:
    """Farthest-point sampling: ``count`` of (n, 2) positions that cover the map."""
    chosen = [0]
    distance = (positions - positions[0]).norm(dim=1)
    for _ in range(min(count, len(positions)) - 1):
        chosen.append(int(distance.argmax()))
        distance = torch.minimum(distance, (positions - positions[chosen[-1]]).norm(dim=1))
    return chosen


@cache
def landmarks(name: str, representation: str, kind: str) -> list[dict[str, Any]]:
    """Pictures of points spread over a map."""
    drawn = weight_map(name)
    look = drawn.domain.mapped
    assert look is not None
    covered = drawn.covered(representation).nonzero().flatten()
    positions = drawn.positions[representation][kind][covered]
    pictures = []
    for i in spread_out(positions, look.landmarks):
        buffer = io.BytesIO()
        point_picture(name, int(covered[i]), look.pixels).save(buffer, "JPEG", quality=80)
        source = "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()
        x, y = positions[i].tolist()
        pictures.append({"x": x, "y": y, "src": source, "size": look.pixels})
    return pictures


def colour_of(drawn: WeightMap, colour: str | None) -> str:
    """The label that a map is coloured by: what was chosen if it knows it, else the usual one."""
    return colour if colour in drawn.label_names else drawn.domain.labels.usual


def map_value(
    name: str,
    representation: str,
    kind: str,
    colour: str | None,
    has_pictures: bool = False,
    marks: list[dict[str, Any]] | None = None,
    path: list[list[float]] | None = None,
    selected: int = -1,
) -> dict[str, Any]:
    """What the component draws; ``points`` is a JSON text of their x, y, class and name."""
    drawn = weight_map(name)
    check_representation(drawn, representation)
    positions = drawn.positions[representation][kind].numpy()
    if drawn.domain.labels.are_exclusive:
        classes, palette = list(drawn.label_names), list(PALETTE)
        colours = drawn.classes.tolist()
    else:
        label = colour_of(drawn, colour)
        classes, palette = [f"not {_words(label)}", _words(label)], ["#94a3b8", "#4338ca"]
        colours = drawn.labels[:, drawn.label_names.index(label)].tolist()
    points = {
        "x": _drawn(positions[:, 0]),
        "y": _drawn(positions[:, 1]),
        "c": colours,
        "names": [n.rsplit("/", 1)[-1] for n in drawn.names],
    }
    return {
        "set": name,
        # One text: the page copies every value of a component at every event, one by one.
        "points": json.dumps(points, separators=(",", ":")),
        "classes": classes,
        "palette": palette,
        "held": int((~drawn.is_held_out).sum()),
        "pictures": landmarks(name, representation, kind) if has_pictures else [],
        "marks": marks or [],
        "path": path or [],
        "selected": selected,
    }


def _drawn(values: np.ndarray) -> list[float | None]:
    """To three digits; None where there is nothing to draw."""
    return [None if np.isnan(v) else v for v in np.round(values, 3).tolist()]


def _words(label: str) -> str:
    return label.replace("_", " ").lower()
