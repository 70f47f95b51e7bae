"""What the shipped predictors do beyond the comparison that their recipe stores:

    python -m benchmarks.lol --data celeba.zip --loras LORAS

- Fig. 4: the models of the CelebA-CLIP score, trained on rank 4, on LoRAs of other ranks; and
  what the shipped predictor's intervals hold there.
- Gauge attack: every test LoRA re-factored by a random R of condition up to 10.
- Prediction against drawing 33 faces and scoring them, in one run.
- Abstention: on real LoRAs of other bases, and on the family's own test LoRAs.
"""

import copy
import time
from pathlib import Path
from typing import Any

import torch

from benchmarks.common import benchmark_parser, start, store_result
from wsdemo.checkpoints import DIRECTORY
from wsdemo.errors import WsdemoError
from wsdemo.generate.lora_layers import adapt
from wsdemo.generate.text_to_face import FaceGenerator, shipped_generator
from wsdemo.lol.data.collection import Collection, load_collection
from wsdemo.lol.data.pairs import Pairs, pack, regauge_pairs
from wsdemo.lol.data.tasks import LabelledLoras, Task
from wsdemo.lol.models.fitting import train_model
from wsdemo.lol.predictor.answers import answer
from wsdemo.lol.predictor.build import common_rank, model_config, training_budget
from wsdemo.lol.predictor.files import load_predictor
from wsdemo.lol.predictor.metrics import regression_metrics
from wsdemo.lol.predictor.shipped import shipped_predictors
from wsdemo.lora.reader import read_lora
from wsdemo.train.loras.face_loras import TARGETS, score
from wsdemo.train.loras.families import GENERATOR_TASKS

RANK_MODELS = ("gl-net", "gl-net-norms", "mlp-svd", "mlp-dense")


def by_rank(test: LabelledLoras) -> dict[int, list[int]]:
    """Rank → places of the test LoRAs that have it."""
    found: dict[int, list[int]] = {}
    for i in range(len(test.names)):
        U = [u[i] for u, _ in test.pairs.groups]
        rank = max(int((u.abs().sum((0, 1)) > 0).sum()) for u in U)
        found.setdefault(rank, []).append(i)
    return dict(sorted(found.items()))


def ranks(collection: Collection, task: Task, seeds: int) -> dict[str, dict[str, float]]:
    """Model → rank → test MSE in units of the training labels' variance.

    Trained as for the predictor's own comparison.
    """
    test, train = collection.splits["test"], collection.splits["train"]
    found: dict[str, dict[str, float]] = {}
    for name in RANK_MODELS:
        loras = len(train.names)
        fitted = [
            train_model(collection.signature, model_config(name, 1, 4, loras), task, train,
                        collection.splits["validation"], seed, training_budget(name, loras))
            for seed in range(seeds)
        ]  # fmt: skip
        found[name] = {}
        for rank, index in by_rank(test).items():
            rows = torch.tensor(index)
            true = test.targets(task)[rows, 0]
            errors = [
                regression_metrics(
                    f.predict(test.pairs.pick(rows).padded(max(4, rank)))[:, 0], true, float(f.std)
                )["mse"]
                for f in fitted
            ]
            found[name][str(rank)] = sum(errors) / len(errors)
        print(name, found[name], flush=True)
    return found


def shipped_by_rank(collection: Collection) -> dict[str, dict[str, dict[str, float]]]:
    """Task of numbers → rank → ρ and coverage of the shipped predictor's intervals, on test."""
    predictor = load_predictor(DIRECTORY / "lol-face-generator.safetensors")
    test = collection.splits["test"]
    found: dict[str, dict[str, dict[str, float]]] = {}
    for name, models in predictor.tasks.items():
        if models.task.kind == "binary":
            continue
        found[name] = {}
        for rank, index in by_rank(test).items():
            own = test.pick(torch.tensor(index))
            out = models.outputs(own.pairs.padded(max(4, rank)))[:, 0]
            true = own.targets(models.task)[:, 0]
            inside = ((out - true).abs() <= models.half_width[0]).float().mean()
            figures = regression_metrics(out, true, float(models.std[0]))
            found[name][str(rank)] = {
                "loras": len(index), "rho": figures["spearman_rho"], "coverage": float(inside),
            }  # fmt: skip
    return found


def gauge_attack(collection: Collection) -> dict[str, dict[str, float]]:
    """Task → change of the predictor and of the MLP, in standard deviations of predictions."""
    predictor = load_predictor(DIRECTORY / "lol-face-generator.safetensors")
    common = common_rank(collection.ranks)
    found = {}
    for name, models in predictor.tasks.items():
        pairs = collection.splits["test"].known(models.task).pairs
        turned = regauge_pairs(pairs, torch.Generator().manual_seed(0))
        a, b = models.outputs(pairs), models.outputs(turned)
        found[name] = {"predictor": float(((a - b).abs().amax(0) / a.std(0)).max())}
        if models.baseline is not None:  # reads no rank beyond the common one
            pairs = pairs.padded(common)
            turned = regauge_pairs(pairs, torch.Generator().manual_seed(0))
            a, b = models.baseline_outputs(pairs), models.baseline_outputs(turned)
            found[name]["mlp"] = float(((a - b).abs().mean(0) / a.std(0)).mean())
    return found


def against_generating(file: Path) -> dict[str, float]:
    """Seconds to read and predict a LoRA, and to draw and score 33 faces with it."""
    predictors = shipped_predictors()
    answer(read_lora(file), predictors)  # once, so that everything is loaded
    started = time.perf_counter()
    for _ in range(20):
        lora = read_lora(file)
    reading = (time.perf_counter() - started) / 20
    started = time.perf_counter()
    for _ in range(20):
        answer(lora, predictors)
    whole = (time.perf_counter() - started) / 20
    found = next(p for p in predictors if p.matches(lora))
    pairs = pack(lora, found.signature)
    batch = Pairs.join([pairs] * 512)
    models = found.tasks["CelebA-CLIP score"]
    models.outputs(batch)
    started = time.perf_counter()
    for _ in range(5):
        models.outputs(batch)
    forward = (time.perf_counter() - started) / 5 / 512
    generator = shipped_generator()
    network = copy.deepcopy(generator.network)
    adapt(network, TARGETS)
    adapted = FaceGenerator(network, generator.prior.variances, generator.clip)
    score(adapted)
    started = time.perf_counter()
    score(adapted)
    scoring = time.perf_counter() - started
    return {
        "read_seconds": reading, "answer_seconds": whole, "forward_seconds": forward,
        "generate_and_score_seconds": scoring, "ratio_forward": scoring / forward,
        "ratio_answer": scoring / (reading + whole),
    }  # fmt: skip


def abstention(loras: Path | None, runs: Path) -> dict[str, Any]:
    """Real LoRAs of other bases must get no prediction, the family's own test LoRAs one."""
    predictors = shipped_predictors()
    foreign = {"read": 0, "abstained": 0}
    for path in sorted(loras.rglob("*.safetensors")) if loras else []:
        try:
            lora = read_lora(path)
        except WsdemoError:
            continue
        foreign["read"] += 1
        foreign["abstained"] += answer(lora, predictors).abstained
    return {
        "foreign": foreign,
        "own": _own_abstention(sorted((runs / "face-loras" / "test").glob("*.safetensors"))),
    }


def _own_abstention(paths: list[Path]) -> dict[str, Any]:
    """How many test LoRAs of a family get no prediction, by rank and with the reasons."""
    predictors = shipped_predictors()
    own: dict[str, Any] = {"files": 0, "abstained": 0, "abstained_by_rank": {}, "reasons": {}}
    for path in paths:
        lora = read_lora(path)
        found = answer(lora, predictors)
        own["files"] += 1
        own["abstained"] += found.abstained
        rank = str(max(lora.ranks))
        by_rank = own["abstained_by_rank"]
        by_rank[rank] = by_rank.get(rank, 0) + found.abstained
        if found.abstained:
            reason = found.reason[:40]
            own["reasons"][reason] = own["reasons"].get(reason, 0) + 1
    return own


def main() -> None:
    parser = benchmark_parser(__doc__)
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    parser.add_argument("--loras", type=Path, default=None, help="folder of real LoRAs")
    parser.add_argument("--seeds", type=int, default=3)
    args = parser.parse_args()
    start(args)
    folder = args.runs / "face-loras"
    collection = load_collection(folder, folder / "manifest.csv", GENERATOR_TASKS)
    values: dict[str, Any] = {"abstention": abstention(args.loras, args.runs)}
    print(values, flush=True)
    values["gauge"] = gauge_attack(collection)
    print(values["gauge"], flush=True)
    first = next((folder / "test").glob("celeba-*.safetensors"))
    values["speed"] = against_generating(first)
    print(values["speed"], flush=True)
    values["shipped_by_rank"] = shipped_by_rank(collection)
    print(values["shipped_by_rank"], flush=True)
    values["ranks"] = ranks(collection, GENERATOR_TASKS[0], args.seeds)
    values["ranks_seeds"] = args.seeds
    command = f"python -m benchmarks.lol --data celeba.zip --loras LORAS --seeds {args.seeds}"
    store_result("lol", command, values)


if __name__ == "__main__":
    main()
