"""Two updates in one word: the same, a copy, reinforcing, cancelling, independent.

Two random updates of one shape are never quite orthogonal. Of random column spaces of r and s
dimensions in n, the squared cosines between them sum to r s / n on average, and ⟨A, B⟩ varies by
‖A‖ ‖B‖ / (n m)^½: what is found is told as a multiple of that.
"""

from collections.abc import Sequence
from dataclasses import dataclass

SAME = 0.999
"""Cosine from which two updates are one, up to strength: what bfloat16 rounds away is less."""
RATIO = 0.01
"""How much two norms may differ and still be called equal."""
WITHIN = 0.99
"""Share of a copy's directions that lie in those of the original."""
MARKED = 0.03
"""Cosine below which nothing of one shows in the other, however sure it is."""
DEVIATIONS = 6.0
"""Standard deviations from chance that no two unrelated LoRAs reach."""


@dataclass(frozen=True)
class Alike:
    """What two modules have in common.

    Attributes:
        dot: ⟨ΔW_a, ΔW_b⟩.
        norms: ‖ΔW_a‖ and ‖ΔW_b‖.
        sides: (n, m) of the weight.
        ranks: Of both.
        outputs: Σ of the squared cosines between their column spaces.
        inputs: The same of their row spaces.
        best: The most of ‖ΔW‖² that as many ranks as the other has can hold, of both.
    """

    dot: float
    norms: tuple[float, float]
    sides: tuple[int, int]
    ranks: tuple[int, int]
    outputs: float
    inputs: float
    best: tuple[float, float] = (0.0, 0.0)

    @property
    def over_chance(self) -> float:
        """Overlap of the spaces as a multiple of that of random ones, outputs and inputs meant."""
        r = self.ranks[0] * self.ranks[1]
        if r == 0:
            return 0.0
        n, m = self.sides
        return (self.outputs * n / r * self.inputs * m / r) ** 0.5


@dataclass(frozen=True)
class Verdict:
    """A word, a sentence, and the overlap that it rests on.

    Attributes:
        word: ``same``, ``rescaling``, ``shrunk copy``, ``reinforcing``, ``cancelling``,
            ``independent`` or ``no effect``.
        sentence: What it means here.
        overlap: Of their directions, as a multiple of chance; weighted by the norms.
    """

    word: str
    sentence: str
    overlap: float


def judge(modules: Sequence[Alike], cosine: float, ratio: float, share_of_a: float) -> Verdict:
    """The verdict on B as seen from A.

    Args:
        modules: Those that both have.
        cosine: Over all modules.
        ratio: ‖B‖ / ‖A‖.
        share_of_a: Of ‖A‖² in the modules that both have.
    """
    weights = [m.norms[0] * m.norms[1] for m in modules]
    total = sum(weights)
    overlap = (
        sum(w * m.over_chance for w, m in zip(weights, modules, strict=True)) / total
        if total > 0
        else 0.0
    )
    overlap_text = f"their directions overlap {overlap:.3g} times as much as by chance"
    if total <= 0:
        return Verdict("no effect", "One of them changes nothing.", overlap)
    if cosine > SAME:
        if abs(ratio - 1) <= RATIO:
            return Verdict("same", "The same update.", overlap)
        return Verdict("rescaling", f"The second is the first at {ratio:.3g} times its strength.",
                       overlap)  # fmt: skip
    if _is_shrunk(modules, ratio, share_of_a):
        smaller, larger = ("second", "first") if ratio <= 1 else ("first", "second")
        return Verdict(
            "shrunk copy",
            f"The {smaller} is the {larger} with fewer ranks or modules: {cosine**2:.1%} of its"
            " energy.",
            overlap,
        )
    spread = sum((w**2 / (m.sides[0] * m.sides[1]) for w, m in zip(weights, modules, strict=True)))
    deviations = sum(m.dot for m in modules) / max(spread, 1e-300) ** 0.5
    if abs(cosine) >= MARKED and abs(deviations) >= DEVIATIONS:
        word = "reinforcing" if cosine > 0 else "cancelling"
        what = "pull the same way" if cosine > 0 else "work against each other"
        return Verdict(word, f"They {what} (cosine {cosine:.3f}); {overlap_text}.", overlap)
    return Verdict("independent", f"Neither helps nor hinders the other (cosine {cosine:.3f});"
                   f" {overlap_text}.", overlap)  # fmt: skip


def _is_shrunk(modules: Sequence[Alike], ratio: float, share_of_a: float) -> bool:
    """Whether the smaller is the larger cut to fewer ranks, in every module that it has.

    Then ⟨A, B⟩ = ‖B‖², its directions lie in the larger's, and no other update of so few ranks
    holds more of the larger.
    """
    small, large = (1, 0) if ratio <= 1 else (0, 1)
    if small == 0 and share_of_a < 1 - 1e-6:
        return False
    alive = [m for m in modules if m.norms[small] > 0]
    square = sum(m.norms[small] ** 2 for m in alive)
    dot = sum(m.dot for m in alive)
    if square <= 0 or abs(dot / square - 1) > RATIO:
        return False
    if square < (1 - RATIO) * sum(m.best[large] for m in alive):
        return False
    weight = sum(m.norms[small] ** 2 * min(m.outputs, m.inputs) / m.ranks[small] for m in alive)
    return weight / square > WITHIN and all(m.ranks[small] <= m.ranks[large] for m in alive)
