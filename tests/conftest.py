"""Fixtures: small fields in float64, with the arithmetic exact enough to test equalities."""

import contextlib
import os
import time
from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
from xdist.scheduler import LoadFileScheduling

from wsdemo.domains import shapes
from wsdemo.domains.registry import DOMAINS
from wsdemo.fields.base import BaseField, FieldConfig, FrozenBase
from wsdemo.runtime import choose_threads

choose_threads(1)  # also in the processes that tests start
# A token of Ray's would lie in the home folder, and one process cannot use those of two homes.
os.environ.setdefault("RAY_AUTH_MODE", "disabled")

SMALL = FieldConfig(width=16, frequencies=6, blocks=1, latent_dim=4, mapping_width=8)


FIRST = (
    "tests/browser", "tests/train/test_lol_recipes.py", "tests/train/test_pipeline.py",
    "tests/train/test_shape_recipes.py", "tests/ui/test_zero_gpu.py", "tests/ui/test_api.py",
    "tests/train/test_celeba_lora.py", "tests/test_benchmarks.py", "tests/hostile/test_writing.py",
    "tests/lora/bases", "tests/train",
)  # fmt: skip
"""What takes longest: begun first, so that no worker is left alone with it at the end."""


class LongestFirst(LoadFileScheduling):
    """A file's tests on one worker, all of tests/browser on one (they share an app)."""

    def _split_scope(self, nodeid: str) -> str:
        scope: str = super()._split_scope(nodeid)
        return "tests/browser" if scope.startswith("tests/browser/") else scope


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log) -> LongestFirst:
    config.option.loadscopereorder = False  # by number of tests, which says little of their time
    return LongestFirst(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Puts what takes longest first; within a file the order stays."""

    def place(item: pytest.Item) -> int:
        return next((i for i, n in enumerate(FIRST) if item.nodeid.startswith(n)), len(FIRST))

    items.sort(key=place)


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
def coarse_surfaces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shapes decode at 64³ where 128³ is asked for, in an eighth of the time.

    For tests of what is done with a surface, not of how fine it is.
    """
    full = shapes.sparse_grid
    monkeypatch.setattr(
        shapes, "sparse_grid", lambda field, size, *rest: full(field, min(size, 64), *rest)
    )


@pytest.fixture
def short_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fits that may take seconds take one: for tests of what is answered, not of how well."""
    for domain in DOMAINS.values():
        for name, options in domain.presets.items():
            if options.seconds > 1:
                monkeypatch.setitem(domain.presets, name, replace(options, seconds=1.0))


@pytest.fixture
def base() -> FrozenBase:
    return make_base()


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)
