"""Writes the maps of weight space that the app shows:

    python -m wsdemo.train.maps shapes --data MESHES
    python -m wsdemo.train.maps faces --data celeba.zip

Reads the fits of ``faces_fit`` and ``shapes_fit``: the app's own (from the encoder's start),
and, where they lie in ``--compare``, those of other representations from a shared start.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.manifold import TSNE
from torch import Tensor

from wsdemo.analysis.clusters import Principal
from wsdemo.analysis.features import face_features
from wsdemo.checkpoints import save_checkpoint
from wsdemo.generate.diffusion import prior_hash
from wsdemo.maps.weight_map import MAPS, OWN
from wsdemo.train.faces.data import load_faces
from wsdemo.train.loop import log, recipe_parser, start
from wsdemo.train.population import load_fits
from wsdemo.train.release import load_model
from wsdemo.train.shapes.data import CATEGORIES, RENAMED
from wsdemo.train.weight_diffusion import STORED_COORDINATES

DIRECTIONS = 64
"""Principal coordinates kept per representation, for neighbours and clusters."""
FACES = 4500
"""Training faces on the map; with 500 held-out ones it has 5,000 points."""
COMPARED = {"mlora": 8, "lora": 8, "mlp": 39, "mlora-asym": 8, "lora-asym": 8, "mlp-asym": 39}
"""Representation → rank (width) of the fits from a shared start."""


def flat_map(x: Tensor, seed: int = 0) -> Tensor:
    """(n, d) → (n, 2) by t-SNE, scaled to [-1, 1]."""
    found = TSNE(2, init="pca", perplexity=30, random_state=seed).fit_transform(x.numpy())
    return scaled(torch.from_numpy(found.astype(np.float32)))


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


def labels_of(
    name: str, names: list[str], data: Path | None, split: str
) -> tuple[Tensor, list[str]]:
    """(n, a) labels of instances, and the columns' names."""
    if name == "faces":
        faces = load_faces(data, split).pick(names)
        return faces.attributes, list(faces.attribute_names)
    own = [n.split("/")[0] for n in names]
    index = torch.tensor([CATEGORIES.index(RENAMED.get(c, c)) for c in own])
    return torch.nn.functional.one_hot(index, len(CATEGORIES)).to(torch.uint8), list(CATEGORIES)


def main(arguments: list[str] | None = None) -> None:
    parser = recipe_parser(str(__doc__), minutes=0)
    parser.add_argument("set", choices=MAPS)
    parser.add_argument("--data", type=Path, help="CelebA, or a folder of meshes")
    parser.add_argument("--compare", type=Path, default=Path("runs/compare"))
    args = parser.parse_args(arguments)
    start(args)
    model, folder = load_model(args.set, args)
    train, names = load_fits(folder / "train")
    # Shapes: without the stretched copies.
    keep = [i for i, n in enumerate(names) if "+" not in n][
        : FACES if args.set == "faces" else None
    ]
    test, unseen = load_fits(folder / "test")
    shown = [names[i] for i in keep] + unseen
    first, label_names = labels_of(args.set, shown[: len(keep)], args.data, "train")
    last, _ = labels_of(args.set, unseen, args.data, "test")
    count = min(STORED_COORDINATES, model.prior.basis.shape[1])
    held_out = model.prior.coordinates(test.float(), count)
    every = [model.prior.coordinates(w.float(), count) for w in train.split(500)]
    own = torch.cat([torch.cat(every)[keep], held_out])
    tensors = {
        "training_index": torch.tensor(keep, dtype=torch.int32),
        "held_out": held_out.half(),
        "labels": torch.cat([first, last]),
    }
    spread = model.prior.variances[:DIRECTIONS].sqrt()
    add_representation(tensors, OWN, own[:, :DIRECTIONS] * spread)
    representations = [OWN]
    meta: dict[str, Any] = {
        "name": f"{args.set}-map", "kind": "map", "prior": prior_hash(model.prior),
        "names": shown, "label_names": label_names, "representations": representations,
    }  # fmt: skip
    if args.set == "faces":
        all_labels, _ = labels_of("faces", names, args.data, "train")
        tensors["directions"] = attribute_directions(torch.cat(every), all_labels).half()
        features = face_features(load_faces(args.data, "test").images)
        distances = torch.pdist(features)
        meta["spread"] = float(distances.median())
    for representation, rank in COMPARED.items():
        place = args.compare / f"{args.set}-fit" / f"{representation}-r{rank}"
        if not ((place / "train").is_dir() and (place / "test").is_dir()):
            continue
        weights, own_names = load_fits(place / "train")
        where = {n: i for i, n in enumerate(own_names)}
        others, other_names = load_fits(place / "test")
        points = [i for i, n in enumerate(shown[: len(keep)]) if n in where]
        if len(points) <= DIRECTIONS or other_names != unseen:
            log(f"{representation}: too few instances were fitted; left out")
            continue
        weights = weights[[where[shown[i]] for i in points]].float()
        principal = Principal.fit(weights, DIRECTIONS)
        x = torch.cat([principal(weights), principal(others.float())])
        name = representation if representation != OWN else f"{OWN} (shared start)"
        add_representation(tensors, name, x / x.std())
        if len(points) < len(keep):
            fitted = [*points, *range(len(keep), len(shown))]
            tensors[f"{name}.index"] = torch.tensor(fitted, dtype=torch.int16)
        representations.append(name)
    save_checkpoint(args.out / f"{args.set}-map.safetensors", tensors, meta)


if __name__ == "__main__":
    main()
