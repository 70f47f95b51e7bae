"""The public collections' layouts, in small, on the loopback Hub."""

import json

import duckdb
import numpy as np
import torch
from safetensors.torch import save

SITES = [f"unet.down_blocks.0.attentions.{i}.transformer_blocks.0.attn1.to_{p}" for i in range(2)
         for p in "kq"]  # fmt: skip
SIDE = 12

CARD = """---
base_model: {base}
library_name: peft
tags:
- model-j
---

# Model-J: SD_200 - {name}

## Model Details

| Attribute | Value |
|---|---|
| **Subset** | SD_200 |
| **Split** | {split} |
| **Base Model** | {base} |
| **ImageNet Class** | {subject} |

## Training Hyperparameters

| Parameter | Value |
|---|---|
| Learning Rate | 3e-05 |
| Max Train Steps | {steps} |
| LoRA Rank | 4 |
| Seed | 1 |
| N Training Samples | {count} |
"""


def diffusers(seed, rank=4, metadata=None):
    """A LoRA as diffusers writes it."""
    g = torch.Generator().manual_seed(seed)
    tensors = {}
    for site in SITES:
        tensors[f"{site}.lora.down.weight"] = torch.randn(rank, SIDE, generator=g)
        tensors[f"{site}.lora.up.weight"] = torch.randn(SIDE, rank, generator=g)
    return save(tensors, metadata=metadata)


def peft(seed, rank=4):
    g = torch.Generator().manual_seed(seed)
    tensors = {}
    for i in range(2):
        name = f"base_model.model.model.layers.{i}.self_attn.q_proj"
        tensors[f"{name}.lora_A.weight"] = torch.randn(rank, SIDE, generator=g)
        tensors[f"{name}.lora_B.weight"] = torch.randn(SIDE, rank, generator=g)
    return save(tensors)


def config(base="acme/mistral", rank=4):
    told = {"r": rank, "lora_alpha": 2 * rank, "base_model_name_or_path": base,
            "peft_type": "LORA"}  # fmt: skip
    return json.dumps(told).encode()


def model_j(hub, repo="ProbeX/Model-J__SD_200", base="CompVis/stable-diffusion-v1-4"):
    """Six LoRAs of three splits, and one of a holdout split."""
    files = {"README.md": b"# Model-J", ".gitattributes": b""}
    places = [("train", i) for i in range(3)] + [("val", 3), ("test", 4), ("val_holdout", 9)]
    for split, i in places:
        name = f"model_idx_{i:04d}"
        card = CARD.format(base=base, name=name, split=split, subject=f"cat_{i % 2} (n{i % 2})",
                           steps=500 + i, count=10 + i)  # fmt: skip
        files[f"{split}/{name}/README.md"] = card.encode()
        files[f"{split}/{name}/pytorch_lora_weights.safetensors"] = diffusers(i)
        files[f"{split}/{name}/training_images/0.png"] = b"png"
    hub.files[repo] = files
    hub.card[repo] = {"license": "mit"}
    return repo


def w2t(hub, repo="datasets/Xiaolong-Han/w2t-diffusion-celeba-lora"):
    """Checkpoints, labels and splits in one data set, with a manifest of where they came from."""
    names = [f"lora_{i:05d}" for i in range(5)]
    files = {f"checkpoints/{n}/adapter_model.safetensors": peft(i) for i, n in enumerate(names)}
    files |= {f"checkpoints/{n}/adapter_config.json": config() for n in names}
    rows = ["name,smiling,young", *(f"{n},{i % 2},{i // 2 % 2}" for i, n in enumerate(names[:4]))]
    files["labels/attributes.csv"] = "\n".join(rows).encode()
    splits = {"train": names[:2], "val": names[2:3], "test": names[3:4]}
    files["splits.json"] = json.dumps(splits).encode()
    files["manifest.json"] = json.dumps({"source": "elsewhere"}).encode()
    files["README.md"] = b"# W2T"
    hub.files[repo] = files
    hub.card[repo] = {"license": "other", "license_name": "research-only"}
    return repo


def wise(hub, folder, repo="datasets/MoSalama98/LoRA-WiSE", rank=4):
    """Two subsets of Parquet; of one LoRA the numbers are nested."""
    files = {"README.md": b"# LoRA-WiSE"}
    for subset in ("low", "high"):
        for shard in range(2):
            rows = [(10 * (shard + 1), f"toy_{row}") for row in range(3)]
            path = folder / "x.parquet"
            _write_rows(path, rows, rank, seed=shard)
            place = f"{subset}/{rank}/train-{shard:05d}-of-00002.parquet"
            files[place] = path.read_bytes()
    hub.files[repo] = files
    return repo


def _write_rows(path, rows, rank, seed):
    g = np.random.default_rng(seed)
    selects = []
    for size, name in rows:
        cells = [f"{size}::BIGINT AS label", f"'{name}' AS name"]
        for site in SITES:
            for role in ("down", "up"):
                numbers = ", ".join(f"{v:.4f}" for v in g.standard_normal(rank * SIDE))
                cells.append(f'[{numbers}]::DOUBLE[] AS "{site}.lora.{role}.weight"')
        selects.append("SELECT " + ", ".join(cells))
    duckdb.execute(f"COPY ({' UNION ALL '.join(selects)}) TO '{path}' (FORMAT parquet)")


def lots(hub, owner="Lots-of-LoRAs"):
    """Three tasks, a repository each, and the data sets whose names and cards say what they are."""
    kinds = ("goemotions_classification", "gcwd_classification", "jfleg_answer_generation")
    for i, kind in enumerate(kinds):
        repo = f"{owner}/Mistral-7B-Instruct-v0.2-4b-r16-task{889 + i}"
        hub.files[repo] = {"adapter_model.safetensors": peft(i), "adapter_config.json": config(),
                           "README.md": b"# Model card"}  # fmt: skip
        hub.card[repo] = {"license": "mit", "base_model": "mistralai/Mistral-7B-Instruct-v0.2"}
        data = f"datasets/{owner}/task{889 + i}_{kind}"
        hub.files[data] = {"README.md": b"# Data"}
        counts = [{"name": "train", "num_examples": 100 + i}, {"name": "valid", "num_examples": 9}]
        hub.card[data] = {"dataset_info": {"config_name": "plain_text", "splits": counts}}
    return owner
