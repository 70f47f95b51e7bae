"""What do the two definitions of the scores say of the same fits?

    python -m benchmarks.shapes_scores shapes --data MESHES --count 10

The fits of benchmarks.shapes_reconstruction, at the rates that its table states, of so many meshes
of the test split, spread over the categories; each compared with its mesh by points drawn on both,
as the table's first columns are, and by distances of points to the other surface, as the app
measures. Finished rows are kept; a second call of the same counts continues.
"""

import statistics

import numpy as np
import torch

from benchmarks.common import benchmark_parser, load_result, start, store_result
from benchmarks.shapes_reconstruction import (
    MEASURES,
    POINTS,
    STEPS,
    WEIGHTS,
    carried,
    measure,
    reconstruct,
)
from wsdemo.fields.adapters import equal_budget
from wsdemo.fields.base_files import shipped_base
from wsdemo.media.sdf import sample_sdf
from wsdemo.train.shapes.data import SETS, NamedMesh, Shapes, load_meshes


def spread_items(items: list[NamedMesh], count: int) -> list[NamedMesh]:
    """Every k-th mesh of a list in order of category."""
    places = {round(i) for i in np.linspace(0, len(items) - 1, min(count, len(items)))}
    return [items[i] for i in sorted(places)]


def sampled(items: list[NamedMesh], name: str) -> Shapes:
    """Signed distances of meshes."""
    samples = [sample_sdf(item.mesh) for item in items]
    return Shapes(
        tuple(item.name for item in items),
        torch.tensor([SETS[name].index(item.category) for item in items]),
        *(torch.from_numpy(np.stack([getattr(s, part) for s in samples]))
          for part in ("grid", "points", "distances")),
    )  # fmt: skip


def main(arguments: list[str] | None = None) -> None:
    parser = benchmark_parser(__doc__)
    parser.add_argument("set", choices=sorted(SETS))
    parser.add_argument("--count", type=int, default=10)
    parser.add_argument("--only", nargs="*", default=None, help="representations; default: all six")
    args = parser.parse_args(arguments)
    start(args)
    key, name = f"{args.set}-scores", args.set
    table = load_result(f"{name}-reconstruction")["values"]["rows"]
    configs = equal_budget(shipped_base(f"{name}-base")[0].config, WEIGHTS)
    counts = {"meshes": args.count, "steps": STEPS, "points": POINTS}
    stored = load_result(key).get("values", {})
    rows = stored["rows"] if stored.items() >= counts.items() else {}
    items = spread_items(load_meshes(args.data, SETS[name], "test"), args.count)
    test = sampled(items, name)
    for label, config in configs.items():
        if label in rows or label not in (args.only or configs):
            continue
        rate = table[label]["rate"]
        weights, adapter, _ = reconstruct(name, carried(config), test, rate, encoder=False)
        measured = measure(weights, adapter, [item.mesh for item in items])
        rows[label] = {"rate": rate}
        for m in MEASURES:
            values = [row[m] for row in measured]
            rows[label][m] = [statistics.mean(values), statistics.stdev(values)]
        print(label, rows[label], flush=True)
        command = f"python -m benchmarks.shapes_scores {name} --data MESHES --count {args.count}"
        store_result(key, command, counts | {"rows": rows})


if __name__ == "__main__":
    main()
