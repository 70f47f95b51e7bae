"""The checkpoints of a domain as objects, loaded once a process and never changed."""

from dataclasses import dataclass
from functools import cache
from pathlib import Path

from torch import Tensor

from wsdemo.checkpoints import load_checkpoint
from wsdemo.domains.domain import Domain, Start
from wsdemo.errors import WsdemoError, mismatch
from wsdemo.fields.adapters import Adapter, AdapterConfig
from wsdemo.fields.base_files import base_at
from wsdemo.fields.encoder import AmortisedStart, load_start
from wsdemo.fields.fit import warm_start
from wsdemo.generate.diffusion import WeightDiffusion, load_diffusion


def diffusion_of(domain: Domain, device: str = "cpu") -> WeightDiffusion:
    """The weight diffusion model of a domain, its network and prior on a device."""
    return _diffusion(domain.checkpoint("diffusion"), domain.checkpoint("base"), device)


@cache
def _diffusion(path: Path, base: Path, device: str) -> WeightDiffusion:
    return load_diffusion(path, base_at(base)[0], device)[0]


@cache
def adapter_of(
    domain: Domain, representation: str, rank: int, seed: int, start: str = "spread"
) -> Adapter:
    """An adapter on the base of a domain with its shared start."""
    adapter = Adapter(domain.base[0], AdapterConfig(representation, rank, seed, start))
    if adapter.config.kind == "mlp":  # the others start at the base itself
        adapter.start = warm_start(adapter, domain.grid(domain))
    return adapter


def encoder_of(domain: Domain) -> Start:
    """The encoder of a domain, which gives mLoRA fits their start."""
    if domain.start is not None:
        return domain.start(domain)
    return _encoder(domain.checkpoint("encoder"), domain.base[1]["hash"])


@cache
def _encoder(path: Path, base_hash: str) -> AmortisedStart:
    return load_start(path, base_hash=base_hash)


# ---- neighbours ------------------------------------------------------------------


@dataclass(frozen=True)
class Neighbour:
    """The training instance whose weights lie nearest to some weights.

    Attributes:
        index: Its place in the training split.
        name: Its name in the data.
        distance: Distance of standardised weights, along the stored principal directions.
        percentile: Share of held-out instances that lie nearer to their nearest training
            instance, in %. A copy of a training instance is at 0.
        weights: (D,) its weights, from the stored principal coordinates.
    """

    index: int
    name: str
    distance: float
    percentile: float
    weights: Tensor


def neighbours_of(domain: Domain) -> tuple[dict[str, Tensor], list[str]]:
    """The stored neighbours of a domain: tensors, and the instances' names.

    Raises:
        WsdemoError: They belong to another model.
    """
    return _neighbours(domain.checkpoint("neighbours"), diffusion_of(domain).prior_hash)


@cache
def _neighbours(path: Path, prior: str) -> tuple[dict[str, Tensor], list[str]]:
    tensors, meta = load_checkpoint(path)
    if meta["prior"] != prior:
        raise mismatch(
            f"{path.stem} belongs to another version of the diffusion model.",
            "run the release recipe again",
        )
    return tensors, list(meta["names"])


def nearest_training(domain: Domain, weights: Tensor, adapter: Adapter) -> Neighbour:
    """The training instance nearest to (D,) weights: the memorisation check.

    Raises:
        WsdemoError: The weights are of another representation than the training instances.
    """
    model = diffusion_of(domain)
    if adapter.config != model.adapter.config:
        raise WsdemoError(
            "No neighbours for this representation",
            f"Training {domain.many} are stored as {model.adapter.config.representation} of rank"
            f" {model.adapter.config.rank}; found {adapter.config.representation} of rank"
            f" {adapter.config.rank}.",
            "Fit with the default representation.",
        )
    tensors, names = neighbours_of(domain)
    stored = tensors["coordinates"].float()
    coordinates = model.prior.coordinates(weights[None], stored.shape[1])
    # Principal coordinates weighted by their spread: plain distance of weights, in the span.
    spread = model.prior.variances[: stored.shape[1]].sqrt()
    distances = ((stored - coordinates) * spread).norm(dim=1)
    index = int(distances.argmin())
    distance = float(distances[index])
    percentile = 100 * float((tensors["held_out_distances"] < distance).float().mean())
    nearest = model.prior.from_coordinates(stored[index : index + 1])[0]
    return Neighbour(index, names[index], distance, percentile, nearest)


def examples_of(domain: Domain) -> Tensor:
    """Samples that were drawn beforehand: (n, D) weights."""
    return load_checkpoint(domain.checkpoint("examples"))[0]["instances"].float()
