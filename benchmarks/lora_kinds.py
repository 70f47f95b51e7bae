"""Which kinds of LoRA files are read right, now and by an older checkout?

    python -m benchmarks.lora_kinds --before OLD      # OLD: a checkout of 739b511

Each kind is a file made here, with the ΔW that its program means by it, to 1e-4; or a method whose
update is not in its file, which has to be refused by its name. Both readers get the same files,
each in a process of its own. *Exact* has to be said where that ΔW is all of it, and nowhere else.
"""

import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, tensor

from benchmarks.common import benchmark_parser, start, store_result

COMMAND = "python -m benchmarks.lora_kinds --before OLD"
READ = """
import json, sys
from pathlib import Path
import torch
from wsdemo.errors import WsdemoError
from wsdemo.lora.reader import read_lora
for name in sys.argv[1:]:
    try:
        lora = read_lora(Path(name))
        torch.save({m.name: m.U @ m.V.T for m in lora.modules}, name + ".read")
        told = {"exact": bool(lora.is_exact), "base": lora.base.name}
    except WsdemoError as error:
        told = {"error": error.message}
    except Exception as error:
        told = {"crash": repr(error)[:200]}
    print(json.dumps(told))
"""
P = "base_model.model."


def rand(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed + sum(shape)))


A, B = rand(4, 10, seed=1), rand(12, 4, seed=2)
LORA = {"peft_type": "LORA", "r": 4, "lora_alpha": 8}
Kind = tuple[dict[str, Tensor], dict[str, Tensor] | str, dict[str, Any] | None, bool]
"""Tensors; the right ΔW of each module, or the name by which to refuse; configuration; exact."""


def scales() -> dict[str, Kind]:
    """Whose scale is not in its tensors."""
    q = {f"{P}l.0.q.lora_A.weight": A, f"{P}l.0.q.lora_B.weight": B}
    hada = {f"{P}q.hada_{k}": x for k, x in zip(("w1_a", "w1_b", "w2_a", "w2_b"), (B, A, B, A),
                                               strict=True)}  # fmt: skip
    small, scale = (A / A.abs().max() * 100).round().to(torch.int8), A.abs().max() / 100
    up = {"diffusion_model.x.q.lora_B.weight": B}
    return {
        "PEFT, α by an anchored pattern": (
            q, {"l.0.q": 2 * B @ A}, LORA | {"alpha_pattern": {"^q": 99}}, True),
        "PEFT, rsLoRA": (q, {"l.0.q": 4 * B @ A}, LORA | {"use_rslora": True}, True),
        "PEFT's LoHa, α in the configuration": (
            hada, {"q": 2 * (B @ A) ** 2}, {"peft_type": "LOHA", "r": 4, "alpha": 8}, True),
        "PEFT's LoKr of whole factors, scaled": (
            {f"{P}q.lokr_w1": A[:2, :2], f"{P}q.lokr_w2": B},
            {"q": 2 * torch.kron(A[:2, :2].contiguous(), B)},
            {"peft_type": "LOKR", "r": 4, "alpha": 8}, True),
        "a scale tensor (stable-diffusion.cpp)": (
            up | {"diffusion_model.x.q.lora_A.weight": A, "diffusion_model.x.q.scale": tensor(3.0)},
            {"diffusion_model.x.q": 3 * B @ A}, None, True),
        "factors in 8 bits with a scale": (
            up | {"diffusion_model.x.q.lora_A.weight": small,
                  "diffusion_model.x.q.lora_A.scale_weight": scale},
            {"diffusion_model.x.q": B @ (small.float() * scale)}, None, True),
        "MLX, scale in the configuration": (
            {"l.q.lora_a": A.T, "l.q.lora_b": B.T}, {"l.q": 20 * B @ A},
            {"lora_parameters": {"rank": 4, "scale": 20.0}}, True),
    }  # fmt: skip


def spellings() -> dict[str, Kind]:
    """Pairs under the names of one program."""
    ba = {"x.q": B @ A}

    def pair(down: str, up: str, name: str = "x.q") -> Kind:
        return {down: A, up: B}, {name: B @ A}, None, True

    return {
        "mlx-vlm": ({"x.q.A": A.T, "x.q.B": B.T}, ba, None, False),
        "torchtune": (
            {"x.q.lora_a.weight": A, "x.q.lora_b.weight": B}, ba, LORA | {"lora_alpha": 4}, True),
        "IP-Adapter-FaceID": pair("0.to_q_lora.down.weight", "0.to_q_lora.up.weight", "0.to_q"),
        "layerdiffuse": pair("diffusion_model.x.q.weight::lora::1",
                             "diffusion_model.x.q.weight::lora::0", "diffusion_model.x.q"),
        "an adapter's name with dots": (
            {f"{P}x.q.lora_A.my.v-2.weight": A, f"{P}x.q.lora_B.my.v-2.weight": B}, ba,
            LORA | {"lora_alpha": 4}, True),
        "kohya's split q, k": (
            {"lora_unet_x.lora_down.0.weight": A, "lora_unet_x.lora_up.0.weight": B,
             "lora_unet_x.lora_down.1.weight": 2 * A, "lora_unet_x.lora_up.1.weight": B,
             "lora_unet_x.alpha": tensor(4.0)},
            {"lora_unet_x": torch.cat([B @ A, 2 * B @ A])}, None, True),
    }  # fmt: skip


def forms() -> dict[str, Kind]:
    """Factors that mean something else than their product."""
    experts = f"{P}model.layers.0.mlp.experts"
    e = "model.layers.0.mlp.experts.{}.down_proj"
    shared = rand(12, 4, seed=5)
    tiles = rand(2, 5, 4, seed=6), rand(2, 4, 6, seed=7)
    tiled = torch.zeros(12, 10)
    for i in range(2):
        for j in range(2):
            a, b = tiles[0][i, :, 2 * j : 2 * j + 2], tiles[1][j, 2 * i : 2 * i + 2]
            tiled[6 * j : 6 * j + 6, 5 * i : 5 * i + 5] = (a @ b).T
    places = torch.stack([torch.arange(6) * 2 + 1, torch.arange(6)])
    sparse = torch.zeros(12, 6)
    sparse[places[0], places[1]] = A.flatten()[:6]
    block = rand(4, 3072, seed=8)
    core, down, up = rand(4, 4, 3, 3), rand(4, 5, 1, 1), rand(12, 4, 1, 1)
    return {
        "experts in one pair (target_parameters)": (
            {f"{experts}.lora_A.weight": A, f"{experts}.lora_B.weight": shared},
            {e.format(i): 4 * shared.reshape(12, 2, 2)[:, :, i] @ A.reshape(2, 2, 10)[i]
             for i in range(2)},
            LORA | {"r": 2, "target_parameters": ["mlp.experts.down_proj"]}, True),
        "MergedLinear": (
            {f"{P}c_attn.lora_A.weight": A, f"{P}c_attn.lora_B.weight": B[:, :2]},
            {"c_attn": 4 * torch.cat([B[:6, :2] @ A[:2], torch.zeros(6, 10), B[6:, :2] @ A[2:]])},
            LORA | {"r": 2, "enable_lora": [True, False, True]}, True),
        "HiRA (W ⊙ (1 + B A))": ({f"{P}q.hira_A": A, f"{P}q.hira_B": B}, {"q": B @ A},
                                 {"peft_type": "HIRA", "r": 4}, True),
        "GraLoRA": ({f"{P}q.gralora_A": tiles[0], f"{P}q.gralora_B": tiles[1]}, {"q": 2 * tiled},
                    {"peft_type": "GRALORA", "r": 4, "alpha": 8, "gralora_k": 2}, True),
        "SHiRA": ({f"{P}q.shira_weight": A.flatten()[:6], f"{P}q.shira_indices": places.int()},
                  {"q": sparse}, {"peft_type": "SHIRA", "r": 4}, True),
        "MiSS, on a base with a table": (
            {"transformer.single_transformer_blocks.0.attn.to_q.miss_block": block},
            {"transformer.single_transformer_blocks.0.attn.to_q": block.T.repeat(1, 768)}, None,
            True),
        "MiSS, on an unknown base": ({f"{P}q.miss_block": rand(4, 8)}, "MiSS", None, False),
        "KaSA (the base is truncated too)": (
            {f"{P}q.lora_A.weight": A, f"{P}q.lora_B.weight": B, f"{P}q.lora_diag": A[:, 0]},
            {"q": 2 * B @ torch.diag(A[:, 0]) @ A}, LORA | {"kasa_config": {"beta": 1}}, False),
        "PiSSA (the base is changed too)": (
            {f"{P}q.lora_A.weight": A, f"{P}q.lora_B.weight": B}, {"q": 2 * B @ A},
            LORA | {"init_lora_weights": "pissa_niter_16"}, False),
        "DoRA of ai-toolkit": (
            {"diffusion_model.x.q.lora_A.weight": A, "diffusion_model.x.q.lora_B.weight": B,
             "diffusion_model.x.q.magnitude": rand(12)}, {"diffusion_model.x.q": B @ A}, None,
            False),
        "a convolution with a Tucker core": (
            {"lora_unet_x.lora_down.weight": down, "lora_unet_x.lora_mid.weight": core,
             "lora_unet_x.lora_up.weight": up},
            {"lora_unet_x": torch.einsum("oa,abhw,bi->oihw", up[:, :, 0, 0], core,
                                         down[:, :, 0, 0]).flatten(1)}, None, True),
    }  # fmt: skip


def whole_files() -> dict[str, Kind]:
    """What stands beside the pairs."""
    pair = {f"{P}q.lora_A.weight": A, f"{P}q.lora_B.weight": B}
    two = {f"{P}q.lora_{s}.{n}.weight": x for n in ("a", "b") for s, x in (("A", A), ("B", B))}
    return {
        "two adapters in one file": (two, {"q": 2 * B @ A}, LORA, False),
        "one module in two spellings": (
            {"unet.x.to_q.lora_A.weight": A, "unet.x.to_q.lora_B.weight": B,
             "lora_unet_x_to_q.lora_down.weight": A, "lora_unet_x_to_q.lora_up.weight": B},
            {"lora_unet_x_to_q": B @ A}, None, True),
        "differences of biases and norms (Wan)": (
            {"diffusion_model.x.q.lora_down.weight": A, "diffusion_model.x.q.lora_up.weight": B,
             "diffusion_model.x.q.diff_b": rand(12), "diffusion_model.x.norm.diff": rand(12)},
            {"diffusion_model.x.q": B @ A}, None, True),
        "AdaLoRA pruned to rank 0": (
            {f"{P}q.lora_A": A, f"{P}q.lora_B": B, f"{P}q.lora_E": A[:, :1],
             f"{P}k.lora_A": rand(0, 10), f"{P}k.lora_B": rand(12, 0), f"{P}k.lora_E": rand(0, 1)},
            {"q": B @ torch.diag(A[:, 0]) @ A}, {"peft_type": "ADALORA", "lora_alpha": 4, "r": 4},
            True),
        "tensors not gathered (ZeRO-3)": (
            pair | {f"{P}k.lora_A.weight": rand(0), f"{P}k.lora_B.weight": rand(0)},
            {"q": 2 * B @ A}, LORA, False),
        "VeRA": ({f"{P}q.vera_lambda_b": rand(12), f"{P}q.vera_lambda_d": rand(4)}, "VeRA", None,
                 False),
        "LyCORIS' IA3": ({"lora_unet_x.weight": rand(10), "lora_unet_x.on_input": tensor(False)},
                         "IA3", None, False),
        "Lily": ({f"{P}q.lily_A.weight": A, f"{P}q.lily_B.weight": B}, "Lily", None, False),
    }  # fmt: skip


def judged(told: dict[str, Any], read: dict[str, Tensor], kind: Kind) -> str:
    """A word on what a reader made of a kind."""
    _, right, _, is_exact = kind
    if "crash" in told:
        return "crash"
    if "error" in told:
        is_named = isinstance(right, str) and re.search(right, told["error"])
        return (
            "right" if is_named else "refused" if not isinstance(right, str) else "refused, unnamed"
        )
    if isinstance(right, str):
        return "read as something else"
    if read.keys() != right.keys():
        missing = len(right.keys() - read.keys())
        return f"{missing} modules of {len(right)} missing" if missing else "modules counted twice"
    for name, W in right.items():
        W = W.flatten(1)
        if read[name].shape != W.shape:
            return "wrong shape"
        if float((read[name] - W).norm()) > 1e-4 * float(W.norm()):
            return f"wrong ΔW ({float(read[name].norm() / W.norm()):.2g} of its norm)"
    if told["exact"] and not is_exact:
        return "called exact, which it is not"
    return "right" if told["exact"] == is_exact else "right, not called exact"


def kinds() -> dict[str, Kind]:
    """All of them."""
    return scales() | spellings() | forms() | whole_files()


def reader(root: Path, folder: Path) -> dict[str, str]:
    """What the reader of a checkout makes of every kind."""
    paths = {}
    for i, (label, (tensors, _, config, _)) in enumerate(kinds().items()):
        own = folder / str(i)
        own.mkdir(parents=True)
        paths[label] = own / "adapter_model.safetensors"
        save_file({k: v.contiguous().clone() for k, v in tensors.items()}, paths[label])
        if config is not None:
            (own / "adapter_config.json").write_text(json.dumps(config))
    done = subprocess.run(
        [sys.executable, "-c", READ, *map(str, paths.values())],
        cwd=root, check=True, capture_output=True, text=True,
    )  # fmt: skip
    found = {}
    for (label, path), line in zip(paths.items(), done.stdout.splitlines(), strict=True):
        read = path.with_name(path.name + ".read")
        stored = torch.load(read, weights_only=True) if read.exists() else {}
        found[label] = judged(json.loads(line), stored, kinds()[label])
    return found


def main() -> None:
    parser = benchmark_parser(__doc__)
    parser.add_argument("--before", type=Path, default=None, help="an older checkout")
    args = parser.parse_args()
    start(args)
    with tempfile.TemporaryDirectory() as folder:
        after = reader(Path.cwd(), Path(folder) / "after")
        before = reader(args.before, Path(folder) / "before") if args.before else {}
    for label, word in after.items():
        print(f"{label:48} {before.get(label, '–'):34} {word}")
    store_result("lora-kinds", COMMAND, {"before": before, "after": after})


if __name__ == "__main__":
    main()
