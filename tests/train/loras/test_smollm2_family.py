"""The family is read, learnt and judged on sources that were not seen, from made-up LoRAs."""

import dataclasses
import json
from pathlib import Path
from statistics import mean

import pytest
import torch
from safetensors.torch import save_file

from wsdemo.checkpoints import load_checkpoint
from wsdemo.lol.data.probes import save_probes
from wsdemo.lol.predictor.files import load_predictor
from wsdemo.lora.names import canonical_names
from wsdemo.lora.reader import read_lora
from wsdemo.train.loras import families, smollm2_family
from wsdemo.train.loras.smollm2_loras import write_manifest
from wsdemo.train.loras.smollm2_probes import PROBES
from wsdemo.train.loras.smollm2_texts import GENERAL, SOURCES, UNSEEN

LAYERS = 2
SHAPES = {"self_attn.q_proj": (6, 6), "self_attn.v_proj": (4, 6), "mlp.down_proj": (6, 9)}
COUNTS = {"train": 48, "validation": 15, "calibration": 15, "test": 15, "unseen": 15}


def made_up(folder: Path) -> None:
    """LoRAs of rank 2 or 12 on some kinds of modules, as strong as their losses are low."""
    g = torch.Generator().manual_seed(0)
    for split, count in COUNTS.items():
        for i in range(count):
            strength, rank = float(torch.rand(1, generator=g)) + 0.1, 2 + 10 * (i % 2)
            kinds = [kind for k, kind in enumerate(SHAPES) if k != i % 4]
            tensors = {}
            for layer in range(LAYERS):
                for kind in kinds:
                    n, m = SHAPES[kind]
                    name = f"base_model.model.model.layers.{layer}.{kind}"
                    B, A = (torch.randn(*s, generator=g) for s in ((n, rank), (rank, m)))
                    tensors[f"{name}.lora_B.weight"] = strength * B / rank**0.5
                    tensors[f"{name}.lora_A.weight"] = A
            place = folder / split / f"{split}-{i}"
            place.mkdir(parents=True)
            save_file(tensors, place / "adapter_model.safetensors")
            (place / "adapter_config.json").write_text(
                f'{{"peft_type": "LORA", "r": {rank}, "lora_alpha": {rank}}}'
            )
            has = {f"has {s}": (i >> k) % 2 for k, s in enumerate(list(SOURCES)[:3])}
            has |= {f"has {s}": int(split == "unseen") for s in UNSEEN}
            losses = {f"loss {s}": -strength for s in (*list(SOURCES)[:3], *UNSEEN, GENERAL)}
            row = {"file": f"{split}/{split}-{i}/adapter_model.safetensors", "split": split,
                   **has, "data_set_size": 4 + i, "steps_x_rate": strength / 100, **losses,
                   "status": "made"}  # fmt: skip
            (place / "labels.json").write_text(json.dumps(row))


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("runs")
    made_up(path / smollm2_family.FOLDER)
    assert write_manifest(path / smollm2_family.FOLDER) == sum(COUNTS.values())
    g = torch.Generator().manual_seed(1)
    names = [*list(SOURCES)[:3], GENERAL]
    layers = [f"base_model.model.model.layers.{i}.{k}" for i in range(LAYERS) for k in SHAPES]
    sides = [SHAPES[name.split(".", 5)[-1]] for name in layers]
    modules = {
        name: (torch.randn(len(names), n, generator=g), torch.randn(len(names), m, generator=g))
        for name, (n, m) in zip(canonical_names(layers), sides, strict=True)
    }
    save_probes(path / PROBES, names, modules)
    return path


def test_the_collection_has_every_module_a_fixed_rank_and_no_unseen_lora(runs: Path) -> None:
    collection = smollm2_family.smollm2(runs)
    assert len(collection.signature) == LAYERS * len(SHAPES)
    counts = {split: len(part.names) for split, part in collection.splits.items()}
    assert counts == {k: v for k, v in COUNTS.items() if k != "unseen"}
    assert set(collection.ranks) == {2, 12}
    train = collection.splits["train"]
    assert train.pairs.is_canonical
    assert train.pairs.rank == smollm2_family.RANK
    name = train.names[0]
    lora = read_lora(runs / smollm2_family.FOLDER / name)
    module = lora.modules[-1]
    groups = zip(collection.signature.groups, train.pairs.groups, strict=True)
    (own,) = [
        U[0, names.index(module.name)].float() @ V[0, names.index(module.name)].float().mT
        for (_, names), (U, V) in groups
        if module.name in names
    ]
    torch.testing.assert_close(own, module.U @ module.V.mT, atol=3e-3, rtol=3e-3)
    tasks = {task.name: task for task in collection.tasks}
    assert not any(name in label for name in UNSEEN for label in tasks["sources"].labels)
    assert f"loss {GENERAL}" not in tasks["loss by source"].labels


def test_a_predictor_is_trained_written_and_judged_on_unseen_sources(
    runs: Path, tmp_path: Path
) -> None:
    families.main([
        "smollm2", f"--runs={runs}", f"--out={tmp_path}", "--seeds=1", "--toy",
        "--models", "gl-net-shared", "spectral",
    ])  # fmt: skip
    path = tmp_path / "lol-smollm2.safetensors"
    predictor = load_predictor(path)
    _, meta = load_checkpoint(path)
    judged = meta["unseen"]["loss by source"].values()
    assert meta["unseen"]["loras"] == COUNTS["unseen"]
    assert mean(label["spearman_rho"] for label in judged) > 0.5
    file = runs / smollm2_family.FOLDER / "unseen/unseen-0/adapter_model.safetensors"
    lora = read_lora(file)
    assert predictor.matches(lora)
    assert predictor.required == ()
    odd = dataclasses.replace(lora, modules=lora.modules[:1])
    assert predictor.matches(odd)
