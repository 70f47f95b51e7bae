"""Are real LoRA files read? ``python -m benchmarks.loras --data LORAS``

LORAS is a folder of real files, and of key tables (``*.json``: key → shape), which are filled
with random values. Pickles are converted first. Times are best of three on this machine, against
``safetensors.torch.load_file`` of the same file.
"""

import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from benchmarks.common import benchmark_parser, start, store_result
from wsdemo.errors import WsdemoError
from wsdemo.lora.geometry import measure, read_and_measure
from wsdemo.lora.pickles import convert_pickle
from wsdemo.lora.reader import read_lora

MAX_TABLE_NUMBERS = 120_000_000
"""Key tables of larger files are thinned: their first modules stand for the rest."""


def best(run: Callable[[], object]) -> float:
    times = []
    for _ in range(3):
        began = time.perf_counter()
        run()
        times.append(time.perf_counter() - began)
    return min(times)


def filled(table: Path, folder: Path) -> Path:
    """A file with the keys and shapes of a table and random values."""
    tensors: dict[str, torch.Tensor] = {}
    total = 0
    for key, entry in sorted(json.loads(table.read_text()).items()):
        shape = entry["shape"] if isinstance(entry, dict) else entry
        total += torch.Size(shape).numel()
        if total > MAX_TABLE_NUMBERS and key.rsplit(".", 2)[0] not in str(list(tensors)[-3:]):
            break
        tensors[key] = torch.randn(shape) if shape else torch.tensor(8.0)
    path = folder / f"{table.name.split('.')[0]}.safetensors"
    save_file(tensors, path)
    return path


def examine(path: Path) -> dict[str, Any]:
    """What the reader says of a file, and how long it takes."""
    try:
        lora = read_lora(path)
    except WsdemoError as error:
        return {"refused": f"{error.title}: {error.message}"}
    return {
        "family": lora.family,
        "base": lora.base.name[:40],
        "modules": len(lora.modules),
        "ranks": sorted(lora.ranks),
        "used": lora.used_keys,
        "ignored": len(lora.ignored),
        "exact": lora.is_exact,
        "norm": measure(lora).frobenius,
        "seconds": best(lambda: read_and_measure(path)),
        "ratio": best(lambda: read_and_measure(path)) / best(lambda: load_file(path)),
    }


def main() -> None:
    parser = benchmark_parser(__doc__)
    args = parser.parse_args()
    start(args)
    rows = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for path in sorted(p for p in args.data.rglob("*") if p.is_file()):
            label = f"{path.parent.name}/{path.name.split('__', 1)[-1]}"
            if path.suffix in (".pt", ".bin"):
                try:
                    convert_pickle(path, folder / "converted.safetensors")
                    rows[label] = examine(folder / "converted.safetensors")
                except WsdemoError as error:
                    rows[label] = {"refused": f"{error.title}: {error.message}"}
            elif path.suffix == ".safetensors":
                rows[label] = examine(path)
            elif path.parent.name == "keytables" and path.name != "index.json":
                rows[label] = examine(filled(path, folder))
            else:
                continue
            print(label, rows[label], flush=True)
    store_result("loras", "python -m benchmarks.loras --data LORAS", {"rows": rows})


if __name__ == "__main__":
    main()
