"""What is known of a LoRA, as plain values: for the app, the command line and assistants."""

from typing import Any

from wsdemo.lora.base_model import origin_of
from wsdemo.lora.bases.tables import all_tables
from wsdemo.lora.geometry import Geometry, findings, measure
from wsdemo.lora.loads import loads_in
from wsdemo.lora.modules import Lora
from wsdemo.lora.strength import enough, spikes, strength
from wsdemo.lora.training import training


def passport(lora: Lora, geometry: Geometry | None = None) -> dict[str, Any]:
    """What ``inspect`` says of a LoRA, but for the time."""
    geometry = geometry or measure(lora)
    return {
        "family": lora.family,
        "kind": lora.kind,
        "base_model": {
            "name": lora.base.name or "unclear",
            "evidence": [{"source": s, "says": text} for s, text in lora.base.evidence],
            "disagreement": lora.base.disagreement,
            "candidates": [all_tables()[key].name for key in lora.base.candidates],
            "sizes_fit": lora.base.sizes_fit,
        },
        "modules": len(lora.modules),
        "ranks": {str(r): n for r, n in lora.ranks.items()},
        "alphas": list(lora.alphas),
        "dtypes": lora.dtypes,
        "trainer": lora.trainer,
        "magnitudes": lora.magnitudes,
        "frobenius_norm": geometry.frobenius,
        "energy_rank": geometry.energy_rank,
        "energy_by_depth": list(geometry.by_depth),
        "frobenius_by_block": geometry.by_block,
        "no_op": geometry.is_no_op,
        "strength": strength(geometry),
        "rank_enough": enough(geometry),
        "spikes": spikes(geometry)[:20],
        "training": training(lora.metadata),
        "loads_in": {program: loads.as_dict() for program, loads in loads_in(lora).items()},
        "exact": lora.is_exact,
        "used_keys": lora.used_keys,
        "ignored_keys": [{"key": i.key, "why": i.why} for i in lora.ignored],
        "warnings": [*lora.warnings, *findings(lora, geometry)],
    } | ({"origin": origin} if (origin := origin_of(lora.config)) else {})


def module_rows(lora: Lora, geometry: Geometry) -> list[dict[str, Any]]:
    """A row a module: what was measured, and how it was read."""
    return [
        {
            "name": m.name,
            "shape": list(m.shape),
            "stored_rank": module.stored_rank,
            "rank": m.rank,
            "scale": module.scale,
            "frobenius": m.frobenius,
            "spectral": m.spectral,
            "effective_rank": m.effective_rank,
            "energy_rank": m.energy_rank,
            "dead_ranks": m.dead_ranks,
            "energy_kept": module.kept,
            "note": module.note,
        }
        for m, module in zip(geometry.modules, lora.modules, strict=True)
    ]
