"""Writes what the app needs besides the models:

    python -m wsdemo.train.shapes.release shapes
    python -m wsdemo.train.shapes.release shapes-manifold

- ``SET-neighbours``: see train/release.py.
- ``SET-examples``: samples that are on screen before the first click: of ``CANDIDATES`` draws
  each, the one that PointNet-10 is surest to be what was asked for, times the
  share of its vertices in one piece.
"""

import numpy as np
import torch
from torch import Tensor

from wsdemo.analysis.point_features import POINTS, shipped_features
from wsdemo.analysis.shapes import standard_cloud
from wsdemo.checkpoints import save_checkpoint
from wsdemo.domains.domain import Domain
from wsdemo.domains.registry import DOMAINS, domain_named
from wsdemo.domains.shape_fitting import FINE
from wsdemo.domains.shapes import decode_shape, drawn_level
from wsdemo.errors import WsdemoError
from wsdemo.generate.diffusion import WeightDiffusion
from wsdemo.media.meshes import Mesh, vertex_components
from wsdemo.train.loop import log, recipe_parser, start
from wsdemo.train.release import load_model, save_neighbours
from wsdemo.train.shapes.data import SETS, set_of

EXAMPLE_SEED, EXAMPLES, CANDIDATES = 2026, 8, 4
COARSE = 32
"""Cells a side of a toy's surfaces, of which there are half as many to choose from."""


def draw_examples(domain: Domain, model: WeightDiffusion, is_toy: bool) -> Tensor:
    """EXAMPLES instances (n, D), of each category in turn."""
    names = model.attribute_names
    count, cells = (CANDIDATES // 2, COARSE) if is_toy else (CANDIDATES, FINE)
    # One of each category, while there are categories.
    wishes = [{n: n == names[i % len(names)] for n in names} for i in range(EXAMPLES)]
    condition = torch.cat([model.condition(wish, count) for wish in wishes])
    drawn = model.draw(
        EXAMPLES * count, EXAMPLE_SEED, steps=50, guidance=domain.guidance,
        attributes=condition, temperature=domain.temperature,
    )  # fmt: skip
    chosen: list[Tensor] = []
    for candidates in drawn.split(count):
        meshes = [decoded(domain, weights, model, cells) for weights in candidates]
        wish = names[len(chosen) % len(names)] if names else SETS[set_of(domain.name)][0]
        best = max(range(count), key=lambda i: likeness(meshes[i], wish))
        chosen.append(candidates[best])
    return torch.stack(chosen)


def decoded(domain: Domain, weights: Tensor, model: WeightDiffusion, cells: int) -> Mesh | None:
    """The mesh of weights (D,), if they have a surface."""
    try:
        level = drawn_level(domain.name, domain.temperature)
        return decode_shape(weights, model.adapter, cells, level=level)
    except WsdemoError as error:
        log(f"candidate left out: {error}")
        return None


@torch.no_grad()
def likeness(mesh: Mesh | None, category: str) -> float:
    """PointNet-10's probability of a category, times the largest piece's share of vertices."""
    if mesh is None:
        return 0.0
    network, known = shipped_features()
    cloud = torch.from_numpy(standard_cloud(mesh, seed=0)[None, :POINTS]).float()
    sure = network(cloud).softmax(-1)[0, known.index(category)]
    return float(sure * np.bincount(vertex_components(mesh)).max() / len(mesh.vertices))


def main(arguments: list[str] | None = None) -> None:
    parser = recipe_parser(str(__doc__), minutes=0)
    parser.add_argument("set", choices=[d.name for d in DOMAINS.values() if d.kind == "sdf"])
    args = parser.parse_args(arguments)
    start(args)
    domain = domain_named(args.set)
    model, folder = load_model(domain, args)
    save_neighbours(domain, model, folder, args.out)
    instances = draw_examples(domain, model, args.toy)
    save_checkpoint(
        args.out / f"{args.set}-examples.safetensors",
        {"instances": instances.half()},
        {"name": f"{args.set}-examples", "kind": "examples", "set": args.set, "seed": EXAMPLE_SEED},
    )
    log(f"{len(instances)} examples of {args.set}")


if __name__ == "__main__":
    main()
