"""Trains a weight diffusion model on the fits of a population (train/population.py).

The Gaussian prior is estimated first (a minute), then the network learns what the prior
leaves open, within the leading principal directions: what lies outside the prior's K is what a
fit left to chance, which nobody could learn and which would drown the rest of the loss. A network
over the first S coordinates is trained, and its loss taken, on these alone.
Conditions are dropped at random, all together or one by one, so that the
model answers with none, some or all of them given.
"""

import argparse
import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file, save
from torch import Tensor

from wsdemo.domains.domain import Domain
from wsdemo.errors import WsdemoError
from wsdemo.fields.adapters import Adapter, AdapterConfig
from wsdemo.fields.base_files import load_base
from wsdemo.files import write_whole
from wsdemo.generate.coordinates import CoordinateConfig, CoordinateNetwork
from wsdemo.generate.diffusion import WeightDiffusion, load_diffusion, save_diffusion
from wsdemo.generate.prior import GaussianPrior
from wsdemo.generate.tokens import TokenLayout
from wsdemo.generate.transformer import SUMMARY_TOKEN, TransformerConfig, WeightTransformer
from wsdemo.train.loop import Run, Training, log, recipe_parser
from wsdemo.train.population import base_file, fits_folder, load_fits

STORED_COORDINATES = 160
"""Whitened principal coordinates kept per training instance, for the memorisation check."""

Labels = Callable[[str, list[str]], Tensor]
"""Maps a split and instances' names to their conditions (n, a) in {0, 1}."""


def drop_attributes(attributes: Tensor, generator: torch.Generator) -> Tensor:
    """Sets known attributes (n, a) in {−1, 1} to 0: all in 20 % of rows, else half of them."""
    n, a = attributes.shape
    keep_row = torch.rand(n, 1, generator=generator) > 0.2
    share = torch.rand(n, 1, generator=generator)
    keep = torch.rand(n, a, generator=generator) < share
    return attributes * (keep & keep_row)


def cached_prior(path: Path, instances: Tensor, adapter: Adapter, directions: int) -> GaussianPrior:
    """The prior of the training weights, estimated once and kept."""
    if not path.exists():
        prior = GaussianPrior.fit(instances, adapter.trainable, directions)
        tensors = {k: v for k, v in vars(prior).items() if isinstance(v, Tensor)}
        rest = torch.tensor(prior.rest, dtype=torch.float64)
        write_whole(path, save({**tensors, "rest": rest}))
    stored = load_file(path)
    return GaussianPrior(
        stored["mean"], stored["std"], stored["basis"], stored["variances"], float(stored["rest"])
    )


@torch.no_grad()
def validation_loss(model: WeightDiffusion, x: Tensor, attributes: Tensor, seed: int = 1) -> float:
    """Mean loss on weights of instances that neither base nor diffusion saw, fixed noise."""
    g = torch.Generator().manual_seed(seed)
    parts = zip(x.split(64), attributes.split(64), strict=True)
    return float(torch.cat([model.loss(a, b, g) for a, b in parts]).mean())


def diffusion_parser(description: str, directions: int, width: int) -> argparse.ArgumentParser:
    """The options of a recipe that trains a weight diffusion model."""
    parser = recipe_parser(description, minutes=45)
    parser.add_argument("--base", type=Path, default=None, help="default: OUT/SET-base.safetensors")
    parser.add_argument("--representation", default="mlora-asym")
    parser.add_argument("--rank", type=int, default=8)
    parser.add_argument("--count", type=int, default=None, help="instances; default: all")
    parser.add_argument(
        "--directions", type=int, default=directions, help="K of the prior; 0: none"
    )
    parser.add_argument("--summary", type=int, default=256, help="coordinates read and written")
    parser.add_argument(
        "--coordinates",
        action=argparse.BooleanOptionalAction,
        default=False,
        help="a network over principal coordinates alone",
    )
    parser.add_argument("--width", type=int, default=width, help="of the backbone")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--name", default=None, help="of the checkpoint; default: SET-diffusion")
    parser.add_argument(
        "--keep-prior",
        action="store_true",
        help="that of the checkpoint in OUT, which neighbours, maps and others were made with",
    )
    return parser


def build_network(
    adapter: Adapter, prior: GaussianPrior, attributes: int, args: argparse.Namespace
) -> WeightTransformer | CoordinateNetwork:
    """The network that a run trains, by its options."""
    width = 64 if args.toy else args.width
    if args.coordinates:
        count = min(args.summary, prior.basis.shape[1])
        if not count:
            raise WsdemoError(
                "No coordinates",
                f"Found --directions {args.directions} and --summary {args.summary}.",
                "Give --no-coordinates for a network over plain weights.",
            )
        return CoordinateNetwork(CoordinateConfig(count, attributes, width))
    layout = TokenLayout(adapter)
    config = TransformerConfig(
        layout.layers,
        layout.per_layer,
        layout.token_dim,
        attributes,
        token_width=width // 2,
        width=width,
        depth=2 if args.toy else TransformerConfig.depth,
        summary=min(args.summary, prior.basis.shape[1]) // SUMMARY_TOKEN * SUMMARY_TOKEN,
        # An MLP's tokens are flat, as in HyperDiffusion: no hierarchy.
        flat=adapter.config.kind == "mlp",
    )
    return WeightTransformer(config)


def train_diffusion(
    domain: Domain,
    names: Sequence[str],
    labels: Labels,
    args: argparse.Namespace,
    device: torch.device,
) -> None:
    """Trains a model for the budget in ``args`` and writes it.

    Args:
        domain: Of the population and its base.
        names: The names of the condition's entries.
        labels: Conditions of instances.
        args: Of ``diffusion_parser``.
        device: Where to train.
    """
    name = args.name or f"{domain.name}-diffusion"
    base, base_meta = load_base(base_file(domain, args))
    config = AdapterConfig(args.representation, args.rank, 0)
    folder = fits_folder(args.runs, domain.name, config)
    adapter = Adapter(base, config)

    def split(which: str) -> tuple[Tensor, Tensor]:
        instances, files = load_fits(folder / which)
        instances, files = instances[: args.count].float(), files[: args.count]
        return instances, labels(which, files).float() * 2 - 1

    instances, attributes = split("train")
    if args.keep_prior:
        prior = load_diffusion(args.out / f"{name}.safetensors", base)[0].prior
    else:
        path = args.runs / f"{name}-prior.safetensors"
        prior = cached_prior(path, instances, adapter, max(1, args.directions))
    if (folder / "train-mirrored").exists():
        parts = (instances, attributes), split("train-mirrored")
        instances, attributes = (torch.cat(both) for both in zip(*parts, strict=True))
    if args.directions == 0:  # plain standardised weights, as in the papers
        empty = prior.basis[:, :0]
        prior = dataclasses.replace(prior, basis=empty, variances=prior.variances[:0], rest=1.0)
    else:
        prior = dataclasses.replace(prior, rest=0.0)
    network = build_network(adapter, prior, len(names), args).to(device)
    model = WeightDiffusion(adapter, prior, network, names)
    prior = model.prior
    parameters = sum(p.numel() for p in network.parameters())
    log(f"{name}: {len(instances)} instances, {parameters / 1e6:.1f} M parameters, {device}")
    log(f"{args.minutes} minutes; saved in {args.runs} every 90 s")

    def standardised(weights: Tensor) -> Tensor:
        x = prior.standardise(weights.to(device))
        if isinstance(network, CoordinateNetwork):
            return prior.project(x)[:, : network.config.coordinates]
        return x if args.directions == 0 else prior.project(x) @ prior.basis.T

    x = standardised(instances)
    held_out: tuple[Tensor, Tensor] | None = None
    if (folder / "validation").exists():
        unseen, conditions = split("validation")
        held_out = standardised(unseen), conditions.to(device)

    run = Run(args.runs / f"{name}.pt", args.minutes, args.steps)
    training = Training(network, run, args.rate, clip=1.0)
    if isinstance(network, CoordinateNetwork):
        learnt = GaussianPrior.of_coordinates(prior.variances[: network.config.coordinates])
        model = WeightDiffusion(adapter, learnt, network, names)
    averaged = WeightDiffusion(adapter, model.prior, training.ema.model, names)
    generator = torch.Generator().manual_seed(args.seed + run.step)

    def loss() -> Tensor:
        index = torch.randint(len(x), (args.batch,), generator=generator)
        given = drop_attributes(attributes[index], generator).to(device)
        return model.loss(x[index.to(device)], given, generator).mean()

    validate = None if held_out is None else lambda: validation_loss(averaged, *held_out)
    figures = training.to_end(loss, validate=validate)
    figures |= {"instances": len(x), "parameters": parameters, "batch": args.batch}
    averaged = WeightDiffusion(adapter, prior, training.ema.model.cpu(), names)
    meta = {
        "domain": domain.kind,
        "size": base_meta["size"],
        "name": name,
        "toy": args.toy,
        "base": {"name": base_meta["name"], "hash": base_meta["hash"]},
        "measured": figures,
    }
    save_diffusion(args.out / f"{name}.safetensors", averaged, meta)
