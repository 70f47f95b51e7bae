"""How long does reading a LoRA take, and how much memory?

    python -m benchmarks.lora_loading --data LORAS

From the file to passport and geometry, against other ways to open the same file: the bytes
alone, safetensors' ``load_file`` (which maps the file: its tensors are read when they are
used), the same with every number used once, and PEFT, which puts the LoRA into its model
(Stable Diffusion 1's UNet with random weights, not timed). One thread; the file is in the page
cache; processor time and wall time, best of seven. LORAS is the folder of ``benchmarks.loras``;
the file is a LoRA of SD 1 in diffusers' keys.

Memory: ``wsdemo inspect`` of a file of 1 GB, SDXL's 986 modules at rank 144 with random values.
"""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from benchmarks.common import benchmark_parser, start, store_result
from wsdemo.cli.lora import passport
from wsdemo.lora.geometry import read_and_measure

COMMAND = "python -m benchmarks.lora_loading --data LORAS"
FILES = "diffusers-attnproc/*.safetensors"
TABLE, TABLE_RANK, LARGE_RANK = "keytables/AlienStyle_SDXL_kohya.json", 32, 144
REPEATS = 7


def best(
    run: Callable[[], object], prepare: Callable[[], object] = lambda: None
) -> dict[str, float]:
    """Milliseconds of the fastest of REPEATS runs: wall clock and processor."""
    walls, works = [], []
    for _ in range(REPEATS):
        prepare()
        wall, work = time.perf_counter(), time.process_time()
        run()
        walls.append(time.perf_counter() - wall)
        works.append(time.process_time() - work)
    return {"wall_ms": 1000 * min(walls), "processor_ms": 1000 * min(works)}


def random_unet() -> Any:
    """Stable Diffusion 1's UNet (diffusers' own default but for the width of its texts)."""
    from diffusers import UNet2DConditionModel

    with torch.device("meta"):
        unet = UNet2DConditionModel(cross_attention_dim=768, sample_size=64)
    unet = unet.to(torch.bfloat16).to_empty(device="cpu")
    for weight in unet.parameters():
        weight.data.zero_()
    return unet


def against_peft(path: Path) -> dict[str, Any]:
    """Loading into the UNet by diffusers (which calls PEFT), and by PEFT's own functions."""
    from peft import LoraConfig, get_peft_model, set_peft_model_state_dict

    unet = random_unet()
    prefix = "unet" if any(k.startswith("unet.") for k in load_file(path)) else None

    def forget() -> None:
        if getattr(unet, "peft_config", None):
            unet.delete_adapters(list(unet.peft_config))

    def load() -> None:
        unet.load_lora_adapter(load_file(path), prefix=prefix)

    found = {"diffusers_load_lora_adapter": best(load, forget)}
    forget()
    load()
    state = {k: v.clone() for k, v in unet.state_dict().items() if "lora_" in k}
    keys = {f"base_model.model.{k.replace('.default_0.', '.')}": v for k, v in state.items()}
    rank = next(v.shape[0] for k, v in state.items() if "lora_A" in k)
    settings = LoraConfig(r=rank, target_modules=sorted({k.rsplit(".lora_", 1)[0] for k in state}))
    forget()
    models: list[Any] = []

    def inject() -> None:
        models.append(get_peft_model(random_base.pop(), settings))
        set_peft_model_state_dict(models[-1], dict(keys))

    def bare() -> None:
        while models:
            random_base.append(models.pop().unload())

    random_base = [random_unet()]
    found["peft_new_model_and_state_dict"] = best(inject, bare)
    found["peft_state_dict_into_ready_model"] = best(
        lambda: set_peft_model_state_dict(models[0], dict(keys))
    )
    return {"lora_layers": len(state) // 2, "rank": rank, **found}


def large(table: Path) -> dict[str, float]:
    """Seconds and peak memory of inspecting a file of 1 GB, in a process of its own."""
    g = torch.Generator().manual_seed(0)
    tensors = {}
    for key, entry in json.loads(table.read_text()).items():
        shape = [LARGE_RANK if s == TABLE_RANK else s for s in entry["shape"]]
        value = 0.02 * torch.randn(shape, generator=g) if shape else torch.tensor(LARGE_RANK / 2)
        tensors[key] = value.half()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "large.safetensors"
        save_file(tensors, path)
        tensors.clear()
        began = time.perf_counter()
        # VmHWM and not ru_maxrss, which begins at the size of this process.
        code = (
            "import sys; from pathlib import Path; from wsdemo.cli.main import main\n"
            f"main(['inspect', {str(path)!r}, '--json'])\n"
            "lines = Path('/proc/self/status').read_text().splitlines()\n"
            "print(next(l.split()[1] for l in lines if l.startswith('VmHWM')), file=sys.stderr)"
        )
        done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
        seconds = time.perf_counter() - began
        peak = int(done.stderr.split()[-1]) / 2**20
        return {"gigabytes": path.stat().st_size / 2**30, "peak_gigabytes": peak,
                "seconds": seconds}  # fmt: skip


def main() -> None:
    parser = benchmark_parser(__doc__)
    args = parser.parse_args()
    start(args)
    path: Path = sorted(args.data.glob(FILES))[0]
    big = large(args.data / TABLE)
    print(big, flush=True)
    passport(*read_and_measure(path))  # imports and caches
    ours = best(lambda: passport(*read_and_measure(path)))
    reading = best(lambda: read_and_measure(path))
    others: dict[str, Any] = {
        "bytes_alone": best(lambda: path.read_bytes()),
        "load_file": best(lambda: load_file(path)),
        "load_file_all_used": best(lambda: [t.sum() for t in load_file(path).values()]),
        "load_file_float32": best(lambda: [t.float().clone() for t in load_file(path).values()]),
    }
    if not any("lora_unet_" in k for k in load_file(path)):
        others |= against_peft(path)
    ratios = {
        name: {k: ours[k] / value[k] for k in value}
        for name, value in others.items()
        if isinstance(value, dict)
    }
    row = {"bytes": path.stat().st_size, "modules": passport(*read_and_measure(path))["modules"],
           "wsdemo": ours, "reading": reading, "others": others,
           "wsdemo_divided_by": ratios}  # fmt: skip
    print(json.dumps(row, indent=1))
    store_result("lora-loading", COMMAND, {"file": path.name, **row, "large": big})


if __name__ == "__main__":
    main()
