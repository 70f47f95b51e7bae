"""A LoRA drawn as the network that it changes: a row a block, a column a kind of layer."""

import html
import re
from collections.abc import Sequence

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


def luminance(colour: Sequence[int]) -> float:
    """Relative luminance of (r, g, b) of 0 to 255, as WCAG 2 has it: 0 black, 1 white."""
    shares = [c / 255 for c in colour]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in shares]
    return sum(w * c for w, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def _cell(module: ModuleGeometry | None, largest: float) -> str:
    if module is None:
        return "<td class='wd-none'></td>"
    share = module.frobenius / largest
    shade = [round(255 + (c - 255) * share) for c in INK]
    # WCAG: of white and black the one that stands out more has a contrast of 4.58 or better.
    ink = "#ffffff" if luminance(shade) < 0.179 else "#000000"
    facts = (
        f"{module.name[:160]}: ‖ΔW‖ {module.frobenius:.4g}, rank {module.rank}, largest σ"
        f" {module.spectral:.4g}, effective rank {module.effective_rank:.3g}"
    )
    return (
        f"<td title='{html.escape(facts, quote=True)}' style='background:"
        f" rgb({', '.join(map(str, shade))}); color: {ink}'>{module.frobenius:.2g}</td>"
    )
