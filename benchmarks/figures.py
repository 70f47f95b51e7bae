"""Draws the pictures of the docs: ``python -m benchmarks.figures``."""

from pathlib import Path

import torch

from wsdemo.media.images import contact_sheet, to_picture
from wsdemo.pipelines import face_diffusion, render_faces
from wsdemo.runtime import tune_allocator

DOCS = Path(__file__).resolve().parent.parent / "docs"


def main() -> None:
    tune_allocator()
    model = face_diffusion()
    drawn = torch.cat([model.draw(1, seed=seed, steps=50) for seed in range(32)])
    sheet = contact_sheet(render_faces(drawn, model.adapter, 96), columns=8)
    to_picture(sheet).save(DOCS / "samples.png")
    wishes = [
        {"Smiling": True, "Male": False}, {"Male": True, "No_Beard": False},
        {"Eyeglasses": True}, {"Blond_Hair": True}, {"Wearing_Hat": True}, {"Young": False},
    ]  # fmt: skip
    rows = []
    for wish in wishes:
        condition = model.condition(wish, 8)
        drawn = model.draw(8, seed=1, steps=50, guidance=3.0, attributes=condition)
        rows.append(render_faces(drawn, model.adapter, 96))
    to_picture(contact_sheet(torch.cat(rows), columns=8)).save(DOCS / "wishes.png")


if __name__ == "__main__":
    main()
