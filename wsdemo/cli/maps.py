"""The command line's verbs of weight space: clusters, neighbours, walk, edit."""

import argparse
import time
from pathlib import Path
from typing import Any

import torch

from wsdemo.analysis.features import face_features
from wsdemo.cli.files import WEIGHTS, check_output
from wsdemo.domains import pipelines
from wsdemo.fields.instance import Instance
from wsdemo.maps import weight_map as maps
from wsdemo.media.images import png_bytes

Result = dict[str, Any]


def map_of(instance: Instance) -> maps.WeightMap:
    """The map that an instance belongs to."""
    return maps.weight_map(instance.base_name.removesuffix("-base"))


def run_clusters(args: argparse.Namespace) -> Result:
    """``clusters faces|shapes``: how well weights tell classes apart, on held-out instances."""
    started = time.monotonic()
    found = maps.cluster_figures(maps.weight_map(args.what), args.representation, args.attribute)
    return found | {"seconds": time.monotonic() - started}


def run_neighbours(args: argparse.Namespace) -> Result:
    """``neighbours INSTANCE``: the fitted instances whose weights lie nearest."""
    instance = pipelines.open_instance(args.input)
    found = map_of(instance)
    placed = maps.place(found, instance, count=args.count)
    return {
        "map": found.name,
        "position": list(placed.position),
        "percentile": placed.percentile,
        "neighbours": [
            {
                "name": found.names[i],
                "distance": distance,
                "held_out": bool(found.is_held_out[i]),
                "labels": [
                    n for n, v in zip(found.label_names, found.labels[i].tolist(), strict=True) if v
                ],
            }
            for i, distance in placed.neighbours
        ],
    }


def run_walk(args: argparse.Namespace) -> Result:
    """``walk A B``: what lies on the straight line between two instances."""
    out: Path = args.out
    a, b = (pipelines.open_instance(path) for path in (args.first, args.second))
    pipelines.check_range("steps", args.steps, 2, 65)
    pipelines.check_ends(a, b)
    shares = [i / (args.steps - 1) for i in range(args.steps)]
    steps: list[Result] = []
    if a.domain == "image":
        weights = torch.stack([pipelines.blend(a, b, s) for s in shares])
        faces = pipelines.render_faces(weights, a.adapter)
        values = faces.double() / 255
        out.mkdir(parents=True, exist_ok=True)  # only now can nothing be refused any more
        fade = torch.stack([torch.lerp(values[0], values[-1], s) for s in shares])
        for i, share in enumerate(shares):
            file = out / f"step-{i:02d}.png"
            file.write_bytes(png_bytes(faces[i]))
            steps.append({
                "share": share, "file": str(file),
                "to_first": float((values[i] - values[0]).square().mean()),
                "to_second": float((values[i] - values[-1]).square().mean()),
                "to_crossfade": float((values[i] - fade[i]).square().mean()),
            })  # fmt: skip
        return {"domain": "image", "loss": "mean squared difference of pixels in [0, 1]",
                "steps": steps, "files": [s["file"] for s in steps]}  # fmt: skip
    from wsdemo.domains.shape_fitting import walk_shapes
    from wsdemo.media.mesh_files import mesh_bytes

    for i, step in enumerate(walk_shapes(a, b, args.steps)):
        out.mkdir(parents=True, exist_ok=True)
        file = out / f"step-{i:02d}.glb"
        if step.mesh is not None:
            file.write_bytes(mesh_bytes(step.mesh, "glb"))
        steps.append({
            "share": step.share, "file": str(file) if step.mesh is not None else None,
            "to_first": None if step.mesh is None else step.to_first,
            "to_second": None if step.mesh is None else step.to_second,
        })  # fmt: skip
    loss = "Chamfer distance of 4,096 points drawn on each surface"
    return {"domain": "sdf", "loss": loss, "steps": steps,
            "files": [s["file"] for s in steps if s["file"]]}  # fmt: skip


def run_edit(args: argparse.Namespace) -> Result:
    """``edit FACE --attribute``: moves a fitted face along an attribute's direction."""
    out: Path = args.out
    check_output(out, WEIGHTS, args.input)
    instance = pipelines.open_instance(args.input, "image")
    found = maps.weight_map("faces")
    moved = maps.edit(found, instance, args.attribute, args.strength, not args.plain)
    faces = pipelines.render_faces(torch.stack([instance.weights, moved]), instance.adapter)
    features = face_features(faces)
    out.parent.mkdir(parents=True, exist_ok=True)
    size = pipelines.face_instance(instance.adapter, moved, {}).save(out)
    return {
        "file": str(out),
        "bytes": size,
        "attribute": args.attribute,
        "strength": args.strength,
        "identity_change": float((features[0] - features[1]).norm()) / found.spread,
    }
