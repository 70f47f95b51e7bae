"""What a form makes of a module's tensors, and how it says that they do not fit."""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Factors:
    """U (n, r) and V (m, r) before scaling; what r counts in the file; how they came about.

    Of k modules together, U (k, n, r) and V (k, m, r); of k modules of E experts each,
    (k · E, n, r), the experts of one module beside each other.

    Attributes:
        U: See above.
        V: See above.
        stored_rank: r in the file.
        shape: Of the adapted weight.
        note: How they came about, if they were no plain pair.
        kept: The share of ‖ΔW‖² that U Vᵀ holds, below 1 where columns were cut.
        is_embedding: Whether ΔW is that of an embedding, (entries, width).
        pieces: E, the experts of a module.
        doubt: Why this is not the update itself, if it is not.
    """

    U: Tensor
    V: Tensor
    stored_rank: int
    shape: tuple[int, ...]
    note: str = ""
    kept: float = 1.0
    is_embedding: bool = False
    pieces: int = 1
    doubt: str = ""


class Unusable(Exception):
    """The tensors of a module do not fit together; the text says how."""


def require(condition: bool, text: str) -> None:
    """Raises Unusable with the text unless the condition holds."""
    if not condition:
        raise Unusable(text)


def within(numbers: int, limit: int, what: str) -> None:
    """Raises Unusable if there are more numbers than the limit."""
    require(numbers <= limit, f"{what} has {numbers:,} numbers, of {limit:,} allowed")


def sides(*tensors: Tensor) -> str:
    """Shapes as a text: 12x3 and 3x10."""
    return " and ".join("x".join(map(str, t.shape)) for t in tensors)
