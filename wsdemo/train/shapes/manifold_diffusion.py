"""Writes the diffusion model of a set of shapes' coordinates on their manifold:

    python -m wsdemo.train.shapes.manifold_diffusion shapes

Its denoiser is known in closed form: that of a mixture of Gaussians (generate/mixture.py), a few
for each category, of the posteriors that the manifold was trained with. Nothing is trained by
gradients here; a network beside it was not tried.
"""

import torch

from wsdemo.checkpoints import load_checkpoint
from wsdemo.domains.registry import domain_named
from wsdemo.generate.coordinates import CoordinateConfig, CoordinateNetwork
from wsdemo.generate.diffusion import WeightDiffusion
from wsdemo.generate.manifold_prior import prior_of_manifold
from wsdemo.generate.mixture import Mixture
from wsdemo.train.loop import log, recipe_parser, start
from wsdemo.train.manifold.diffusion import Points, linear_scores, save_model
from wsdemo.train.manifold.files import load_stage
from wsdemo.train.shapes.data import SETS
from wsdemo.train.shapes.manifold import posteriors_file


def main(arguments: list[str] | None = None) -> None:
    parser = recipe_parser(str(__doc__), minutes=0)
    parser.add_argument("set", choices=sorted(SETS))
    parser.add_argument("--components", type=int, default=6, help="Gaussians of each category")
    parser.add_argument("--mixed", type=int, default=128, help="coordinates they describe")
    parser.add_argument("--regular", type=float, default=0.005, help="see generate/mixture.py")
    parser.add_argument("--draws", type=int, default=8, help="of every posterior")
    args = parser.parse_args(arguments)
    start(args)
    domain = domain_named(f"{args.set}-manifold")
    stage, meta = load_stage(args.out / f"{domain.name}.safetensors")
    manifold = stage.manifold.requires_grad_(False)
    known, _ = load_checkpoint(posteriors_file(args.runs, args.set))
    points = Points(known["mean"], known["std"], known["category"])
    names = SETS[args.set] if len(SETS[args.set]) > 1 else ()
    generator = torch.Generator().manual_seed(args.seed)
    index = torch.arange(len(points)).repeat(args.draws)
    z = points.z(index, generator)
    prior = prior_of_manifold(manifold, z)
    offset, matrix = linear_scores(prior, manifold)
    mixed = min(args.mixed, len(matrix))
    components = args.components * len(points.conditions.unique())
    config = CoordinateConfig(
        len(matrix), len(names), width=8, depth=0, components=components, mixed=mixed, hears=True
    )
    network = CoordinateNetwork(config)
    network.mixture = Mixture(components, mixed, len(names)).fit(
        offset + z @ matrix, prior.variances, args.seed, points.conditions[index], args.regular
    )
    model = WeightDiffusion(manifold.adapter(), prior, network, names)
    figures = {"instances": len(points), "components": components}
    save_model(domain, model, meta, figures, args.out)
    log(f"{domain.name}-diffusion: {components} Gaussians of {len(points)} posteriors")


if __name__ == "__main__":
    main()
