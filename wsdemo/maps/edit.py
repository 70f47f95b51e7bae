"""Instances moved along directions of weight space: one label changed, the others held."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from wsdemo.domains.domain import Shown
from wsdemo.domains.instances import check_fitted, decode, make_instance
from wsdemo.errors import WsdemoError, check_range
from wsdemo.fields.instance import Instance
from wsdemo.maps.weight_map import WeightMap


def edit(
    map_: WeightMap, instance: Instance, attribute: str, strength: float, is_debiased: bool = True
) -> Tensor:
    """(D,) weights of an instance moved along an attribute's direction in weight space.

    ε′ = ε + s · d, where d is the change of the weights from an instance without to one with
    the label, the others held fixed (least squares over the training instances).

    Args:
        map_: A map with directions.
        instance: What to edit: the map's representation on the map's base.
        attribute: One of the map's labels.
        strength: s; 1 is the mean difference between instances with and without.
        is_debiased: Whether the other attributes are held fixed; else the plain difference of
            the two means.

    Raises:
        WsdemoError: Unknown attribute, another representation, canonical factors, or a strength
            beyond 5.
    """
    check_range("strength", strength, -5, 5)
    if map_.directions is None or attribute not in map_.label_names:
        raise WsdemoError(
            "Unknown attribute",
            f"Found {attribute[:40]!r}; expected one of {', '.join(map_.label_names)}.",
            "Choose one of those.",
        )
    if instance.adapter.config != map_.model.adapter.config or instance.domain != map_.domain.kind:
        config, fitted = map_.model.adapter.config, instance.adapter.config
        raise WsdemoError(
            "Cannot be edited",
            f"The instance is {fitted.representation} of rank {fitted.rank} (seed {fitted.seed},"
            f" start {fitted.start}) on {instance.base_name}; directions are known for"
            f" {config.representation} of rank {config.rank} (seed {config.seed}, start"
            f" {config.start}) on {map_.domain.base_name}.",
            f"Fit the {map_.domain.one} as the training {map_.domain.many} were (--comparable,"
            " or that preset).",
        )
    check_fitted(instance)
    a = map_.label_names.index(attribute)
    if is_debiased:
        d = map_.directions[a]
    else:
        seen, y = ~map_.is_held_out, map_.labels[:, a].bool()
        d = map_.principal[seen & y].mean(0) - map_.principal[seen & ~y].mean(0)
    prior = map_.model.prior
    moved = prior.from_coordinates(strength * d[None])[0] - prior.restore(torch.zeros(1, 1))[0]
    return instance.weights + moved


@dataclass(frozen=True)
class Edited:
    """An instance that was moved, and how far that moved who it shows.

    Attributes:
        instance: The new one.
        before, after: What both show.
        identity_change: Distance in the domain's features, as a share of the median distance of
            two instances.
    """

    instance: Instance
    before: Shown
    after: Shown
    identity_change: float


def edited(
    map_: WeightMap, instance: Instance, attribute: str, strength: float, is_debiased: bool = True
) -> Edited:
    """Moves an instance and shows both; see edit."""
    weights = edit(map_, instance, attribute, strength, is_debiased)
    before, after = decode([instance, replace(instance, weights=weights)])
    features = map_.domain.features
    assert features is not None  # directions are made together with the spread in features
    feature_before, feature_after = features([before, after])
    moved = make_instance(map_.domain, instance.adapter, weights)
    return Edited(
        moved, before, after, float((feature_before - feature_after).norm()) / map_.spread
    )
