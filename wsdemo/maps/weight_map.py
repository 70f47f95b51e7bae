"""Maps of weight space: where instances lie, and what each point decodes to.

place.py puts new instances on a map, clusters.py measures it, edit.py moves along its directions.

A map checkpoint (train/maps.py) holds, for fitted faces or shapes that the app's models were
trained on and for held-out ones, two-dimensional positions (t-SNE, PCA) and principal
coordinates of their weights for several representations, and labels. What a point decodes to
comes from the coordinates of the app's own representation.
"""

from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from wsdemo.checkpoints import load_checkpoint
from wsdemo.domains.domain import Domain
from wsdemo.domains.instances import make_instance
from wsdemo.domains.models import diffusion_of, neighbours_of
from wsdemo.domains.registry import DOMAINS, either, mapped_names
from wsdemo.errors import WsdemoError, mismatch
from wsdemo.fields.instance import Instance
from wsdemo.generate.diffusion import WeightDiffusion

OWN = "mlora-asym"
"""The app's own representation, which new points are placed by and points decoded from."""


@dataclass(frozen=True)
class WeightMap:
    """A map.

    Attributes:
        domain: Whose instances it shows.
        names: n names of instances.
        is_held_out: (n,) bool, whether no model has seen the instance.
        labels: (n, a) uint8, 0 or 1.
        label_names: The a columns: attributes, or categories.
        positions: Representation → {"t-SNE", "PCA"} → (n, 2) float; NaN for instances that were
            not fitted in it.
        coordinates: Representation → (n, K) principal coordinates of the weights, NaN likewise.
        principal: (n, c) whitened principal coordinates of the app's model, which decode.
        model: The weight diffusion model whose prior they belong to.
        directions: (a, c) change of ``principal`` per label, the other labels held, if known.
        spread: Median distance of two held-out instances in the domain's features, if it has any.
    """

    domain: Domain
    names: tuple[str, ...]
    is_held_out: Tensor
    labels: Tensor
    label_names: tuple[str, ...]
    positions: dict[str, dict[str, Tensor]]
    coordinates: dict[str, Tensor]
    principal: Tensor
    model: WeightDiffusion
    directions: Tensor | None
    spread: float

    @property
    def name(self) -> str:
        return self.domain.name

    def __len__(self) -> int:
        return len(self.names)

    @property
    def classes(self) -> Tensor:
        """(n,) of labels that exclude each other, which one each instance has."""
        return self.labels.float().argmax(1)

    def covered(self, representation: str) -> Tensor:
        """(n,) bool, which instances were fitted in a representation."""
        return self.coordinates[representation][:, 0].isfinite()

    def weights(self, index: int) -> Tensor:
        """(D,) the weights of a point, within the stored principal directions."""
        return self.model.prior.from_coordinates(self.principal[index : index + 1])[0]


def weight_map(name: str) -> WeightMap:
    """The map of a domain.

    Raises:
        WsdemoError: There is none, or it belongs to another version of the model.
    """
    if name not in mapped_names():
        raise WsdemoError(
            "Unknown map", f"Found {name[:40]!r}; expected {either(mapped_names())}.", "Choose one."
        )
    return map_of_domain(DOMAINS[name])


@cache
def map_of_domain(domain: Domain) -> WeightMap:
    """The map of a domain, read once.

    Raises:
        WsdemoError: It belongs to another version of the diffusion model.
    """
    model = diffusion_of(domain)
    tensors, meta = load_checkpoint(domain.checkpoint("map"))
    if meta["prior"] != model.prior_hash:
        raise mismatch(
            f"{domain.name}-map belongs to another version of {domain.name}-diffusion.",
            "run train/maps.py again",
        )
    stored, _ = neighbours_of(domain)
    trained = stored["coordinates"].float()[tensors["training_index"].long()]
    principal = torch.cat([trained, tensors["held_out"].float()])
    representations = meta["representations"]

    def spread_out(representation: str, key: str) -> Tensor:
        values = tensors[f"{representation}.{key}"].float()
        if f"{representation}.index" not in tensors:
            return values
        every = torch.full((len(principal), values.shape[1]), float("nan"))
        every[tensors[f"{representation}.index"].long()] = values
        return every

    return WeightMap(
        domain,
        tuple(meta["names"]),
        torch.arange(len(principal)) >= len(trained),
        tensors["labels"],
        tuple(meta["label_names"]),
        {r: {kind: spread_out(r, kind) for kind in ("t-SNE", "PCA")} for r in representations},
        {r: spread_out(r, "coordinates") for r in representations},
        principal,
        model,
        tensors["directions"].float() if "directions" in tensors else None,
        float(meta.get("spread", 1.0)),
    )


def editable_maps() -> list[WeightMap]:
    """Maps with directions to move along."""
    every = (weight_map(name) for name in mapped_names())
    return [map_ for map_ in every if map_.directions is not None]


def check_representation(map_: WeightMap, representation: str) -> None:
    """Raises WsdemoError unless a map knows a representation."""
    if representation not in map_.coordinates:
        raise WsdemoError(
            "Not on this map",
            f"Found {representation[:40]!r}; the map of {map_.name} has"
            f" {', '.join(map_.coordinates)}.",
            "Choose one of those.",
        )


def check_point(map_: WeightMap, index: int) -> None:
    """Raises WsdemoError unless a map has a point of that number."""
    if not 0 <= index < len(map_):
        raise WsdemoError(
            "No such point", f"Found {index}; the map has {len(map_):,}.", "Click a point."
        )


def point_instance(map_: WeightMap, index: int) -> Instance:
    """A point as an instance, as Fit and Sample use it."""
    check_point(map_, index)
    return make_instance(map_.domain, map_.model.adapter, map_.weights(index))
