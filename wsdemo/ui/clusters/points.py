"""What is shown of the points of a map: one large, its neighbours, all of them as a table."""

from pathlib import Path
from typing import Any

import gradio as gr
import pandas as pd

from wsdemo.maps.place import nearest_points, place
from wsdemo.maps.weight_map import WeightMap, point_instance, weight_map
from wsdemo.ui.clusters import map_view
from wsdemo.ui.clusters.map_walk import NEAR, SIDE, Chosen, instance_of
from wsdemo.ui.shared.events import download_file, guarded
from wsdemo.ui.shared.text import text_of

ROWS = 100
"""Of the table that are shown at once: thousands make every event of the page take seconds."""


def representations(name: str) -> list[str]:
    """What a map can show."""
    return list(weight_map(name).coordinates)


def label_text(drawn: WeightMap, index: int) -> str:
    """What is known of a point."""
    row = drawn.labels[index].bool().tolist()
    true = [n.replace("_", " ") for n, v in zip(drawn.label_names, row, strict=True) if v]
    where = "held out" if bool(drawn.is_held_out[index]) else "training"
    return f"**{text_of(drawn.names[index])}** ({where}). {', '.join(true)}."


def file_name(drawn: WeightMap, index: int) -> str:
    """What a point's instance file is called."""
    stem = drawn.names[index].rsplit("/", 1)[-1].split(".")[0]
    return f"{drawn.domain.one}-{stem}.safetensors"


def show_point(name: str, index: int) -> tuple[Any, ...]:
    """A point decoded, and as a file."""
    drawn = weight_map(name)
    picture = map_view.point_picture(name, index, SIDE)
    path = download_file(b"", file_name(drawn, index))
    point_instance(drawn, index).save(Path(path))
    return index, picture, label_text(drawn, index), path


def near_points(name: str, representation: str, chosen: Chosen) -> list[int]:
    """The points whose weights are nearest to what is chosen, nearest first."""
    if chosen is None:
        return []
    drawn = weight_map(name)
    if isinstance(chosen, str):
        return [i for i, _ in place(drawn, instance_of(name, chosen), count=NEAR).neighbours]
    if not drawn.covered(representation)[chosen]:
        gr.Warning(f"{drawn.names[chosen]} was not fitted as {representation}: no neighbours.")
        return []
    return [i for i, _ in nearest_points(drawn, representation, chosen, NEAR)]


@guarded
def show_near(name: str, representation: str, chosen: Chosen) -> list[Any]:
    """The points whose weights are nearest to what is chosen, as pictures."""
    drawn = weight_map(name)
    near = near_points(name, representation, chosen)
    return [(map_view.point_picture(name, i, 128), caption(drawn, i)) for i in near]


def caption(drawn: WeightMap, index: int) -> str:
    """What a point is called below its picture."""
    if drawn.domain.labels.are_exclusive:
        return drawn.label_names[int(drawn.classes[index])]
    return drawn.names[index].removesuffix(".jpg")


def listed(name: str, representation: str, kind: str, colour: str) -> pd.DataFrame:
    """The points of a map that are drawn, where, and of what."""
    drawn = weight_map(name)
    spots = drawn.positions[representation][kind]
    labels, colour = drawn.domain.labels, map_view.colour_of(drawn, colour)
    has_each = not labels.are_exclusive
    column = drawn.labels[:, drawn.label_names.index(colour)].tolist() if has_each else []
    rows = [
        (i, drawn.names[i].rsplit("/", 1)[-1],
         ("yes" if column[i] else "no") if has_each else caption(drawn, i),
         "held out" if bool(drawn.is_held_out[i]) else "training",
         round(float(spots[i, 0]), 3), round(float(spots[i, 1]), 3))
        for i in drawn.covered(representation).nonzero().flatten().tolist()
    ]  # fmt: skip
    what = colour.replace("_", " ") if has_each else labels.one
    return pd.DataFrame(rows, columns=["point", "name", what, "split", "x", "y"])


def table(
    name: str, representation: str, kind: str, colour: str, is_open: bool, containing: str
) -> Any:
    """The twin of the map for those who cannot see it: the first of the points in one of whose
    words a text is; empty unless it is open."""
    if not is_open:
        return gr.Dataframe(None)
    points, text = listed(name, representation, kind, colour), containing.strip()
    if text:
        words = points[["name", points.columns[2], "split"]]
        points = points[
            words.apply(lambda c: c.str.contains(text, case=False, regex=False)).any(axis=1)
        ]
    label = f"{min(ROWS, len(points))} of {len(points):,} points"
    return gr.Dataframe(points.head(ROWS), label=label)
