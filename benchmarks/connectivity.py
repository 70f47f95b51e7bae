"""Paper A, Fig. 3: how alike weights become that were fitted to one face from different starts.

    python -m benchmarks.connectivity --data celeba.zip

Every face is fitted twice, from the shared start ι₁ and from m + √(1 − λ²) (ι₁ − m) + λ (ε − m),
where ε is another draw of the same start and m the mean of all draws: zero for MLP and LoRA, as in
the paper, but not for mLoRA, whose start has B A = 1. Measured: the cosine of the two results, and
the barrier, the error of their midpoint above the mean error of the two. Rows that were measured
with the same settings are kept, unless by ``--fresh``.
"""

import torch
from torch import Tensor

from benchmarks.common import benchmark_parser, load_result, scaled, start, store_result
from wsdemo.domains.faces import FACES
from wsdemo.fields.adapters import Adapter, AdapterConfig
from wsdemo.fields.base import pixel_grid
from wsdemo.fields.base_files import shipped_base
from wsdemo.fields.fit import FitConfig, fit_to_end, psnr_from_mse
from wsdemo.train.faces.data import load_faces, to_signal

REPRESENTATIONS = {
    "mlp": 39, "mlp-asym": 39, "lora": 8, "lora-asym": 8, "mlora": 8, "mlora-asym": 8,
}  # fmt: skip
LAMBDAS = scaled((0.0, 0.1, 0.3, 0.5, 0.7, 0.9, 1.0), (0.0, 1.0))


def other_start(adapter: Adapter, seed: int) -> Tensor:
    """(D,) another draw of the start, with the same mask and frozen entries."""
    config = AdapterConfig(adapter.config.representation, adapter.config.rank, 1000 + seed)
    drawn = Adapter(adapter.base, config)
    # The other seed froze other entries: take the spread of its free ones, by permutation.
    g = torch.Generator().manual_seed(seed)
    found = adapter.start.clone()
    for slot in adapter.slots:
        part = slice(slot.start, slot.stop)
        free = adapter.trainable[part]
        values = drawn.start[part][drawn.trainable[part]]
        if bool(free.any()) and len(values):
            choice = torch.randint(len(values), (int(free.sum()),), generator=g)
            found[part] = found[part].masked_scatter(free, values[choice])
    return found


def main(arguments: list[str] | None = None) -> None:
    parser = benchmark_parser(__doc__)
    parser.add_argument("--faces", type=int, default=30)
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--zero-mean", action="store_true", help="mix as in the paper, m = 0")
    parser.add_argument("--fresh", action="store_true", help="measure every row again")
    args = parser.parse_args(arguments)
    start(args)
    command = f"python -m benchmarks.connectivity --data celeba.zip --faces {args.faces}"
    settings = {"lambdas": list(LAMBDAS), "faces": args.faces, "steps": args.steps}
    kept = load_result("connectivity").get("values", {})
    is_same = all(kept.get(k) == v for k, v in settings.items())
    rows: dict[str, dict[str, list[float]]] = {}
    if is_same and not (args.fresh or args.zero_mean):
        rows = kept["rows"]
    base, _ = shipped_base("faces-base")
    target = to_signal(load_faces(args.data, "test").first(args.faces).images)
    grid = pixel_grid(64, 64)
    for name, rank in REPRESENTATIONS.items():
        if name in rows:
            continue
        adapter = Adapter(base, AdapterConfig(name, rank, 0))
        config = FitConfig(steps=args.steps, points=768, learning_rate=FACES.rate(adapter.config))
        phi = adapter.features(grid)

        def errors(ε: Tensor, adapter: Adapter = adapter, phi: Tensor = phi) -> Tensor:
            with torch.no_grad():
                return (adapter.decode(ε, phi).clamp(-1, 1) - target).square().mean((1, 2))

        def fitted(origin: Tensor, seed: int, adapter: Adapter = adapter,
                   config: FitConfig = config) -> Tensor:  # fmt: skip
            g = torch.Generator().manual_seed(seed)
            origins = origin.expand(args.faces, -1).clone()
            return fit_to_end(adapter, grid, target, config, g, origins)

        first = fitted(adapter.start, 0)
        row: dict[str, list[float]] = {
            k: [] for k in ("cosine", "cosine_sd", "barrier", "barrier_sd", "psnr")
        }
        noise = other_start(adapter, 1)
        mean = torch.zeros(adapter.size)
        if adapter.config.kind == "mlora" and not args.zero_mean:
            mean = torch.stack([other_start(adapter, s) for s in range(2, 66)]).mean(0)
        for λ in LAMBDAS:
            origin = mean + (1 - λ**2) ** 0.5 * (adapter.start - mean) + λ * (noise - mean)
            origin = torch.where(adapter.trainable, origin, adapter.start)
            second = fitted(origin, 1)
            free = adapter.trainable
            cosine = torch.nn.functional.cosine_similarity(first[:, free], second[:, free])
            ends = (errors(first) + errors(second)) / 2
            barrier = errors((first + second) / 2) - ends
            row["cosine"].append(float(cosine.mean()))
            row["cosine_sd"].append(float(cosine.std()))
            row["barrier"].append(float(barrier.mean()))
            row["barrier_sd"].append(float(barrier.std()))
            row["psnr"].append(float(psnr_from_mse(errors(second)).mean()))
        rows[name] = row
        print(name, [round(v, 4) for v in row["barrier"]], flush=True)
        if not args.zero_mean:  # that is for comparison only
            store_result(
                "connectivity", f"{command} --steps {args.steps}", {"rows": rows, **settings}
            )
    if args.zero_mean:
        print({"rows": rows, **settings})


if __name__ == "__main__":
    main()
