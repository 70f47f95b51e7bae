"""Instances of any domain: made, opened, decoded, mixed, brought to canonical factors."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from wsdemo.domains.domain import Domain, Shown
from wsdemo.domains.models import diffusion_of, encoder_of
from wsdemo.domains.registry import DOMAINS, domain_of_base
from wsdemo.errors import WsdemoError
from wsdemo.fields.adapters import Adapter
from wsdemo.fields.fit import load_optimizer
from wsdemo.fields.gauges import canonicalise
from wsdemo.fields.instance import Instance, read_instance


def make_instance(
    domain: Domain, adapter: Adapter, weights: Tensor, measured: Mapping[str, float] | None = None
) -> Instance:
    """Wraps weights (D,) as an instance of a domain's base."""
    facts = {**domain.plain_facts, **(measured or {})}
    meta = domain.base[1]
    return Instance(
        adapter, weights, domain.kind, domain.base_name, meta["hash"], domain.size, facts
    )


def drawn_instance(
    domain: Domain, adapter: Adapter, weights: Tensor, temperature: float
) -> Instance:
    """Wraps weights (D,) that were drawn at a temperature."""
    return make_instance(domain, adapter, weights, domain.drawn_facts(temperature))


def domain_of(instance: Instance) -> Domain:
    """The domain that an instance belongs to."""
    return domain_of_base(instance.base_name)


def open_instance(path: Path, kind: str | None = None) -> Instance:
    """Reads an instance file of any domain.

    Args:
        path: The file.
        kind: Of the domain (``Domain.kind``), if only one is wanted.

    Raises:
        WsdemoError: See read_instance; also a base that is not shipped, or another kind.
    """
    instance = read_instance(path, lambda name: domain_of_base(name).base)
    if kind is not None and instance.domain != kind:
        expected = next(d.holds for d in DOMAINS.values() if d.kind == kind)
        raise WsdemoError(
            "Another kind of instance",
            f"This file holds {domain_of(instance).holds}; expected {expected}.",
            "Open it in the other half of the tab.",
        )
    return instance


def warm_up() -> None:
    """Loads the models that draw and fit the first domain, so that no visitor waits for them."""
    domain = next(iter(DOMAINS.values()))
    model = diffusion_of(domain)
    encoder_of(domain)
    load_optimizer()
    decode_one(make_instance(domain, model.adapter, model.draw(1, seed=0, steps=1)[0]))


# ---- decoding ----------------------------------------------------------------------


def decode(instances: Sequence[Instance], **detail: Any) -> list[Shown]:
    """What instances on one adapter show.

    Args:
        instances: Any number.
        detail: See ``Domain.detail``.

    Raises:
        WsdemoError: A value is out of range, or one of them shows nothing.
    """
    domain = domain_of(instances[0])
    shown: list[Shown] = []
    for first in range(0, len(instances), domain.batch):
        shown += domain.decode(domain, instances[first : first + domain.batch], **detail)
    return shown


def decode_one(instance: Instance, **detail: Any) -> Shown:
    """What an instance shows; see decode."""
    return decode([instance], **detail)[0]


def preview(instance: Instance) -> Shown | None:
    """What an instance shows, quickly; None while that is nothing."""
    try:
        return decode_one(instance, **domain_of(instance).quick)
    except WsdemoError:
        return None


def previews(instances: Sequence[Instance]) -> Iterator[Shown | None]:
    """What each of many instances on one adapter shows, quickly; None where that is nothing.

    As many are decoded together as their domain has in a batch.
    """
    domain = domain_of(instances[0])
    for first in range(0, len(instances), domain.batch):
        batch = instances[first : first + domain.batch]
        try:
            yield from decode(batch, **domain.quick)
        except WsdemoError:
            yield from (preview(instance) for instance in batch)


# ---- weights -----------------------------------------------------------------------


def canonical(instance: Instance) -> Instance:
    """The same field with canonical factors; unchanged where nothing is left to fix."""
    weights = canonicalise(instance.adapter, instance.weights[None])[0]
    moved = not torch.equal(weights, instance.weights)
    return dataclasses.replace(
        instance, weights=weights, is_canonical=instance.is_canonical or moved
    )


def check_fitted(instance: Instance) -> None:
    """Raises WsdemoError unless the weights are as fitted, which maps and directions know."""
    if instance.is_canonical:
        raise WsdemoError(
            "Canonical factors",
            "The file holds canonical factors, which lie elsewhere in weight space than the"
            " fitted ones that are known here.",
            "Give the file as it was fitted or drawn.",
        )


def check_ends(a: Instance, b: Instance) -> None:
    """Raises WsdemoError, naming what differs, unless the weights of two instances mix."""
    facts = [
        {
            "domain": x.domain,
            "base": f"{x.base_name} ({x.base_hash[:8]})",
            **dataclasses.asdict(x.adapter.config),
            "factors": "canonical" if x.is_canonical else "as fitted",
        }
        for x in (a, b)
    ]
    differing = [key for key in facts[0] if facts[0][key] != facts[1][key]]
    if differing:
        first, second = (", ".join(f"{key} {f[key]}" for key in differing) for f in facts)
        raise WsdemoError(
            "These two do not mix",
            f"One has {first}; the other has {second}.",
            "Fit both on one base, with the same representation, rank, seed and start; make"
            " both canonical, or none.",
        )


def between(a: Instance, b: Instance, share: float) -> Instance:
    """The instance at a share of the straight path in weight space, (1 − share) ε_a + share ε_b.

    Raises:
        WsdemoError: As check_ends.
    """
    check_ends(a, b)
    usual = {key: domain_of(a).plain_facts.get(key, 0.0) for key in domain_of(a).mixes}
    mixed = {
        key: (1 - share) * a.measured.get(key, value) + share * b.measured.get(key, value)
        for key, value in usual.items()
    }
    weights = torch.lerp(a.weights, b.weights, share)
    return dataclasses.replace(a, weights=weights, measured=mixed)
