"""A LoRA read once: its factors, their measures and their singular vectors.

Passport, geometry, predictions, evidence, dose curves, re-gauging and resizing all take a
``Reading``; the file is opened once, and each module is measured once and decomposed at most once.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from torch import Tensor

from wsdemo.limits import MAX_HELD_FACTORS
from wsdemo.lora.decomposition import factored
from wsdemo.lora.geometry import Geometry, measure, read_and_measure
from wsdemo.lora.modules import Lora, LoraModule
from wsdemo.lora.reader import read_lora
from wsdemo.runtime import one_thread


@dataclass(frozen=True)
class Decomposition:
    """The thin singular value decomposition of one update, U Vᵀ = left diag(s) rightᵀ.

    Attributes:
        left: (n, k) float32, orthonormal columns; k = min(r, n, m).
        s: (k,) float64, descending.
        right: (m, k) float32, orthonormal columns.
    """

    left: Tensor
    s: Tensor
    right: Tensor


@dataclass(frozen=True)
class Reading:
    """A LoRA and what was measured of it.

    Attributes:
        lora: With its factors, unless they take more than MAX_HELD_FACTORS: then their shapes
            alone (on torch's device "meta").
        geometry: Of its modules, in their order.
        path: The file, which is read again where factors are needed that are not held.
        config: Its adapter_config.json, as it was given.
    """

    lora: Lora
    geometry: Geometry
    path: Path | None = None
    config: Mapping[str, Any] | None = None

    @classmethod
    def of(cls, lora: Lora) -> "Reading":
        """Measures a LoRA that is at hand."""
        return cls(lora, measure(lora))

    @property
    def has_factors(self) -> bool:
        """Whether the factors themselves are held."""
        return all(m.U.device.type != "meta" for m in self.lora.modules)

    @property
    def factor_bytes(self) -> int:
        """Bytes that the factors take, or would."""
        return sum(4 * (m.U.numel() + m.V.numel()) for m in self.lora.modules)

    def whole(self) -> Lora:
        """The LoRA with its factors, read again if they are not held.

        Raises:
            WsdemoError: As ``read_lora``; the file may be gone.
        """
        if self.has_factors or self.path is None:
            return self.lora
        return read_lora(self.path, self.config)

    def decomposed(self) -> Lora:
        """The same LoRA from other factors: U = left diag(s), V = right, in order of size."""
        pairs = zip(self.lora.modules, self.decompositions, strict=True)
        modules = (replace(m, U=d.left * d.s.float(), V=d.right) for m, d in pairs)
        return replace(self.lora, modules=tuple(modules))

    @cached_property
    def decompositions(self) -> tuple[Decomposition, ...]:
        """One a module, in the order of the LoRA."""
        with one_thread():
            return tuple(decomposed(m) for m in self.whole().modules)


def decomposed(module: LoraModule) -> Decomposition:
    """Decomposes one update in float64."""
    left, s, right = factored(module.U.double(), module.V.double())
    return Decomposition(left.float(), s, right.float())


def read(path: Path, config: Mapping[str, Any] | None = None) -> Reading:
    """Reads and measures a file, once.

    Args:
        path: The file.
        config: PEFT's adapter_config.json; default: the one beside the file, if any.

    Raises:
        WsdemoError: As ``read_lora``.
    """
    if path.stat().st_size > MAX_HELD_FACTORS:
        return Reading(*read_and_measure(path, config), path, config)
    lora = read_lora(path, config)
    reading = Reading(lora, measure(lora), path, config)
    if reading.factor_bytes > MAX_HELD_FACTORS:  # half precision, or factors that were expanded
        return replace(reading, lora=_without_factors(lora))
    return reading


def _without_factors(lora: Lora) -> Lora:
    modules = tuple(replace(m, U=m.U.to("meta"), V=m.V.to("meta")) for m in lora.modules)
    return replace(lora, modules=modules)
