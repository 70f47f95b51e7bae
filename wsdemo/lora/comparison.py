"""How alike two LoRAs are, without their base and without multiplying them out."""

from dataclasses import dataclass

import torch
from torch import Tensor

from wsdemo.errors import WsdemoError
from wsdemo.lora.geometry import NEGLIGIBLE, singular_values
from wsdemo.lora.modules import Lora, LoraModule
from wsdemo.lora.names import aligned
from wsdemo.lora.verdict import Alike, Verdict, judge


@dataclass(frozen=True)
class ModuleComparison:
    """One module of two LoRAs.

    Attributes:
        name: Of the module, as the first LoRA spells it.
        cosine: ⟨ΔW_a, ΔW_b⟩ / (‖ΔW_a‖ ‖ΔW_b‖), 0 if one is zero.
        output_angle: Mean cosine of the principal angles between the columns of U_a and U_b.
        input_angle: The same for V.
    """

    name: str
    cosine: float
    output_angle: float
    input_angle: float


@dataclass(frozen=True)
class Comparison:
    """Two LoRAs side by side.

    Attributes:
        modules: Those that both have, with equal shapes.
        only_first: Names that only the first has.
        only_second: Names that only the second has.
        cosine: Over all modules together, absent ones counting as zero; of what was read where
            an update was cut.
        ratio: ‖ΔW_b‖ / ‖ΔW_a‖.
        verdict: The same in a word and a sentence.
    """

    modules: tuple[ModuleComparison, ...]
    only_first: tuple[str, ...]
    only_second: tuple[str, ...]
    cosine: float
    ratio: float
    verdict: Verdict

    @property
    def ancestry(self) -> str:
        """A hint of a common origin, in a sentence. A hint: no proof either way.

        Training moves A little from its random start and B from zero, so two LoRAs from one
        start share their input directions far beyond chance, whatever they have learnt.
        """
        alive = [m for m in self.modules if m.output_angle > 0]
        if not alive:
            return "One of them changes nothing, so nothing can be said of their origin."
        inputs = sum(m.input_angle for m in alive) / len(alive)
        if self.cosine > 0.999:
            return "The same update, up to its strength."
        if self.cosine > 0.7:
            return "Very alike: one may continue the other, or be a step of the same training."
        if inputs > 0.8:
            return (
                f"They share their input directions (mean cosine {inputs:.2f}) and not their"
                " updates: probably trained from one random start."
            )
        return "No sign of a common origin."


def inner(a: LoraModule, b: LoraModule) -> float:
    """⟨U_a V_aᵀ, U_b V_bᵀ⟩ = Σ (U_aᵀ U_b) ⊙ (V_aᵀ V_b): O((n + m) r_a r_b)."""
    left, right = a.U.double().T @ b.U.double(), a.V.double().T @ b.V.double()
    return float((left * right).sum())


def principal_cosines(a: Tensor, b: Tensor) -> tuple[Tensor, tuple[int, int]]:
    """Between the column spaces of (n, r) and (n, s): the cosines of the principal angles.

    Returns:
        The cosines, (min of the dimensions,), and the dimensions of both spaces.
    """

    def basis(x: Tensor) -> Tensor:
        left, s, _ = torch.linalg.svd(x.double(), full_matrices=False)
        return left[:, s > s[:1] * NEGLIGIBLE]

    Qa, Qb = basis(a), basis(b)
    return torch.linalg.svdvals(Qa.T @ Qb).clamp(max=1), (Qa.shape[1], Qb.shape[1])


def compare_modules(x: LoraModule, y: LoraModule) -> tuple[ModuleComparison, Alike]:
    """One module of two LoRAs."""
    dot, nx, ny = inner(x, y), inner(x, x) ** 0.5, inner(y, y) ** 0.5
    sides = (len(x.U), len(x.V))
    if not (nx > 0 and ny > 0):
        return ModuleComparison(x.name, 0.0, 0.0, 0.0), Alike(0.0, (nx, ny), sides, (0, 0), 0, 0)
    (left, ranks), (right, others) = principal_cosines(x.U, y.U), principal_cosines(x.V, y.V)
    dimensions = (min(ranks[0], others[0]), min(ranks[1], others[1]))
    row = ModuleComparison(
        x.name, max(-1.0, min(1.0, dot / (nx * ny))), float(left.mean()), float(right.mean())
    )
    squares = float(left.square().sum()), float(right.square().sum())
    best = (_best(x, dimensions[1]), _best(y, dimensions[0]))
    return row, Alike(dot, (nx, ny), sides, dimensions, *squares, best)


def _best(module: LoraModule, rank: int) -> float:
    """The most of ‖ΔW‖² that so many ranks can hold."""
    (s,) = singular_values([(module.U[None], module.V[None])])
    return float(s[:rank].square().sum())


def compare(a: Lora, b: Lora) -> Comparison:
    """Compares two LoRAs module by module, in any program's spelling of their names.

    Modules that one of them fuses (``qkv``) are split by their base's table.

    Raises:
        WsdemoError: They share no module of equal shape, or one multiplies and one adds.
    """
    if a.kind != b.kind:
        raise WsdemoError(
            "These two do not compare",
            f"One is {a.kind}, the other {b.kind}.",
            "Compare adapters of the same kind.",
        )
    first, second = aligned([a, b])
    shared = [n for n in first if n in second and _sides(first[n]) == _sides(second[n])]
    if not shared:
        raise WsdemoError(
            "These two do not compare",
            f"They share no module: one has {_example(a)}, the other {_example(b)}.",
            "Compare LoRAs of the same base model.",
        )
    compared = [compare_modules(first[name], second[name]) for name in shared]
    rows, alike = zip(*compared, strict=True)
    product, shared_names = sum(m.dot for m in alike), set(shared)
    norm_a, norm_b = (sum(inner(m, m) for m in x.values()) ** 0.5 for x in (first, second))
    whole_a, whole_b = (
        sum(inner(m, m) / m.kept for m in x.values()) ** 0.5 for x in (first, second)
    )
    known = norm_a > 0 and norm_b > 0
    cosine = max(-1.0, min(1.0, product / (norm_a * norm_b))) if known else 0.0
    ratio = whole_b / whole_a if norm_a > 0 else float("inf")
    share = sum(m.norms[0] ** 2 for m in alike) / norm_a**2 if norm_a > 0 else 0.0
    return Comparison(
        tuple(rows),
        tuple(sorted(m.name for name, m in first.items() if name not in shared_names)),
        tuple(sorted(m.name for name, m in second.items() if name not in shared_names)),
        cosine,
        ratio,
        judge(alike, cosine, ratio, share),
    )


def _sides(module: LoraModule) -> tuple[int, int]:
    return len(module.U), len(module.V)


def _example(lora: Lora) -> str:
    """A module's name, and the base if it is known."""
    base = f" (for {lora.base.name[:60]})" if lora.base.name else ""
    return f"{lora.modules[0].name[:60]!r}{base}"
