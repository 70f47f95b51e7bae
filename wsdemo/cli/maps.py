"""The command line's verbs of weight space: clusters, neighbours, walk, edit."""

import argparse
import time
from pathlib import Path
from typing import Any

from wsdemo.cli.files import WEIGHTS, check_output, folder_for
from wsdemo.domains.instances import between, domain_of, open_instance
from wsdemo.files import write_whole
from wsdemo.maps.clusters import cluster_figures
from wsdemo.maps.edit import edited
from wsdemo.maps.place import place
from wsdemo.maps.walk import walk
from wsdemo.maps.weight_map import editable_maps, weight_map

Result = dict[str, Any]


def run_clusters(args: argparse.Namespace) -> Result:
    """``clusters DOMAIN``: how well weights tell classes apart, on held-out instances."""
    started = time.monotonic()
    figures = cluster_figures(weight_map(args.what), args.representation, args.attribute)
    return figures | {"seconds": time.monotonic() - started}


def run_neighbours(args: argparse.Namespace) -> Result:
    """``neighbours INSTANCE``: the fitted instances whose weights lie nearest."""
    instance = open_instance(args.input)
    map_ = weight_map(domain_of(instance).name)
    placed = place(map_, instance, count=args.count)
    return {
        "map": map_.name,
        "position": list(placed.position),
        "percentile": placed.percentile,
        "neighbours": [
            {
                "name": map_.names[i],
                "distance": distance,
                "held_out": bool(map_.is_held_out[i]),
                "labels": [
                    n for n, v in zip(map_.label_names, map_.labels[i].tolist(), strict=True) if v
                ],
            }
            for i, distance in placed.neighbours
        ],
    }


def run_walk(args: argparse.Namespace) -> Result:
    """``walk A B``: what lies on the straight line between two instances."""
    out: Path = folder_for(args.out)
    a, b = (open_instance(path) for path in (args.first, args.second))
    domain, steps = domain_of(a), list[Result]()
    ending = domain.writes[0]
    for i, step in enumerate(walk(a, b, args.steps)):
        file = out / f"step-{i:02d}{ending}"
        if step.shown is not None:
            instance = between(a, b, step.share)
            write_whole(file, domain.content(step.shown, ending.removeprefix("."), instance))
        nothing = {"to_first": None, "to_second": None}
        place = None if step.shown is None else str(file)
        steps.append({"share": step.share, "file": place, **(step.measured or nothing)})
    files = [step["file"] for step in steps if step["file"]]
    return {"domain": a.domain, "loss": domain.walking.loss, "steps": steps, "files": files}


def run_edit(args: argparse.Namespace) -> Result:
    """``edit INSTANCE --attribute``: moves an instance along an attribute's direction."""
    out: Path = args.out
    check_output(out, WEIGHTS, args.input)
    map_ = editable_maps()[0]
    instance = open_instance(args.input, map_.domain.kind)
    moved = edited(map_, instance, args.attribute, args.strength, not args.plain)
    return {
        "file": str(out),
        "bytes": moved.instance.save(out),
        "attribute": args.attribute,
        "strength": args.strength,
        "identity_change": moved.identity_change,
    }
