"""Meshes for the recipes: categories, split, stretched copies, signed distances.

The recipes read a folder that holds either archives (``*.npz`` with ``verts``, ``faces``,
``voff``, ``foff``, ``names`` as "category/name", ``split``) or one folder of mesh files a
category. Signed distances are sampled once, in parallel, and kept in ``runs/shapes-samples``:

    python -m wsdemo.train.shapes.data --data MESHES --workers 2
"""

import math
import os
import zlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from wsdemo.errors import WsdemoError
from wsdemo.fields.signal import sdf_to_signal
from wsdemo.media.meshes import Mesh, normalise
from wsdemo.media.sdf import GRID, SdfSamples, grid_points, sample_sdf
from wsdemo.train.loop import log, recipe_parser, start

CATEGORIES = (
    "airplane", "car", "chair", "gun", "guitar", "humanoid", "lamp", "sofa", "table", "vessel",
)  # fmt: skip
"""The ten classes, in the order of the condition's entries."""
RENAMED = {"sofa_bench": "sofa"}
SETS = {"airplane": ("airplane",), "shapes": CATEGORIES}
"""What a model is trained on: its name and its categories."""
COPIES = {"airplane": 5, "shapes": 1}
"""Stretched copies of every training mesh, since there are few."""
STRETCH = 0.2
"""Copies are scaled by 1 ± this along each axis."""
VALIDATION_SHARE = 20
"""One in so many meshes of the collection's training split is for validation instead."""


def set_of(domain: str) -> str:
    """The set that the models of a domain are trained on, whichever their generation."""
    return domain.removesuffix("-manifold")


@dataclass(frozen=True)
class NamedMesh:
    """A mesh of the collection, normalised."""

    name: str
    category: str
    split: str
    mesh: Mesh


@dataclass(frozen=True)
class Shapes:
    """Signed distances of a split.

    Attributes:
        names: n names, "category/name" or, for a stretched copy, "category/name+k".
        categories: (n,) long, index into the set's categories.
        grids: (n, GRID, GRID, GRID) float16.
        points: (n, P, 3) float16.
        distances: (n, P) float16.
    """

    names: tuple[str, ...]
    categories: Tensor
    grids: Tensor
    points: Tensor
    distances: Tensor

    def __len__(self) -> int:
        return len(self.names)

    def pick(self, index: Sequence[int]) -> "Shapes":
        """Some of the shapes, in the given order."""
        chosen = torch.as_tensor(list(index), dtype=torch.long)
        return Shapes(
            tuple(self.names[i] for i in index),
            self.categories[chosen],
            self.grids[chosen],
            self.points[chosen],
            self.distances[chosen],
        )


def signals(
    shapes: Shapes, index: Tensor, near: int, volume: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Random points of shapes (n,): ``near`` the surface, and ``volume`` nodes of the grid.

    Returns:
        (n, near + volume, 3) points and (n, near + volume, 1) field values in [-1, 1].
    """
    n, count = len(index), shapes.points.shape[1]
    rows = index[:, None]
    close = torch.randint(count, (n, near), generator=generator)
    nodes = torch.randint(GRID**3, (n, volume), generator=generator)
    grid = torch.from_numpy(grid_points(GRID)).float()
    points = torch.cat([shapes.points[rows, close].float(), grid[nodes]], 1)
    distances = torch.cat([shapes.distances[rows, close], shapes.grids.flatten(1)[rows, nodes]], 1)
    return points, sdf_to_signal(distances)[..., None]


def _training_split(name: str) -> str:
    return "validation" if zlib.crc32(name.encode()) % VALIDATION_SHARE == 1 else "train"


def _archives(folder: Path) -> Iterator[NamedMesh]:
    for path in sorted(folder.glob("*.npz")):
        with np.load(path) as z:
            verts, faces, voff, foff = z["verts"], z["faces"], z["voff"], z["foff"]
            names, splits = z["names"], z["split"]
        for i, name in enumerate(names.tolist()):
            category = RENAMED.get(name.split("/")[0], name.split("/")[0])
            v = verts[voff[i] : voff[i + 1]].astype(np.float64) / 32767.5 - 1
            f = faces[foff[i] : foff[i + 1]].astype(np.int64)
            split = _training_split(name) if splits[i] == "train" else "test"
            yield NamedMesh(name, category, split, normalise(Mesh(v, f))[0])


def _folders(folder: Path) -> Iterator[NamedMesh]:
    from wsdemo.media.mesh_files import READABLE, open_mesh  # trimesh, only where it is needed

    kinds = {f".{kind}" for kind in READABLE}
    for path in sorted(p for p in folder.glob("*/*") if p.suffix.lower() in kinds):
        name = f"{path.parent.name}/{path.stem}"
        held_out = zlib.crc32(name.encode()) % 10 == 0
        split = "test" if held_out else _training_split(name)
        category = RENAMED.get(path.parent.name, path.parent.name)
        yield NamedMesh(name, category, split, normalise(open_mesh(path)[0])[0])


def load_meshes(folder: Path | None, categories: Sequence[str], split: str) -> list[NamedMesh]:
    """The meshes of some categories and one split (``train``, ``validation``, ``test``), in order.

    Raises:
        WsdemoError: There are none.
    """
    meshes = []
    if folder is not None and folder.is_dir():
        source = _archives if any(folder.glob("*.npz")) else _folders
        meshes = [m for m in source(folder) if m.category in categories and m.split == split]
    if not meshes:
        raise WsdemoError(
            "No meshes found",
            f"{folder} holds no {split} meshes of {', '.join(categories)}.",
            "Pass --data with a folder of archives, or of one folder of meshes a category.",
        )
    return meshes


def stretched(item: NamedMesh, copy: int) -> NamedMesh:
    """Copy ``copy`` of a mesh, each axis scaled by a factor of its own; 0 is the mesh itself."""
    if copy == 0:
        return item
    name = f"{item.name}+{copy}"
    factors = 1 + STRETCH * np.random.default_rng(zlib.crc32(name.encode())).uniform(-1, 1, 3)
    mesh = normalise(Mesh(item.mesh.vertices * factors, item.mesh.faces))[0]
    return NamedMesh(name, item.category, item.split, mesh)


def _sampled(job: tuple[Mesh, Path]) -> SdfSamples:
    return sample_sdf(job[0], cache=job[1], most=math.inf)  # a collection is kept whole


def load_shapes(
    data: Path | None, name: str, split: str, cache: Path, workers: int = 1, copies: bool = True,
    count: int | None = None,
) -> Shapes:  # fmt: skip
    """Samples, or reads from the cache, the signed distances of a set's split.

    Args:
        data: Folder of meshes.
        name: A key of SETS.
        split: ``train`` (with its stretched copies, unless told), ``validation`` or ``test``.
        cache: Folder of samples.
        workers: Processes.
        copies: Whether there are stretched copies; they stand behind all meshes as they are.
        count: The first so many; default: all.
    """
    categories = SETS[name]
    extra = COPIES[name] if copies and split == "train" else 0
    items = load_meshes(data, categories, split)
    items = [stretched(item, copy) for copy in range(extra + 1) for item in items][:count]
    jobs = [(item.mesh, cache) for item in items]
    if workers > 1:
        os.environ["IGL_NUM_THREADS"] = "1"
        with ProcessPoolExecutor(workers) as pool:
            results = []
            for samples in pool.map(_sampled, jobs, chunksize=4):
                results.append(samples)
                if len(results) % 100 == 0:
                    log(f"{name} {split}: {len(results)} of {len(jobs)} meshes sampled")
    else:
        results = [_sampled(job) for job in jobs]
    return Shapes(
        tuple(item.name for item in items),
        torch.tensor([categories.index(item.category) for item in items]),
        torch.from_numpy(np.stack([s.grid for s in results])),
        torch.from_numpy(np.stack([s.points for s in results])),
        torch.from_numpy(np.stack([s.distances for s in results])),
    )


def shape_labels(names: list[str]) -> tuple[Tensor, list[str]]:
    """(n, 10) categories of shapes by name, one each, and the columns' names."""
    categories = [n.split("/")[0] for n in names]
    index = torch.tensor([CATEGORIES.index(RENAMED.get(c, c)) for c in categories])
    return torch.nn.functional.one_hot(index, len(CATEGORIES)).to(torch.uint8), list(CATEGORIES)


def toy_shapes(count: int, seed: int = 0) -> Shapes:
    """Made-up shapes (ellipsoids and boxes, two categories) with true distances.

    They let every recipe run in seconds without data; no shipped figure uses them.
    """
    rng = np.random.default_rng(seed)
    grid = grid_points(GRID)
    rows = []
    for i in range(count):
        half = rng.uniform(0.3, 0.85, 3)
        points = np.concatenate([grid, rng.uniform(-1, 1, (20_000, 3))])
        if i % 2:  # an exact box, a first-order ellipsoid
            q = np.abs(points) - half
            d = np.linalg.norm(np.maximum(q, 0), axis=1) + np.minimum(q.max(1), 0)
        else:
            k = np.linalg.norm(points / half, axis=1)
            d = k * (k - 1) / np.maximum(np.linalg.norm(points / half**2, axis=1), 1e-9)
        near = GRID**3 + np.argsort(np.abs(d[GRID**3 :]))[:2048]
        rows.append((d[: GRID**3].reshape(GRID, GRID, GRID), points[near], d[near]))
    return Shapes(
        tuple(f"{CATEGORIES[i % 2]}/toy{i:04d}" for i in range(count)),
        torch.arange(count) % 2,
        torch.from_numpy(np.stack([r[0] for r in rows])).half(),
        torch.from_numpy(np.stack([r[1] for r in rows])).half(),
        torch.from_numpy(np.stack([r[2] for r in rows])).half(),
    )


def toy_mesh() -> Mesh:
    """A cube."""
    corners = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)], float)
    sides = [[0, 1, 3, 2], [4, 6, 7, 5], [0, 4, 5, 1], [2, 3, 7, 6], [0, 2, 6, 4], [1, 5, 7, 3]]
    faces = [face for a, b, c, d in sides for face in ([a, b, c], [a, c, d])]
    return normalise(Mesh(corners, np.array(faces)))[0]


def main(arguments: list[str] | None = None) -> None:
    parser = recipe_parser(str(__doc__), minutes=0)
    parser.add_argument("--data", type=Path, help="folder of meshes")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    args = parser.parse_args(arguments)
    start(args)
    if args.toy:  # whose recipes sample nothing: it comes from toy_shapes
        sample_sdf(toy_mesh(), cache=args.runs / "shapes-samples")
        return
    for name in reversed(SETS):  # the ten categories hold the airplanes too
        for split in ("train", "validation", "test"):
            shapes = load_shapes(args.data, name, split, args.runs / "shapes-samples", args.workers)
            log(f"{name} {split}: {len(shapes)} shapes, {len(shapes.distances[0]):,} points each")


if __name__ == "__main__":
    main()
