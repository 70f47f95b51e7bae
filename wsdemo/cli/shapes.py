"""The command line's verbs for shapes: sampling, fitting, decoding and rendering meshes."""

import argparse
import sys
import time
from pathlib import Path
from typing import Any

from wsdemo.fields.instance import Instance
from wsdemo.media.mesh_files import READABLE, mesh_bytes, precision_note

Result = dict[str, Any]


def is_mesh(path: Path) -> bool:
    """Whether a file is a mesh by its name."""
    return path.suffix.lower().removeprefix(".") in READABLE


def write_shape(instance: Instance, path: Path, resolution: int, largest: bool) -> Result:
    """Decodes an instance into a mesh file, in the place and units that it came from."""
    from wsdemo.domains import shape_pipelines as shapes
    from wsdemo.media.meshes import statistics

    kind = path.suffix.lower().removeprefix(".")
    mesh = shapes.decode_instance(instance, resolution, largest)
    normals = shapes.shape_normals(instance.weights, instance.adapter, mesh)
    placed = shapes.pose_of(instance).undo(mesh)
    path.write_bytes(mesh_bytes(placed, kind, normals))
    note = precision_note(placed, [kind])
    if note:
        print(note, file=sys.stderr)
    return {**statistics(placed), "notes": [note] if note else []}


def run_sample(args: argparse.Namespace, folder: Path) -> Result:
    """``sample airplane|shapes``: draws shapes and writes meshes and instances."""
    from wsdemo.domains import shape_pipelines as shapes

    started = time.monotonic()
    shapes.check_resolution(args.resolution)
    moment = None
    guidance = 2.0 if args.guidance is None else args.guidance
    heat = shapes.TEMPERATURE if args.temperature is None else args.temperature
    for moment in shapes.sample_shapes(
        args.what, args.count, args.seed, args.steps, guidance, args.category, heat
    ):
        print(f"\rstep {moment.step}/{moment.steps}", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    assert moment is not None
    adapter = shapes.shape_diffusion(args.what).adapter
    files, saved = [], []
    for i, weights in enumerate(moment.instances):
        stem = folder / f"{args.what}-seed{args.seed}-{i:03d}"
        instance = shapes.drawn_instance(args.what, adapter, weights, heat)
        saved.append(stem.with_suffix(".safetensors"))
        instance.save(saved[-1])
        files.append(stem.with_suffix(".glb"))
        write_shape(instance, files[-1], args.resolution, args.largest)
    return {
        "seed": args.seed,
        "files": [str(f) for f in files],
        "instances": [str(f) for f in saved],
        "seconds": time.monotonic() - started,
    }


def run_fit(args: argparse.Namespace, out: Path) -> Result:
    """``fit MESH``: turns a mesh into weights."""
    from wsdemo.domains import shape_fitting

    began = time.monotonic()
    source = shape_fitting.load_mesh(args.input)
    reading, notes = time.monotonic() - began, source.describe()
    for line in notes:
        print(line, file=sys.stderr)
    options = shape_fitting.ShapeFitOptions(
        args.base, args.representation, args.rank, args.seed, args.seconds, args.steps
    )
    last = None
    for last in shape_fitting.fit_mesh(source, options):
        text = f"\rstep {last.step} {last.psnr:.2f} dB {last.seconds_left:.0f} s left  "
        if last.is_measuring:
            text += "measuring  "
        print(text, end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    assert last is not None
    for note in last.notes:
        print(note, file=sys.stderr)
    size = last.instance.save(out)
    m = last.instance.measured
    return {
        "domain": last.instance.domain,
        "chamfer": m["chamfer"],
        "fscore": m["fscore"],
        "iou": m["iou"],
        "normals": m["normals"],
        "weights": last.instance.adapter.weight_count,
        "bytes": size,
        "mesh_bytes": args.input.stat().st_size,
        "seconds": last.seconds,
        "reading_seconds": reading,
        "fit_seconds": last.seconds - last.measuring_seconds,
        "measuring_seconds": last.measuring_seconds,
        "steps": last.step,
        "notes": [*notes, *last.notes],
        "file": str(out),
    }


def run_render(args: argparse.Namespace, out: Path) -> Result:
    """``render MESH``: a picture of a mesh file, normalised."""
    from PIL import Image

    from wsdemo.domains.pipelines import check_range
    from wsdemo.limits import MAX_RENDER_SIDE, MIN_RENDER_SIDE
    from wsdemo.media.camera import Camera
    from wsdemo.media.mesh_files import open_mesh
    from wsdemo.media.meshes import normalise
    from wsdemo.media.render import choose_renderer, render

    started = time.monotonic()
    check_range("size", args.size, MIN_RENDER_SIDE, MAX_RENDER_SIDE)
    check_range("azimuth", args.azimuth, -360, 360)
    check_range("elevation", args.elevation, -90, 90)
    mesh, report = open_mesh(args.input)
    camera = Camera(args.azimuth, args.elevation)
    chosen, reason = choose_renderer(args.renderer)
    picture = render(normalise(mesh)[0], args.size, camera, args.renderer)
    Image.fromarray(picture).save(out, format="PNG")
    return {
        "file": str(out),
        "renderer": chosen,
        "reason": reason,
        "faces": report.faces,
        "notes": list(report.notes),
        "seconds": time.monotonic() - started,
    }
