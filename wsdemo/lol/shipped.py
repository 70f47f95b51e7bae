"""The predictors that ship, and others that a visitor brings."""

from collections.abc import Sequence
from functools import cache
from pathlib import Path

from wsdemo.checkpoints import DIRECTORY
from wsdemo.lol.predictor import Predictor, load_predictor


@cache
def shipped_predictors() -> tuple[Predictor, ...]:
    """Every ``lol-*.safetensors`` among the checkpoints."""
    return tuple(load_predictor(path) for path in sorted(DIRECTORY.glob("lol-*.safetensors")))


def known_predictors(own: Sequence[Path] = ()) -> list[Predictor]:
    """Predictors from files or folders, before the shipped ones."""
    return [*(load_predictor(path) for path in own), *shipped_predictors()]
