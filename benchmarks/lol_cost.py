"""What reading and running GL-net costs, against MLP+SVD and MLP+Dense:

    python -m benchmarks.lol_cost

- Fig. 5: a forward pass against the width of the model whose LoRA is read, up to GPT-3's.
- LoRAs of Stable Diffusion 1.4 (rank 4 on to_q and to_v of its UNet: 64 pairs), 64 of random
  values: reading their files, and a forward pass.
"""

import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.common import benchmark_parser, start, store_result
from wsdemo.generate.lora_layers import save_lora
from wsdemo.lol.data.pairs import Pairs, Signature, pack
from wsdemo.lol.models.networks import build_model
from wsdemo.lol.models.parts import ModelConfig
from wsdemo.lora.reader import read_lora

MODELS = ("gl-net", "mlp-svd", "mlp-dense")
RANK, REPEATS = 4, 3
CONFIG = {"hidden": 16, "rank": RANK}
STABLE_DIFFUSION = {
    320: ("down_blocks.0", "down_blocks.0", "up_blocks.3", "up_blocks.3", "up_blocks.3"),
    640: ("down_blocks.1", "down_blocks.1", "up_blocks.2", "up_blocks.2", "up_blocks.2"),
    1280: ("down_blocks.2", "down_blocks.2", "up_blocks.1", "up_blocks.1", "up_blocks.1", "mid"),
}
"""Width → where the UNet's 16 transformer blocks of that width are."""
TEXT_WIDTH, BATCH, DENSE_BATCH = 768, 64, 4


def fastest(run: Callable[[], object]) -> float:
    """Seconds of the fastest of REPEATS runs, after one that does not count."""
    run()
    found = []
    for _ in range(REPEATS):
        began = time.perf_counter()
        run()
        found.append(time.perf_counter() - began)
    return min(found)


def random_pairs(signature: Signature, count: int) -> Pairs:
    """LoRAs of random values."""
    g = torch.Generator().manual_seed(0)
    return Pairs(
        tuple(
            (
                torch.randn(count, len(names), n, RANK, generator=g),
                torch.randn(count, len(names), m, RANK, generator=g),
            )
            for (n, m), names in signature.groups
        )
    )


@torch.no_grad()
def forward_seconds(name: str, signature: Signature, pairs: Pairs) -> float:
    """Seconds a LoRA of one model's forward pass."""
    model = build_model(signature, ModelConfig(name, **CONFIG)).eval()
    return fastest(lambda: model(pairs)) / len(pairs)


def by_width(
    widths: tuple[int, ...] = (256, 512, 1024, 2048, 4096, 12288),
) -> list[dict[str, float]]:
    """Seconds a LoRA, of four LoRAs with two modules of width n."""
    rows = []
    for n in widths:
        signature = Signature({"a": (n, n), "b": (n, n)})
        pairs = random_pairs(signature, 4)
        row: dict[str, float] = {"width": n}
        for name in MODELS:
            if name == "mlp-dense" and n > 4096:
                continue  # its first layer alone would take 4 · 16 · 2 n² bytes: 19 GB
            row[name] = forward_seconds(name, signature, pairs)
        rows.append(row)
    return rows


def stable_diffusion_signature() -> Signature:
    """to_q and to_v of both attentions of the UNet's 16 transformer blocks."""
    shapes = {}
    for width, places in STABLE_DIFFUSION.items():
        for i, place in enumerate(places):
            block = f"unet.{place}.attentions.{i}.transformer_blocks.0"
            for attention, read in (("attn1", width), ("attn2", TEXT_WIDTH)):
                shapes[f"{block}.{attention}.to_q"] = (width, width)
                shapes[f"{block}.{attention}.to_v"] = (width, read)
    return Signature(dict(sorted(shapes.items())))


def read_seconds(signature: Signature, pairs: Pairs) -> float:
    """Seconds a LoRA from its file to what a model reads."""
    with tempfile.TemporaryDirectory() as folder:
        paths = []
        for i in range(len(pairs)):
            tensors: dict[str, Tensor] = {}
            for (_, names), (U, V) in zip(signature.groups, pairs.groups, strict=True):
                for j, name in enumerate(names):
                    tensors[f"{name}.lora_A.weight"] = V[i, j].mT.contiguous()
                    tensors[f"{name}.lora_B.weight"] = U[i, j].contiguous()
            paths.append(Path(folder) / f"{i}.safetensors")
            save_lora(paths[-1], tensors, RANK, "random", {})
        batch: Callable[[], Pairs] = lambda: Pairs.join(  # noqa: E731
            [pack(read_lora(path), signature) for path in paths]
        )
        for (U, _), (found, _) in zip(pairs.groups, batch().groups, strict=True):
            torch.testing.assert_close(found, U)
        return fastest(batch) / len(pairs)


def stable_diffusion() -> dict[str, float]:
    """Seconds a LoRA at the size of Stable Diffusion 1.4's."""
    signature = stable_diffusion_signature()
    pairs = random_pairs(signature, BATCH)
    row = {"pairs": len(signature), "read": read_seconds(signature, pairs)}
    row["numbers"] = sum((n + m) * RANK for n, m in signature.shapes.values())
    row["dense_numbers"] = sum(n * m for n, m in signature.shapes.values())
    for name in MODELS:
        some = pairs.pick(slice(DENSE_BATCH)) if name == "mlp-dense" else pairs
        row[name] = forward_seconds(name, signature, some)
    return row


def main() -> None:
    args = benchmark_parser(__doc__).parse_args()
    start(args)
    values = {"stable_diffusion": stable_diffusion(), "widths": by_width()}
    print(values)
    values["peak_memory_gb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    store_result("lol-cost", "python -m benchmarks.lol_cost", values)


if __name__ == "__main__":
    main()
