"""What does it take to extract a LoRA from two checkpoints of 2 GB?

    python -m benchmarks.lora_extraction          # needs 4.4 GB of disk for a while

Two checkpoints with the modules and sizes of TinyLlama 1.1B in bfloat16, random weights; the second
differs in its layers by updates of rank 8 and by rounding. ``wsdemo extract`` runs in a process of
its own: seconds and processor seconds, peak of resident memory (VmHWM), and how near the result is
to what was added.
"""

import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from benchmarks.common import benchmark_parser, scaled, start, store_result
from wsdemo.lora.reader import read_lora

COMMAND = "python -m benchmarks.lora_extraction"
HIDDEN, KV, FFN, WORDS = scaled((2048, 256, 5632, 32000), (256, 64, 512, 1000))
LAYERS, RANK, ADDED = scaled(22, 2), 16, 8
CODE = (
    "import sys; from pathlib import Path; from wsdemo.cli.main import main\n"
    "main(['extract', sys.argv[1], sys.argv[2], '--rank', sys.argv[3], '--out', sys.argv[4]])\n"
    "lines = Path('/proc/self/status').read_text().splitlines()\n"
    "print(next(l.split()[1] for l in lines if l.startswith('VmHWM')), file=sys.stderr)"
)


def shapes() -> dict[str, tuple[int, int]]:
    """Name of a weight → its shape."""
    found = {"model.embed_tokens": (WORDS, HIDDEN), "lm_head": (WORDS, HIDDEN)}
    for i in range(LAYERS):
        layer = f"model.layers.{i}."
        found |= {
            f"{layer}self_attn.q_proj": (HIDDEN, HIDDEN),
            f"{layer}self_attn.k_proj": (KV, HIDDEN),
            f"{layer}self_attn.v_proj": (KV, HIDDEN),
            f"{layer}self_attn.o_proj": (HIDDEN, HIDDEN),
            f"{layer}mlp.gate_proj": (FFN, HIDDEN),
            f"{layer}mlp.up_proj": (FFN, HIDDEN),
            f"{layer}mlp.down_proj": (HIDDEN, FFN),
        }
    return found


def update(number: int, shape: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """U and V of what is added to a weight."""
    generator = torch.Generator().manual_seed(number)
    return (torch.randn(shape[0], ADDED, generator=generator) * 0.02,
            torch.randn(shape[1], ADDED, generator=generator) * 0.02)  # fmt: skip


def make(path: Path, is_tuned: bool) -> int:
    """Writes a checkpoint; returns its bytes."""
    noise = torch.randn(2**22 + 1, generator=torch.Generator().manual_seed(0)) * 0.02
    tensors = {}
    for number, (name, shape) in enumerate(shapes().items()):
        count = shape[0] * shape[1]
        W = noise.repeat(-(-count // len(noise)) + 1)[number : number + count].view(shape)
        if is_tuned and "layers" in name:
            U, V = update(number, shape)
            W = W + U @ V.T
        tensors[f"{name}.weight"] = W.bfloat16()
    save_file(tensors, path)
    return path.stat().st_size


def closeness(path: Path) -> float:
    """⟨found, added⟩ / ‖added‖² over all weights: 1 if what was added is found."""
    added = {name: update(i, shape) for i, (name, shape) in enumerate(shapes().items())}
    inside, whole = 0.0, 0.0
    for module in read_lora(path).modules:
        U, V = added[module.name]
        inside += float(((module.U.T @ U) * (module.V.T @ V)).sum())
        whole += float(((U.T @ U) * (V.T @ V)).sum())
    return inside / whole


def main() -> None:
    args = benchmark_parser(__doc__).parse_args()
    start(args)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        size = [make(folder / f"{kind}.safetensors", kind == "tuned") for kind in ("tuned", "base")]
        files = [str(folder / f"{kind}.safetensors") for kind in ("tuned", "base")]
        out = folder / "out" / "adapter_model.safetensors"
        out.parent.mkdir()
        began = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-c", CODE, *files, str(RANK), str(out)],
            check=True, capture_output=True,
        )  # fmt: skip
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        values = {
            "seconds": time.perf_counter() - began,
            "processor_seconds": used.ru_utime + used.ru_stime,
            "peak_gigabytes": int(done.stderr.split()[-1]) / 2**20,
            "gigabytes": [s / 2**30 for s in size],
            "modules": len(read_lora(out).modules),
            "rank": RANK,
            "found_of_added": closeness(out),
        }
    print(values)
    store_result("lora-extraction", COMMAND, values)


if __name__ == "__main__":
    main()
