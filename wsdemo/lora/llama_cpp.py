"""llama.cpp's own order of rows: what its converter turns for the rotary embedding, turned back.

For Llama and its like it writes the two halves of each head's rows in turns: row i + j · d/2 of a
head of d rows (j = 0, 1) becomes row 2 i + j. The file does not say d, which the model's sizes do.
"""

import dataclasses
from collections.abc import Mapping, Sequence

from wsdemo.lora.bases.sizes import fitting
from wsdemo.lora.bases.tables import all_tables
from wsdemo.lora.modules import LoraModule

TURNED = frozenset(
    ["llama", "mistral3", "granite", "granitemoe", "smollm3", "deci", "minicpm", "arcee"]
)  # fmt: skip
"""Architectures, as GGUF names them, of which the rows of q and k are turned."""
_NAMES = (".attn_q", ".attn_k")


def straightened(
    modules: Sequence[LoraModule], metadata: Mapping[str, str]
) -> tuple[list[LoraModule], str]:
    """The modules with their rows as every other program has them, and what is to be said of it.

    Where the order cannot be known an update is exact for llama.cpp's own weights, row by row.

    Args:
        modules: Of a GGUF adapter.
        metadata: Its texts, with ``general.architecture``.
    """
    unchanged = list(modules)
    turned = [m for m in modules if m.name.endswith(_NAMES)]
    if metadata.get("general.architecture") not in TURNED or not turned:
        return unchanged, ""
    base = all_tables()["llama_like"]
    models = fitting(base, [m.name for m in modules], {m.name: m.shape for m in modules})
    heads = {base.sizes[model]["head"] for model in models}
    if len(heads) != 1:
        return unchanged, (
            f"llama.cpp writes the rows of {turned[0].name} and the like in an order of its own,"
            " and the size of this model's heads is not known: compare it with its like alone"
        )
    head = heads.pop()
    return [_straight(m, head) if m.name.endswith(_NAMES) else m for m in unchanged], ""


def _straight(module: LoraModule, head: int) -> LoraModule:
    U = module.U.reshape(-1, head // 2, 2, module.rank).transpose(1, 2).reshape(module.U.shape)
    return dataclasses.replace(module, U=U.contiguous(), is_rewritten=True)
