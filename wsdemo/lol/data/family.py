"""What makes LoRAs one family: modules of the same shapes, one kind of update, one base model."""

from collections import Counter
from collections.abc import Sequence

from wsdemo.errors import WsdemoError
from wsdemo.lol.data.pairs import Signature, sides
from wsdemo.lora.modules import Lora
from wsdemo.lora.names import by_canonical_name

APART = "Train one predictor per base model: put each family in a folder of its own."


def union_signature(loras: Sequence[Lora], where: str) -> Signature:
    """All modules of all LoRAs, as the first file spells them.

    A LoRA without one of them has a zero update there.

    Raises:
        WsdemoError: Two LoRAs disagree on a module's shape, or share no module: two families.
    """
    shapes: dict[str, tuple[int, int]] = {}
    spellings: dict[str, str] = {}
    sets: Counter[frozenset[str]] = Counter()
    for lora in loras:
        modules = by_canonical_name(lora)
        sets[frozenset(modules)] += 1
        for name, module in modules.items():
            spelling = spellings.setdefault(name, module.name)
            if shapes.setdefault(spelling, sides(module)) != sides(module):
                raise WsdemoError(
                    "Mixed families",
                    f"In {where}, {module.name[:60]} is {shapes[spelling]} in some LoRAs and"
                    f" {sides(module)} in others.",
                    APART,
                )
    largest = max(sets, key=len)
    apart = sum(n for adapted, n in sets.items() if not largest & adapted)
    if apart:
        raise WsdemoError(
            "Mixed families",
            f"{apart} of {len(loras)} LoRAs in {where} share no module with the others.",
            APART,
        )
    return Signature(dict(sorted(shapes.items())))


def one_kind(loras: Sequence[Lora], where: str) -> str:
    """``additive`` or ``multiplicative``.

    Raises:
        WsdemoError: Some LoRAs are of the one kind and some of the other.
    """
    kinds = Counter(m.kind for lora in loras for m in {m.kind: m for m in lora.modules}.values())
    if len(kinds) > 1:
        listed = ", ".join(f"{n} are {kind}" for kind, n in kinds.most_common())
        raise WsdemoError(
            "Mixed families",
            f"Of {len(loras)} LoRAs in {where}, {listed}.",
            "Products that are added and products that multiply do not mix: train one predictor"
            " for each.",
        )
    return next(iter(kinds))


def named_base(lora: Lora) -> str:
    """The base model that a file names; empty if nothing but its keys speaks of one."""
    evidence = lora.base.evidence
    is_a_guess = bool(evidence) and all(source == "keys and shapes" for source, _ in evidence)
    return "" if is_a_guess else lora.base.name


def common_base(loras: Sequence[Lora]) -> tuple[str, list[str]]:
    """The base model that most of those files name that name one, and notes on the others."""
    bases = Counter(named_base(lora) for lora in loras)
    silent = bases.pop("", 0)
    if not bases:
        return "", []
    (base, _), *others = bases.most_common()
    notes = []
    if others:
        count, (other, _) = sum(n for _, n in others), others[0]
        notes.append(
            f"{count} of {len(loras)} LoRAs name another base model than {base}, such as"
            f" {other[:60]}; the predictor will answer for {base} alone"
        )
    if silent:
        notes.append(
            f"{silent} of {len(loras)} LoRAs name no base model; the predictor is for {base}"
        )
    return base, notes
