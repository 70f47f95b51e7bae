"""How well categories can be told apart by weights: Paper A's discriminative table, on ten
categories of shapes.

    python -m benchmarks.clusters --runs runs/compare

Reads the fits of ``train/shapes_fit.py`` from a shared start (``--shared-start``), whole.
"""

from pathlib import Path

import torch
from torch import Tensor

from benchmarks.common import benchmark_parser, start, store_result
from wsdemo.analysis.clusters import Principal, discriminate
from wsdemo.fields.adapters import Adapter, AdapterConfig
from wsdemo.fields.base_files import shipped_base
from wsdemo.fields.gauges import canonicalise
from wsdemo.train.maps import COMPARED
from wsdemo.train.population import load_fits
from wsdemo.train.shapes.data import shape_labels

DIRECTIONS = 128


def products(adapter: Adapter, instances: Tensor) -> Tensor:
    """(n, Σ d_out d_in): B A of every layer, the invariant of the factors."""
    t = adapter.tensors(instances)
    names = [name for name, _, _ in adapter.field_config.layer_shapes()]
    return torch.cat([(t[f"{n}.B"] @ t[f"{n}.A"]).flatten(1) for n in names], 1)


def figures(train: Tensor, a: Tensor, test: Tensor, b: Tensor) -> dict[str, float]:
    """The table's figures of weights in one form."""
    principal = Principal.fit(train, DIRECTIONS)
    return discriminate(principal(train), a, principal(test), b)


def main(arguments: list[str] | None = None) -> None:
    parser = benchmark_parser(__doc__)
    parser.add_argument("--runs", type=Path, default=Path("runs/compare"))
    args = parser.parse_args(arguments)
    start(args)
    base, _ = shipped_base("shapes-base")
    rows = {}
    for name, rank in COMPARED.items():
        folder = args.runs / "shapes-fit" / f"{name}-r{rank}"
        (train, names), (test, unseen) = load_fits(folder / "train"), load_fits(folder / "test")
        keep = [i for i, n in enumerate(names) if "+" not in n]
        train, test = train[keep].float(), test.float()
        a = shape_labels([names[i] for i in keep])[0].argmax(1)
        b = shape_labels(unseen)[0].argmax(1)
        adapter = Adapter(base, AdapterConfig(name, rank, 0))
        forms = {"raw": (train, test)}
        if adapter.config.kind != "mlp":
            forms["canonical"] = canonicalise(adapter, train), canonicalise(adapter, test)
            forms["product"] = products(adapter, train), products(adapter, test)
        rows[name] = {
            "rank": rank,
            "weights": adapter.weight_count,
            "training": len(train),
            "held_out": len(test),
            "forms": {form: figures(x, a, y, b) for form, (x, y) in forms.items()},
        }
        print(name, rows[name]["forms"]["raw"], flush=True)
    store_result("clusters", f"python -m benchmarks.clusters --runs {args.runs}", rows)


if __name__ == "__main__":
    main()
