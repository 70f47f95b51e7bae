"""The straight line between two instances, and between two by other representations.

For the latter both are fitted anew in every representation, from its shared start, as in the
comparison of their connectivity (benchmarks/connectivity.py).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch

from wsdemo.domains.domain import Domain, Original, Shown
from wsdemo.domains.instances import (
    between,
    check_ends,
    decode_one,
    domain_of,
    make_instance,
    previews,
)
from wsdemo.domains.models import adapter_of
from wsdemo.errors import check_range
from wsdemo.fields.fit import FitConfig, fit_to_end
from wsdemo.fields.instance import Instance


@dataclass(frozen=True)
class WalkStep:
    """A point of the straight path between two instances.

    Attributes:
        share: 0 at the first, 1 at the second.
        shown: What is there; None where there is nothing.
        measured: What the domain measures there, ``to_first`` and ``to_second`` among it; empty
            where there is nothing.
    """

    share: float
    shown: Shown | None
    measured: Mapping[str, float]


def shares_of(count: int) -> list[float]:
    """``count`` shares from 0 to 1."""
    return [i / (count - 1) for i in range(count)]


def walk(a: Instance, b: Instance, count: int = 9) -> Iterator[WalkStep]:
    """Walks from one instance to another through weight space.

    Args:
        a, b: The ends, of one domain.
        count: Steps, both ends included; 2 to 65.

    Raises:
        WsdemoError: The two do not mix, or an end shows nothing.
    """
    check_range("steps", count, 2, 65)
    check_ends(a, b)
    domain, shares = domain_of(a), shares_of(count)
    seen = list(previews([between(a, b, share) for share in shares]))
    first, last = (
        decode_one(end, **domain.quick) if shown is None else shown
        for end, shown in ((a, seen[0]), (b, seen[-1]))
    )
    measured = domain.walking.between(first, last)
    for share, shown in zip(shares, seen, strict=True):
        yield WalkStep(share, shown, {} if shown is None else measured(share, shown))


@dataclass(frozen=True)
class Walk:
    """What lies between two instances.

    Attributes:
        representation: Whose weights are mixed.
        shown: What is there, from the first one's fit to the second's.
        nearness: Of each step, as the domain measures it (``Walking.nearness``).
    """

    representation: str
    shown: list[Shown]
    nearness: list[float]


def walk_by_representation(domain: Domain, ends: Sequence[Shown], count: int) -> Iterator[Walk]:
    """Fits two in each representation of ``domain.walking.ranks`` and walks between their weights.

    ε(s) = (1 − s) ε₁ + s ε₂ for ``count`` shares s from 0 to 1.

    Args:
        domain: Whose instances showed the ends.
        ends: What both show.
        count: Steps along the way, both ends included.
    """
    signals = [domain.signal(Original(shown), None) for shown in ends]
    targets = torch.cat([signal.targets for signal in signals])
    for name, rank in domain.walking.ranks.items():
        adapter = adapter_of(domain, name, rank, 0)
        rate = domain.rates[adapter.config.kind]
        config = FitConfig(steps=100, points=768, learning_rate=rate)
        g = torch.Generator().manual_seed(0)
        ε = fit_to_end(adapter, signals[0].points, targets, config, g)
        a, b = (make_instance(domain, adapter, weights) for weights in ε)
        steps = list(walk(a, b, count))
        nearness = [domain.walking.nearness(step.measured) for step in steps]
        yield Walk(name, [step.shown for step in steps], nearness)
