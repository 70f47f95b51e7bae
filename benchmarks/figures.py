"""Draws the pictures of the docs: ``python -m benchmarks.figures``."""

import argparse
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

from wsdemo.domains.domain import Domain
from wsdemo.domains.faces import FACES, FACES_MANIFOLD, picture, render_faces
from wsdemo.domains.instances import make_instance
from wsdemo.domains.models import diffusion_of
from wsdemo.domains.registry import domain_named
from wsdemo.domains.shapes import AIRPLANE, SHAPES, SHAPES_MANIFOLD, decode_shape, drawn_level
from wsdemo.errors import WsdemoError
from wsdemo.generate.captions import PROMPTS
from wsdemo.generate.diffusion import WeightDiffusion
from wsdemo.generate.text_to_face import decode_coordinates, shipped_generator
from wsdemo.maps.edit import edit
from wsdemo.maps.weight_map import weight_map
from wsdemo.media.camera import framed
from wsdemo.media.images import contact_sheet, to_picture
from wsdemo.media.mesh_files import mesh_bytes, reduce_mesh
from wsdemo.media.render import render
from wsdemo.runtime import choose_threads, tune_allocator
from wsdemo.ui.clusters.map_view import PALETTE

EXAMPLES = Path(__file__).resolve().parent.parent / "wsdemo" / "ui" / "examples"
DOCS = Path(__file__).resolve().parent.parent / "docs"


def shape_sheet(domain: Domain, name: str, per_category: int = 4) -> None:
    """Samples of a set: rows of two categories each, unselected."""
    model, heat = diffusion_of(domain), domain.temperature
    if model.attribute_names:
        wishes = [{n: n == w for n in model.attribute_names} for w in model.attribute_names]
        conditions = [model.condition(wish, per_category) for wish in wishes]
    else:
        conditions = [model.condition({}, per_category)] * 6
    pictures = []
    for i, condition in enumerate(conditions):
        drawn = model.draw(
            per_category, 100 + i,
            guidance=domain.guidance, attributes=condition, temperature=heat,
        )  # fmt: skip
        for weights in drawn:
            try:
                mesh = decode_shape(weights, model.adapter, level=drawn_level(domain.name, heat))
                picture = render(mesh, 160, framed(mesh))
            except WsdemoError:
                picture = np.full((160, 160, 3), 255, dtype=np.uint8)
            pictures.append(torch.from_numpy(picture).permute(2, 0, 1))
    sheet = contact_sheet(torch.stack(pictures), columns=2 * per_category)
    to_picture(sheet).save(DOCS / f"samples-{name}.png")


def as_shown(drawn: torch.Tensor, model: WeightDiffusion) -> torch.Tensor:
    """Faces (n, 3, 96, 96) of drawn weights as the app shows them: decoded at 64 pixels."""
    tiles = [picture(face, 96) for face in render_faces(drawn, model.adapter)]
    return torch.stack([torch.from_numpy(np.array(tile)).permute(2, 0, 1) for tile in tiles])


def face_sheet(domain: Domain, path: Path) -> None:
    """Samples of seeds 0 to 31, unselected."""
    model = diffusion_of(domain)
    drawn = torch.cat([model.draw(1, seed=seed, steps=50) for seed in range(32)])
    to_picture(contact_sheet(as_shown(drawn, model), columns=8)).save(path)


def example_meshes() -> None:
    """Our own samples as meshes to try in the app."""
    for name, category, seed in (
        ("airplane", "", 3),
        ("shapes", "car", 1),
        ("shapes", "vessel", 1),
    ):
        domain = domain_named(name)
        model, heat = diffusion_of(domain), domain.temperature
        condition = model.condition({n: n == category for n in model.attribute_names}, 1)
        (weights,) = model.draw(1, seed, guidance=2.0, attributes=condition, temperature=heat)
        level = drawn_level(name, heat)
        whole = decode_shape(weights, model.adapter, 128, largest=True, level=level)
        mesh = reduce_mesh(whole, 8_000)
        (EXAMPLES / f"{category or name}.glb").write_bytes(mesh_bytes(mesh, "glb"))


def edits() -> None:
    """A sampled face moved along directions of attributes, from -2 to 2."""
    model = diffusion_of(FACES)
    weights = model.draw(1, seed=5, steps=50)[0]
    instance = make_instance(FACES, model.adapter, weights)
    faces = weight_map("faces")
    rows = [
        render_faces(
            torch.stack([edit(faces, instance, name, s) for s in (-2.0, -1.0, 0.0, 1.0, 2.0)]),
            model.adapter, 96,
        )
        for name in ("Smiling", "Eyeglasses", "Young", "Male", "Blond_Hair")
    ]  # fmt: skip
    to_picture(contact_sheet(torch.cat(rows), columns=5)).save(DOCS / "edits.png")


def prompts() -> None:
    """The face generator's answer to its 33 prompts, one face each."""
    coordinates = shipped_generator().sample(PROMPTS, seed=0, steps=25)
    sheet = contact_sheet(decode_coordinates(coordinates, 96), columns=11)
    to_picture(sheet).save(DOCS / "prompts.png")


SHOWN_MAPS = ("mlp", "lora", "mlora", "mlora-asym (shared start)")


def tsne(side: int = 330) -> None:
    """Paper A, Fig. 5: t-SNE of the weights of ten categories, a panel a representation."""
    shapes = weight_map("shapes")
    picture = Image.new("RGB", (len(SHOWN_MAPS) * side, side + 60), "white")
    draw = ImageDraw.Draw(picture)
    font = ImageFont.load_default(15)
    for panel, name in enumerate(SHOWN_MAPS):
        draw.text((panel * side + 12, 6), name.removesuffix(" (shared start)"), "#111827", font)
        places = shapes.positions[name]["t-SNE"].tolist()
        for (x, y), category in zip(places, shapes.classes.tolist(), strict=True):
            at = panel * side + side / 2 + x * side * 0.46, 28 + (side - 28) / 2 - y * side * 0.44
            draw.circle(at, 2.5, PALETTE[category])
    for i, name in enumerate(shapes.label_names):
        at = 12 + i * (len(SHOWN_MAPS) * side - 24) / len(shapes.label_names)
        draw.circle((at + 6, side + 30), 6, PALETTE[i])
        draw.text((at + 18, side + 21), name, "#111827", font)
    picture.save(DOCS / "tsne.png")


def wishes(domain: Domain) -> None:
    """A row of faces of the same noise for each wish, at the strength that the app begins with."""
    model = diffusion_of(domain)
    asked = [
        {"Smiling": True, "Male": False}, {"Male": True, "No_Beard": False},
        {"Eyeglasses": True}, {"Blond_Hair": True}, {"Wearing_Hat": True}, {"Young": False},
    ]  # fmt: skip
    rows = []
    for wish in asked:
        condition = model.condition(wish, 8)
        drawn = model.draw(8, seed=1, steps=50, guidance=domain.guidance, attributes=condition)
        rows.append(as_shown(drawn, model))
    to_picture(contact_sheet(torch.cat(rows), columns=8)).save(DOCS / "wishes.png")


def main() -> None:
    argparse.ArgumentParser(description=__doc__).parse_args()
    tune_allocator()
    choose_threads()
    tsne()
    edits()
    prompts()
    example_meshes()
    for domain, name in (
        (AIRPLANE, "airplane"), (SHAPES_MANIFOLD, "shapes"), (SHAPES, "shapes-first"),
    ):  # fmt: skip
        shape_sheet(domain, name)
    for domain, name in ((FACES_MANIFOLD, "samples"), (FACES, "samples-first")):
        face_sheet(domain, DOCS / f"{name}.png")
    wishes(FACES_MANIFOLD)


if __name__ == "__main__":
    main()
