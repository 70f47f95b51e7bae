"""Kinds of modules: those of one name and shape in all layers, such as q_proj of every block."""

import re
from dataclasses import dataclass

from wsdemo.lol.data.pairs import Signature

NUMBER = re.compile(r"(?:(?<=[._])|^)\d+(?=[._]|$)")
"""A number that stands for itself in a module's name; attn1 and attn2 are names."""


@dataclass(frozen=True)
class Kind:
    """Modules that differ by their layer alone.

    Attributes:
        name: Their name with # for its numbers.
        group: Of the signature's groups, the one that holds them.
        rows: Which of the group's modules.
        layers: Of each, its layer: equal numbers in names are equal layers, whatever the kind.
        shape: (n, m).
    """

    name: str
    group: int
    rows: tuple[int, ...]
    layers: tuple[int, ...]
    shape: tuple[int, int]


def kinds_of(signature: Signature) -> list[Kind]:
    """The kinds of a family's modules, in the order of its groups."""
    numbers = {name: tuple(map(int, NUMBER.findall(name))) for name in signature.shapes}
    layers = {numbered: i for i, numbered in enumerate(sorted(set(numbers.values())))}
    kinds = []
    for g, (shape, names) in enumerate(signature.groups):
        rows_of: dict[str, list[int]] = {}
        for row, name in enumerate(names):
            rows_of.setdefault(NUMBER.sub("#", name), []).append(row)
        for name, rows in rows_of.items():
            places = tuple(layers[numbers[names[row]]] for row in rows)
            kinds.append(Kind(name, g, tuple(rows), places, shape))
    return kinds


def layer_count(kinds: list[Kind]) -> int:
    """Layers of all kinds together."""
    return 1 + max(layer for kind in kinds for layer in kind.layers)
