"""Fixtures: small fields in float64, with the arithmetic exact enough to test equalities."""

import contextlib
import time
from collections.abc import Iterator

import pytest
import torch

from wsdemo.fields.base import BaseField, FieldConfig, FrozenBase
from wsdemo.runtime import choose_threads

choose_threads(1)  # also in the processes that tests start

SMALL = FieldConfig(width=16, frequencies=6, blocks=1, latent_dim=4, mapping_width=8)


def make_base(config: FieldConfig = SMALL, seed: int = 0) -> FrozenBase:
    """A frozen float64 base with biases that are not zero."""
    g = torch.Generator().manual_seed(seed)
    field = BaseField(config, g)
    for bias in field.biases:
        bias.data.normal_(0, 0.3, generator=g)
    z = torch.randn(config.latent_dim, generator=g)
    return field.freeze(z).to("cpu", torch.float64)


@contextlib.contextmanager
def little_work(seconds: float = 5.0) -> Iterator[None]:
    """Fails what takes more seconds of a core, which other processes do not lengthen."""
    before = time.process_time()
    try:
        yield
    finally:
        assert time.process_time() - before < seconds


class Clock:
    """A clock in place of a module's ``time``, on which every look takes the same time."""

    def __init__(self, tick: float) -> None:
        self.tick, self.now = tick, 100.0

    def monotonic(self) -> float:
        self.now += self.tick
        return self.now


@pytest.fixture
def base() -> FrozenBase:
    return make_base()


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)
