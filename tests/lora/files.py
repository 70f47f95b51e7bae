"""LoRA files of every family, written here with random values, and the ΔW they mean."""

import json
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

N, M, R = 12, 10, 3


def rand(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed + sum(shape)))


def write(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str] | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({k: v.contiguous() for k, v in tensors.items()}, path, metadata=metadata)
    return path


def _pairs(down: str, up: str) -> tuple[dict[str, Tensor], Tensor]:
    a, b = rand(R, M, seed=1), rand(N, R, seed=2)
    return {down: a, up: b}, b @ a


def families() -> dict[str, tuple[dict[str, Tensor], str, Tensor]]:
    """Family → (tensors, module name, ΔW as a matrix)."""
    cases: dict[str, tuple[dict[str, Tensor], str, Tensor]] = {}

    def plain(label: str, down: str, up: str, module: str) -> None:
        tensors, product = _pairs(down, up)
        cases[label] = (tensors, module, product)

    name = "unet.down_blocks.0.attn1"
    plain(
        "attention processors",
        f"{name}.processor.to_q_lora.down.weight",
        f"{name}.processor.to_q_lora.up.weight",
        f"{name}.to_q",
    )
    plain(
        "diffusers layers",
        f"{name}.to_q.lora.down.weight",
        f"{name}.to_q.lora.up.weight",
        f"{name}.to_q",
    )
    plain(
        "diffusers linear layer",
        f"{name}.to_k.lora_linear_layer.down.weight",
        f"{name}.to_k.lora_linear_layer.up.weight",
        f"{name}.to_k",
    )
    plain(
        "diffusers PEFT layers",
        f"{name}.to_q.lora_A.weight",
        f"{name}.to_q.lora_B.weight",
        f"{name}.to_q",
    )
    plain(
        "ComfyUI",
        "diffusion_model.blocks.0.attn.lora_A.weight",
        "diffusion_model.blocks.0.attn.lora_B.weight",
        "diffusion_model.blocks.0.attn",
    )
    plain(
        "xlabs",
        "double_blocks.0.processor.qkv_lora1.down.weight",
        "double_blocks.0.processor.qkv_lora1.up.weight",
        "double_blocks.0.qkv1",
    )
    plain(
        "kohya without alpha",
        "lora_unet_x.lora_down.weight",
        "lora_unet_x.lora_up.weight",
        "lora_unet_x",
    )
    plain("cloneofsimo", "unet:3:down", "unet:3:up", "unet:3")
    plain("loralib", "layer.0.query.lora_A", "layer.0.query.lora_B", "layer.0.query")
    plain("SAM", "w_a_007", "w_b_007", "layer007")
    plain(
        "double prefix",
        "base_model.model.base_model.model.l.q.lora_A.default.weight",
        "base_model.model.base_model.model.l.q.lora_B.default.weight",
        "l.q",
    )

    tensors, product = _pairs("lora_te_x.lora_down.weight", "lora_te_x.lora_up.weight")
    cases["kohya"] = ({**tensors, "lora_te_x.alpha": torch.tensor(6.0)}, "lora_te_x", product * 2)

    down, up = rand(R, 4, 3, 3), rand(N, R, 1, 1)
    cases["convolution"] = (
        {"c.lora_down.weight": down, "c.lora_up.weight": up, "c.alpha": torch.tensor(1.5)},
        "c",
        0.5 * (up[:, :, 0, 0] @ down.flatten(1)),
    )
    down, mid, up = rand(R, 4, 1, 1), rand(R, R, 3, 3), rand(N, R, 1, 1)
    core = torch.einsum("oa,abhw,bi->oihw", up[:, :, 0, 0], mid, down[:, :, 0, 0])
    cases["Tucker convolution"] = (
        {"c.lora_down.weight": down, "c.lora_mid.weight": mid, "c.lora_up.weight": up},
        "c",
        core.permute(0, 1, 2, 3).flatten(1),
    )
    a1, b1, a2, b2 = rand(N, R, seed=1), rand(R, M, seed=2), rand(N, R, seed=3), rand(R, M, seed=4)
    cases["LoHa"] = (
        {
            "h.hada_w1_a": a1,
            "h.hada_w1_b": b1,
            "h.hada_w2_a": a2,
            "h.hada_w2_b": b2,
            "h.alpha": torch.tensor(1.5),
        },
        "h",
        0.5 * (a1 @ b1) * (a2 @ b2),
    )
    w1, a, b = rand(3, 2), rand(4, 2), rand(2, 5)
    cases["LoKr"] = (
        {"k.lokr_w1": w1, "k.lokr_w2_a": a, "k.lokr_w2_b": b, "k.alpha": torch.tensor(1.0)},
        "k",
        0.5 * torch.kron(w1, a @ b),
    )
    w1, w2 = rand(3, 2), rand(4, 5)
    cases["LoKr whole"] = (
        {"k.lokr_w1": w1, "k.lokr_w2": w2, "k.alpha": torch.tensor(1.0)},
        "k",
        torch.kron(w1, w2),
    )
    A, B, E = rand(R, M), rand(N, R), rand(R, 1)
    cases["AdaLoRA"] = (
        {"l.lora_A": A, "l.lora_B": B, "l.lora_E": E},
        "l",
        B @ torch.diag(E.flatten()) @ A,
    )
    a, b = rand(M, R), rand(R, N)
    cases["MLX"] = ({"l.q_proj.lora_a": a, "l.q_proj.lora_b": b}, "l.q_proj", (a @ b).T)
    A, B = rand(R, 30), rand(M, R)
    cases["embedding"] = (
        {"e.lora_embedding_A": A, "e.lora_embedding_B": B},
        "e",
        (B @ A).T,
    )
    low = rand(N, 2) @ rand(2, M)
    cases["full difference"] = ({"d.diff": low}, "d", low)
    return cases  # fmt: skip


def peft_folder(folder: Path, config: dict[str, object], rank: int = R) -> tuple[Path, Tensor]:
    """A PEFT adapter with two modules and its configuration; returns B A of the first."""
    tensors = {}
    product = torch.empty(0)
    for i, module in enumerate(("model.layers.0.q_proj", "model.layers.1.v_proj")):
        A, B = rand(rank, M, seed=i), rand(N, rank, seed=i + 5)
        tensors[f"base_model.model.{module}.lora_A.weight"] = A
        tensors[f"base_model.model.{module}.lora_B.weight"] = B
        product = B @ A if i == 0 else product
    path = write(folder / "adapter_model.safetensors", tensors)
    (folder / "adapter_config.json").write_text(json.dumps(config))
    return path, product
