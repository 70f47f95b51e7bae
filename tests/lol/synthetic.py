"""A made-up family of LoRAs whose labels are known functions of the update."""

import csv
from pathlib import Path

import torch
from safetensors.torch import save_file

from wsdemo.lol.data.pairs import Pairs, Signature
from wsdemo.lol.data.tasks import LabelledLoras

SIGNATURE = Signature({"block0.to_q": (12, 12), "block0.to_v": (12, 8), "block1.to_q": (12, 12)})


def pairs(count, rank=3, seed=0, dtype=torch.float32, scale=1.0):
    g = torch.Generator().manual_seed(seed)
    groups = []
    for (n, m), names in SIGNATURE.groups:
        U = torch.randn(count, len(names), n, rank, generator=g, dtype=torch.float64)
        V = torch.randn(count, len(names), m, rank, generator=g, dtype=torch.float64)
        groups.append(((scale * U).to(dtype), V.to(dtype)))
    return Pairs(tuple(groups))


def labelled(count, seed, rank=3):
    """Strength differs; ``score`` is its logarithm, ``sign`` the sign of one direction."""
    g = torch.Generator().manual_seed(1000 + seed)
    strength = 2 ** (2 * torch.rand(count, generator=g) - 1)
    sign = (torch.rand(count, generator=g) < 0.5).float()
    base = pairs(count, rank, seed)
    groups = []
    for i, (U, V) in enumerate(base.groups):
        U = U * strength[:, None, None, None]
        if i == 0:  # a shared direction u vᵀ with the label's sign in the first column
            U[:, 0, :, 0] = 4 * strength[:, None] * (2 * sign - 1)[:, None]
            V = V.clone()
            V[:, 0, :, 0] = 1.0
        groups.append((U, V))
    labels = {"score": strength.log2(), "sign": sign, "size": strength.log2().exp2() * 10}
    return LabelledLoras(
        Pairs(tuple(groups)), labels, tuple(f"lora-{seed}-{i}" for i in range(count))
    )


def write_collection(folder: Path, count=60, rank=3, base="acme/tiny@1"):
    """A folder of diffusers-style files with a labels.csv."""
    import json

    folder.mkdir(parents=True, exist_ok=True)
    data = labelled(count, 5, rank)
    rows = []
    for i in range(count):
        tensors = {}
        for (_, names), (U, V) in zip(SIGNATURE.groups, data.pairs.groups, strict=True):
            for j, name in enumerate(names):
                tensors[f"transformer.{name}.lora_B.weight"] = U[i, j].contiguous()
                tensors[f"transformer.{name}.lora_A.weight"] = V[i, j].T.contiguous()
        config = {"transformer.r": rank, "transformer.lora_alpha": rank}
        metadata = {"lora_adapter_metadata": json.dumps(config), "modelspec.architecture": base}
        name = f"lora-{i:03d}.safetensors"
        save_file(tensors, folder / name, metadata=metadata)
        rows.append({"file": name, "score": float(data.labels["score"][i]),
                     "sign": int(data.labels["sign"][i])})  # fmt: skip
    with (folder / "labels.csv").open("w", newline="") as handle:
        writer = csv.DictWriter(handle, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return folder / "labels.csv"
