"""CelebA faces for the recipes: crop, resize, attributes, split.

The recipes read either a folder of aligned CelebA pictures or a zip of them,
with an ``attributes.csv`` (``file`` and 40 columns of 0/1) beside or inside.
The official archive is torchvision's ``CelebA``; pictures of 178x218 and of
89x109 give the same crop.
"""

import csv
import io
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps
from torch import Tensor

from wsdemo.domains.faces import LABELS
from wsdemo.errors import WsdemoError
from wsdemo.fields.signal import image_to_signal

SPLITS = {
    "train": (0, 8000), "train-mirrored": (0, 8000), "validation": (8000, 8500),
    "test": (8500, 9000),
}  # fmt: skip
"""Ranges of pictures, in order of file name. No model sees the test range."""

_CROP = (7.5 / 89, 17.5 / 109, 81.5 / 89, 91.5 / 109)
"""The square around the face, as shares of width and height."""


@dataclass(frozen=True)
class Faces:
    """A split of the faces.

    Attributes:
        images: (n, 3, size, size) uint8.
        attributes: (n, 40) uint8, 0 or 1.
        attribute_names: 40 names, in the order of the columns.
        files: n file names.
    """

    images: Tensor
    attributes: Tensor
    attribute_names: tuple[str, ...]
    files: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.files)

    def pick(self, files: Sequence[str]) -> "Faces":
        """The faces of some files, in their order."""
        place = {name: i for i, name in enumerate(self.files)}
        index = [place[name] for name in files]
        names = self.attribute_names
        return Faces(self.images[index], self.attributes[index], names, tuple(files))

    def first(self, count: int) -> "Faces":
        """The first ``count`` faces."""
        return Faces(
            self.images[:count], self.attributes[:count], self.attribute_names, self.files[:count]
        )


def to_signal(images: Tensor) -> Tensor:
    """(n, 3, H, W) uint8 → (n, H·W, 3) float in [-1, 1], the range that fields output."""
    return image_to_signal(images).flatten(2).transpose(1, 2)


def _read(source: Path) -> Iterator[tuple[str, bytes]]:
    if source.is_dir():
        for path in sorted(p for p in source.rglob("*") if p.is_file()):
            yield path.name, path.read_bytes()
        return
    if not zipfile.is_zipfile(source):
        raise WsdemoError(
            "No faces found",
            f"{source} is neither a folder nor a zip.",
            "Pass --data with CelebA's folder or zip.",
        )
    with zipfile.ZipFile(source) as archive:
        for name in sorted(archive.namelist()):
            if not name.endswith("/"):
                yield name.rsplit("/", 1)[-1], archive.read(name)


def load_faces(source: Path | None, split: str, size: int = 64) -> Faces:
    """Loads, crops and resizes (Lanczos) one split; ``train-mirrored`` is left to right.

    Args:
        source: Folder or zip of aligned CelebA pictures with ``attributes.csv``.
        split: A key of SPLITS.
        size: Pixels a side.

    Raises:
        WsdemoError: The source is missing, or holds no attributes.csv or pictures.
    """
    if source is None or not source.exists():
        raise WsdemoError(
            "No faces found",
            f"{source} does not exist.",
            "Pass --data with CelebA's folder or zip.",
        )
    first, last = SPLITS[split]
    pictures: list[NDArray[np.uint8]] = []
    files: list[str] = []
    table: dict[str, list[int]] = {}
    names: tuple[str, ...] = ()
    seen = 0
    for name, data in _read(source):
        if name == "attributes.csv":
            rows = list(csv.reader(io.StringIO(data.decode())))
            names = tuple(rows[0][1:])
            table = {row[0]: [int(v) for v in row[1:]] for row in rows[1:]}
        elif name.lower().endswith((".jpg", ".jpeg", ".png")):
            if first <= seen < last:
                image = Image.open(io.BytesIO(data)).convert("RGB")
                w, h = image.size
                box = (_CROP[0] * w, _CROP[1] * h, _CROP[2] * w, _CROP[3] * h)
                face = image.resize((size, size), Image.Resampling.LANCZOS, box=box)
                if split == "train-mirrored":
                    face = ImageOps.mirror(face)
                pictures.append(np.asarray(face).transpose(2, 0, 1))
                files.append(name)
            seen += 1
    if not pictures or not table:
        raise WsdemoError(
            "No faces found",
            f"{source} holds {seen} pictures and {len(table)} rows of attributes.",
            "Expected aligned CelebA pictures and attributes.csv.",
        )
    attributes = torch.tensor([table[f] for f in files], dtype=torch.uint8)
    images = torch.from_numpy(np.stack(pictures))
    return Faces(images, attributes, names, tuple(files))


def wished(faces: Faces) -> tuple[str, ...]:
    """Names of the attributes that the shipped models can be asked for, as far as faces have
    them."""
    return tuple(name for name in LABELS if name in faces.attribute_names)


def attributes_of(faces: Faces, names: Sequence[str]) -> Tensor:
    """(n, a) attributes by name, 0 or 1."""
    return faces.attributes[:, [faces.attribute_names.index(name) for name in names]]


def seen_and_unseen(
    data: Path | None, is_toy: bool, size: int = 64, unseen: int = 16
) -> tuple[Faces, Faces]:
    """The faces to train on and those to validate on; made-up ones for a toy."""
    if is_toy:
        return toy_faces(64, size), toy_faces(unseen, size, seed=1)
    return load_faces(data, "train", size), load_faces(data, "validation", size)


class Mirrored:
    """Faces and their mirror images: index i + n is i mirrored."""

    def __init__(self, faces: Faces) -> None:
        self.images = faces.images

    def __len__(self) -> int:
        return 2 * len(self.images)

    def inputs(self, index: Tensor) -> Tensor:
        """(n,) → (n, 3, size, size) in [-1, 1]."""
        n = len(self.images)
        images = image_to_signal(self.images[index % n])
        return torch.where((index >= n)[:, None, None, None], images.flip(-1), images)


def face_labels(data: Path | None, names: list[str], split: str) -> tuple[Tensor, list[str]]:
    """(n, 40) attributes of faces by file name, and the columns' names."""
    faces = load_faces(data, split).pick(names)
    return faces.attributes, list(faces.attribute_names)


def toy_faces(count: int, size: int = 64, seed: int = 0) -> Faces:
    """Made-up faces (an ellipse with two eyes and a mouth) with true attributes.

    They let every recipe run in seconds without data; no shipped figure uses them.
    """
    g = torch.Generator().manual_seed(seed)
    u = torch.rand(count, 12, generator=g)
    axis = (torch.arange(size) + 0.5) / size * 2 - 1
    y, x = axis[:, None], axis[None, :]
    images = torch.empty(count, 3, size, size)
    for i in range(count):
        p = u[i]
        picture = p[0:3, None, None].expand(3, size, size) * 0.6
        face = (x / (0.5 + 0.2 * p[3])) ** 2 + (y / (0.7 + 0.2 * p[4])) ** 2 < 1
        eyes = ((x.abs() - 0.22) ** 2 + (y + 0.2) ** 2) < (0.05 + 0.05 * float(p[5])) ** 2
        smile = 0.3 * (1 if p[6] > 0.5 else -1)
        mouth = ((y - 0.35 + smile * (x**2 - 0.05) * 3).abs() < 0.05) & (x.abs() < 0.3)
        skin = torch.stack([0.95 - 0.4 * p[7], 0.75 - 0.4 * p[7], 0.6 - 0.35 * p[7]])
        picture = torch.where(face, skin[:, None, None], picture)
        picture = torch.where(eyes | mouth, 0.1 + 0.2 * p[9:12, None, None], picture)
        images[i] = picture
    attributes = torch.stack([u[:, 6] > 0.5, u[:, 7] < 0.5, u[:, 5] > 0.5], 1).to(torch.uint8)
    return Faces(
        (images.clamp(0, 1) * 255).round().to(torch.uint8),
        attributes,
        ("Smiling", "Pale_Skin", "Eyeglasses"),
        tuple(f"toy{i:05d}" for i in range(count)),
    )
