"""How many inputs layers have, where an update repeats over them: by the base's table.

MiSS and Bone keep (r, n) numbers of ΔW (n, m) alone. Where the file's names and the configuration
leave one model, or several of one width, its table says m.
"""

from collections.abc import Mapping, Sequence

from wsdemo.lora.bases.recognise import recognise
from wsdemo.lora.bases.sizes import spoken
from wsdemo.lora.bases.spelled import spelled
from wsdemo.lora.bases.tables import Base
from wsdemo.lora.grouping import Groups
from wsdemo.lora.settings import Settings
from wsdemo.safetensors_header import Header


def columns(groups: Groups, header: Header, settings: Settings) -> dict[str, tuple[int, int]]:
    """Rows and columns (n, m) of the modules that do not say them; empty if they are not known."""
    rows = {
        name: header.tensors[roles["miss_block"][0]][1]
        for name, roles in groups.modules.items()
        if "miss_block" in roles
    }
    if not rows:
        return {}
    names = list(rows)
    candidates: list[dict[str, tuple[int, int]]] = []
    for base in recognise(names, {}).bases:
        for sizes in _sizes(base, settings.config.get("base_model_name_or_path")):
            shapes = {name: _shape(base, name, sizes) for name in names}
            if all(_fits(shapes[name], rows[name], settings) for name in names):
                candidates.append({name: shape for name, shape in shapes.items() if shape})
    return (
        candidates[0]
        if candidates and all(candidate == candidates[0] for candidate in candidates)
        else {}
    )


def _sizes(base: Base, text: object) -> Sequence[Mapping[str, int]]:
    """The models that an open table may mean; of a closed one there is none to choose."""
    if not base.is_open:
        return [{}]
    model = spoken(base, text) if isinstance(text, str) else ""
    return [base.sizes[model]] if model else list(base.sizes.values())


def _shape(base: Base, name: str, sizes: Mapping[str, int]) -> tuple[int, int] | None:
    entry = base.find(spelled(name).flat)
    if entry is None:
        return None
    if not base.is_open:
        shape = base.shape(entry)
        return (shape[0], shape[1]) if len(shape) == 2 else None
    module = entry.pieces[0].module
    ending = next((e for e in base.dimensions if module.endswith(f".{e}")), "")
    if not ending or len(entry.pieces) > 1:
        return None
    row_key, column_key = base.dimensions[ending]
    return sizes[row_key], sizes[column_key]


def _fits(shape: tuple[int, int] | None, block: Sequence[int], settings: Settings) -> bool:
    """Whether (r, n), or (r, n / k) of the method's small form, is the block of such a layer."""
    if shape is None or len(block) != 2 or block[0] > shape[1]:
        return False
    is_mini = settings.config.get("init_weights") == "mini"
    return shape[0] % block[1] == 0 if is_mini else shape[0] == block[1]
