"""The command line's verbs for LoRAs: inspect, compare, resize, merge, regauge, export."""

import argparse
import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from wsdemo.cli.lol import lora_file
from wsdemo.lora.arithmetic import Size, regauge, resize
from wsdemo.lora.bases.tables import all_tables
from wsdemo.lora.comparison import compare
from wsdemo.lora.export import export, select
from wsdemo.lora.geometry import measure, read_and_measure
from wsdemo.lora.merging import Method, merge
from wsdemo.lora.modules import Lora
from wsdemo.lora.passport import module_rows, passport
from wsdemo.lora.reader import read_lora
from wsdemo.lora.writing import Written, write_lora

Result = dict[str, Any]


def run_inspect(args: argparse.Namespace) -> Result:
    """``inspect FILE``: the passport and geometry of a LoRA; with --modules, of each module."""
    started = time.monotonic()
    lora, geometry = read_and_measure(args.input, adapter=getattr(args, "adapter", ""))
    facts = passport(lora, geometry)
    if getattr(args, "modules", False):
        facts["modules_detail"] = module_rows(lora, geometry)
    return facts | {"seconds": time.monotonic() - started}


def run_compare(args: argparse.Namespace) -> Result:
    """``compare A B``: how alike two LoRAs are; files or repositories."""
    first, second = (
        read_lora(lora_file(str(x)), adapter=getattr(args, "adapter", ""))
        for x in (args.first, args.second)
    )
    comparison = compare(first, second)
    return {
        "cosine": comparison.cosine,
        # JSON has no infinity.
        "ratio": comparison.ratio if math.isfinite(comparison.ratio) else None,
        "verdict": comparison.verdict.word,
        "verdict_text": comparison.verdict.sentence,
        "overlap_over_chance": comparison.verdict.overlap,
        "exact": first.is_exact and second.is_exact,
        "ancestry": comparison.ancestry,
        "shared": len(comparison.modules),
        "only_first": list(comparison.only_first),
        "only_second": list(comparison.only_second),
        "modules": [vars(m) for m in comparison.modules],
        "warnings": list(dict.fromkeys((*first.warnings, *second.warnings))),
    }


def _save(lora: Lora, args: argparse.Namespace, out: Path) -> Written:
    """Writes what a verb made, as its options ask."""
    program, style = getattr(args, "program", None), getattr(args, "style", "same")
    dtype = getattr(args, "dtype", "same")
    if program is not None:
        return export(lora, program, out, dtype)
    return write_lora(lora, out, style, dtype)


def run_resize(args: argparse.Namespace, out: Path) -> Result:
    """``resize FILE``: the same update from fewer ranks."""
    lora = read_lora(args.input, adapter=getattr(args, "adapter", ""))
    is_plain = args.rank is None and args.ratio is None
    energy = args.energy if args.energy is not None else (0.999 if is_plain else 1.0)
    smaller, kept = resize(lora, Size(energy, args.rank, args.ratio))
    written = _save(smaller, args, out)
    return {
        "file": str(out),
        "energy": kept,
        "ranks_before": {str(r): n for r, n in lora.ranks.items()},
        "ranks": {str(r): n for r, n in smaller.ranks.items()},
        "bytes_before": args.input.stat().st_size,
        "bytes": written.bytes,
        "dtype": written.dtype,
        "warnings": [*lora.warnings, *written.warnings],
    }


def run_export(args: argparse.Namespace, out: Path) -> Result:
    """``export FILE``: the same LoRA as another program reads it, or some of its modules."""
    lora = read_lora(args.input, adapter=getattr(args, "adapter", ""))
    chosen = select(lora, args.only, args.without)
    written = _save(chosen, args, out)
    return {
        "file": str(out),
        "for": args.program or "same",
        "base": ", ".join(all_tables()[key].name for key in lora.base.candidates[:1]) or "unclear",
        "modules": len(chosen.modules),
        "modules_before": len(lora.modules),
        "bytes_before": args.input.stat().st_size,
        "bytes": written.bytes,
        "dtype": written.dtype,
        "warnings": [*lora.warnings, *written.warnings],
    }


def run_extract(args: argparse.Namespace, out: Path) -> Result:
    """``extract TUNED BASE``: the difference of two checkpoints as a LoRA."""
    from wsdemo.lora.extraction import extract

    started = time.monotonic()
    extracted = extract(args.tuned, args.base, out, args.rank, args.energy, args.dtype)
    return {"file": str(out), **extracted, "seconds": time.monotonic() - started}


def summands(inputs: Sequence[str]) -> list[tuple[Path, float]]:
    """Reads ``FILE`` and ``FILE:WEIGHT`` as (file, weight); a file without a weight has 1."""
    terms = []
    for text in inputs:
        name, colon, weight = text.rpartition(":")
        try:
            value = float(weight) if colon else 1.0
        except ValueError:
            name, value = text, 1.0
        terms.append((Path(name if colon and name else text), value))
    return terms


def run_merge(args: argparse.Namespace, out: Path) -> Result:
    """``merge A:1.0 B:-0.5``: a weighted sum of updates."""
    files, weights = zip(*summands(args.inputs), strict=True)
    loras = [read_lora(f) for f in files]
    method = Method(args.method, args.density, args.seed)
    merged = merge(loras, list(weights), args.energy, method)
    written = _save(merged, args, out)
    return {
        "file": str(out),
        "inputs": [{"file": str(f), "weight": w} for f, w in zip(files, weights, strict=True)],
        "modules": len(merged.modules),
        "ranks": {str(r): n for r, n in merged.ranks.items()},
        "frobenius_norm": measure(merged).frobenius,
        "method": args.method,
        "bytes": written.bytes,
        "dtype": written.dtype,
        "warnings": [*merged.warnings, *written.warnings],
    }


def run_regauge(args: argparse.Namespace, out: Path) -> Result:
    """``regauge FILE``: the same update from other factors."""
    lora = read_lora(args.input, adapter=getattr(args, "adapter", ""))
    turned = regauge(lora, args.seed)
    written = _save(turned, args, out)
    return {
        "file": str(out),
        "bytes": written.bytes,
        "dtype": written.dtype,
        "frobenius_before": measure(lora).frobenius,
        "frobenius_norm": measure(turned).frobenius,
        "warnings": [*lora.warnings, *written.warnings],
    }
