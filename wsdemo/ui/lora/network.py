"""A LoRA drawn as the network that it changes: a row a block, a column a kind of layer."""

import html
import re

from wsdemo.lora.geometry import Geometry, ModuleGeometry, depth_key

_INDEX = re.compile(r"(?<!net)(?<!to_out)(?<!mlp)[._]\d+(?=[._])")
"""Of a block; numbers inside of a layer (``ff.net.0``, ``to_out.0``) are none."""
INK = (49, 46, 129)
OTHERS = "other"
MOST_COLUMNS = 24


def place_of(name: str) -> tuple[str, str]:
    """(block, layer) of a module's name: cut behind the last number that counts blocks."""
    numbers = list(_INDEX.finditer(name))
    if not numbers:
        return OTHERS, name
    end = numbers[-1].end()
    return name[:end], name[end + 1 :]


def network_html(geometry: Geometry) -> str:
    """A table of ‖ΔW‖ by block and layer, as dark as the update is large."""
    cells: dict[str, dict[str, ModuleGeometry]] = {}
    for module in geometry.modules:
        block, layer = place_of(module.name)
        cells.setdefault(block, {})[layer] = module
    layers = list(dict.fromkeys(layer for row in cells.values() for layer in row))
    if len(layers) > MOST_COLUMNS:  # nothing repeats: a list reads better than a wide table
        cells = {
            module.name: {"‖ΔW‖": module}
            for module in sorted(geometry.modules, key=lambda m: depth_key(m.name))
        }
        layers = ["‖ΔW‖"]
    largest = max((m.frobenius for m in geometry.modules), default=0.0) or 1.0
    head = "".join(f"<th scope='col'>{html.escape(layer[:60])}</th>" for layer in layers)
    rows = []
    for block in sorted(cells, key=depth_key):
        drawn = "".join(_cell(cells[block].get(layer), largest) for layer in layers)
        rows.append(f"<tr><th scope='row'>{html.escape(block[:120])}</th>{drawn}</tr>")
    return (
        "<div class='wd-network' tabindex='0' role='region'"
        " aria-label='Size of the update by block and layer'>"
        f"<table><thead><tr><th scope='col'>Block</th>{head}</tr></thead>"
        f"<tbody>{''.join(rows)}</tbody></table></div>"
        "<p class='wd-note'>‖ΔW‖, the Frobenius norm of each update; the darker, the larger. Hover"
        " for rank and largest singular value.</p>"
    )


def _cell(module: ModuleGeometry | None, largest: float) -> str:
    if module is None:
        return "<td class='wd-none'></td>"
    share = module.frobenius / largest
    ink = "#ffffff" if share > 0.67 else "#000000"  # where both have a contrast of 4.5
    shade = ", ".join(str(round(255 + (c - 255) * share)) for c in INK)
    facts = (
        f"{module.name[:160]}: ‖ΔW‖ {module.frobenius:.4g}, rank {module.rank}, largest σ"
        f" {module.spectral:.4g}, effective rank {module.effective_rank:.3g}"
    )
    return (
        f"<td title='{html.escape(facts, quote=True)}' style='background: rgb({shade});"
        f" color: {ink}'>{module.frobenius:.2g}</td>"
    )
