"""Writes the maps of weight space that the app shows:

    python -m wsdemo.train.maps shapes --data MESHES
    python -m wsdemo.train.maps faces --data celeba.zip
    python -m wsdemo.train.maps faces-manifold --data celeba.zip

Reads the fits of ``faces.fit``, ``manifold_fit`` and ``shapes.fit``: the app's own (from the
encoder's start), and, where they lie in ``--compare``, those of other representations from a
shared start.
"""

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.manifold import TSNE
from torch import Tensor

from wsdemo.analysis.clusters import Principal
from wsdemo.checkpoints import save_checkpoint
from wsdemo.domains.domain import Domain, Shown
from wsdemo.domains.faces import FACES, FACES_MANIFOLD
from wsdemo.domains.registry import domain_named
from wsdemo.domains.shapes import SHAPES, SHAPES_MANIFOLD
from wsdemo.generate.diffusion import prior_hash
from wsdemo.maps.weight_map import OWN
from wsdemo.train.faces.data import face_labels, load_faces, toy_faces
from wsdemo.train.loop import log, recipe_parser, start
from wsdemo.train.population import load_fits
from wsdemo.train.release import load_model
from wsdemo.train.shapes.data import shape_labels
from wsdemo.train.weight_diffusion import STORED_COORDINATES

DIRECTIONS = 64
"""Principal coordinates kept per representation, for neighbours and clusters."""
TOY_DIRECTIONS = 16
MOST = 4500
"""Training instances on a map; with 500 held-out faces theirs has 5,000 points."""
COMPARED = {"mlora": 8, "lora": 8, "mlp": 39, "mlora-asym": 8, "lora-asym": 8, "mlp-asym": 39}
"""Representation → rank (width) of the fits from a shared start."""


def flat_map(x: Tensor, seed: int = 0) -> Tensor:
    """(n, d) → (n, 2) by t-SNE, scaled to [-1, 1]."""
    perplexity = min(30, (len(x) - 1) / 3)
    places = TSNE(2, init="pca", perplexity=perplexity, random_state=seed).fit_transform(x.numpy())
    return scaled(torch.from_numpy(places.astype(np.float32)))


def scaled(positions: Tensor) -> Tensor:
    """Positions centred and scaled so that the farthest lies at 1."""
    centred = positions - (positions.amin(0) + positions.amax(0)) / 2
    return centred / centred.abs().max()


def add_representation(tensors: dict[str, Tensor], name: str, x: Tensor) -> None:
    """Stores coordinates and both flat positions of a representation."""
    log(f"{name}: t-SNE of {len(x)} points")
    tensors[f"{name}.coordinates"] = x.half()
    tensors[f"{name}.t-SNE"] = flat_map(x).half()
    tensors[f"{name}.PCA"] = scaled(x[:, :2]).half()


def attribute_directions(coordinates: Tensor, labels: Tensor) -> Tensor:
    """(a, c): change of (n, c) coordinates per label (n, a), the others held; least squares."""
    design = torch.cat([labels.double(), torch.ones(len(labels), 1).double()], 1)
    ridge = 1.0 * torch.eye(design.shape[1]).double()
    return torch.linalg.solve(design.T @ design + ridge, design.T @ coordinates.double())[
        :-1
    ].float()


@dataclass(frozen=True)
class MapData:
    """What a recipe knows of a domain's instances beyond their fits.

    Attributes:
        labels: (names, split) → (n, a) labels, and the columns' names.
        unseen: The originals of the test split, whose features tell how far two are apart; with
            them the map gets directions to move along.
    """

    labels: Callable[[list[str], str], tuple[Tensor, list[str]]]
    unseen: Callable[[], Sequence[Shown]] | None = None


def write_map(domain: Domain, data: MapData, args: argparse.Namespace) -> None:
    """Writes NAME-map from the fits of a domain's population.

    Args:
        domain: Whose.
        data: Labels.
        args: Of ``recipe_parser``, and ``compare``: the folder of other representations' fits.
    """
    model, folder = load_model(domain, args)
    train, names = load_fits(folder / "train")
    keep = [i for i, n in enumerate(names) if "+" not in n][:MOST]  # without stretched copies
    test, unseen = load_fits(folder / "test")
    shown = [names[i] for i in keep] + unseen
    first, label_names = data.labels(shown[: len(keep)], "train")
    last, _ = data.labels(unseen, "test")
    count = min(STORED_COORDINATES, model.prior.basis.shape[1])
    held_out = model.prior.coordinates(test.float(), count)
    every = [model.prior.coordinates(w.float(), count) for w in train.split(500)]
    principal = torch.cat([torch.cat(every)[keep], held_out])
    tensors = {
        "training_index": torch.tensor(keep, dtype=torch.int32),
        "held_out": held_out.half(),
        "labels": torch.cat([first, last]),
    }
    spread = model.prior.variances[:DIRECTIONS].sqrt()
    add_representation(tensors, OWN, principal[:, :DIRECTIONS] * spread)
    meta: dict[str, Any] = {
        "name": f"{domain.name}-map", "kind": "map", "prior": prior_hash(model.prior),
        "names": shown, "label_names": label_names,
    }  # fmt: skip
    if domain.features is not None and data.unseen is not None:
        all_labels, _ = data.labels(names, "train")
        tensors["directions"] = attribute_directions(torch.cat(every), all_labels).half()
        meta["spread"] = float(torch.pdist(domain.features(data.unseen())).median())
    fits = args.compare / f"{domain.name}-fit"
    count = TOY_DIRECTIONS if args.toy else DIRECTIONS
    compared = add_compared(tensors, fits, shown[: len(keep)], unseen, count)
    meta["representations"] = [OWN, *compared]
    save_checkpoint(args.out / f"{domain.name}-map.safetensors", tensors, meta)


def add_compared(
    tensors: dict[str, Tensor], fits: Path, trained: list[str], unseen: list[str], count: int
) -> list[str]:
    """Stores the fits of other representations, where they are there; returns their names.

    Args:
        tensors: Of the map; added to.
        fits: Folder of those fits.
        trained, unseen: Names of the map's points, in order.
        count: Principal coordinates to keep.
    """
    names = []
    for representation, rank in COMPARED.items():
        place = fits / f"{representation}-r{rank}"
        if not ((place / "train").is_dir() and (place / "test").is_dir()):
            continue
        weights, own_names = load_fits(place / "train")
        where = {n: i for i, n in enumerate(own_names)}
        others, other_names = load_fits(place / "test")
        points = [i for i, n in enumerate(trained) if n in where]
        if len(points) <= count or other_names != unseen:
            log(f"{representation}: too few instances were fitted; left out")
            continue
        weights = weights[[where[trained[i]] for i in points]].float()
        principal = Principal.fit(weights, count)
        x = torch.cat([principal(weights), principal(others.float())])
        name = representation if representation != OWN else f"{OWN} (shared start)"
        add_representation(tensors, name, x / x.std())
        if len(points) < len(trained):
            total = len(trained) + len(unseen)
            fitted = [*points, *range(len(trained), total)]
            tensors[f"{name}.index"] = torch.tensor(fitted, dtype=torch.int16)
        names.append(name)
    return names


def toy_labels(names: list[str], _: str) -> tuple[Tensor, list[str]]:
    """As face_labels, of made-up faces."""
    faces = toy_faces(64).pick(names)
    return faces.attributes, list(faces.attribute_names)


def map_data(data: Path | None, is_toy: bool = False) -> dict[str, MapData]:
    """What is known of the instances of each domain with a map."""
    faces = MapData(partial(face_labels, data), lambda: list(load_faces(data, "test").images))
    if is_toy:
        faces = MapData(toy_labels, lambda: list(toy_faces(64).images))
    shapes = MapData(lambda names, _: shape_labels(names))
    return {
        FACES.name: faces,
        FACES_MANIFOLD.name: faces,
        SHAPES.name: shapes,
        SHAPES_MANIFOLD.name: shapes,
    }


def main(arguments: list[str] | None = None) -> None:
    parser = recipe_parser(str(__doc__), minutes=0)
    parser.add_argument("set", choices=list(map_data(None)))
    parser.add_argument("--data", type=Path, help="CelebA, or a folder of meshes")
    parser.add_argument("--compare", type=Path, default=Path("runs/compare"))
    args = parser.parse_args(arguments)
    start(args)
    write_map(domain_named(args.set), map_data(args.data, args.toy)[args.set], args)


if __name__ == "__main__":
    main()
