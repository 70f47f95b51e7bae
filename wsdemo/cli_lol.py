"""The command line's verbs that learn on LoRAs: predict, lol train, evaluate, list, examples."""

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from wsdemo.checkpoints import DIRECTORY, load_checkpoint
from wsdemo.errors import WsdemoError
from wsdemo.hub_reference import looks_like_reference
from wsdemo.lol.answers import answer
from wsdemo.lol.build import build_predictor, compare_models, task_metrics
from wsdemo.lol.card import predictor_card
from wsdemo.lol.collection import load_collection
from wsdemo.lol.models import MODELS
from wsdemo.lol.predictor_files import save_predictor
from wsdemo.lol.shipped import find_predictor, known_predictors
from wsdemo.lora.base_model import origin_of
from wsdemo.lora.reader import judge_header, read_lora

Result = dict[str, Any]
EXAMPLES = "lora-examples"


def lora_file(text: str) -> Path:
    """A path as it is, or a reference to the Hub, downloaded.

    Raises:
        WsdemoError: It is neither a file nor a reference, the Hub refuses, or by its header it
            holds no LoRA, in which case it is not downloaded.
    """
    path = Path(text)
    if path.exists():
        return path
    if not looks_like_reference(text):
        raise WsdemoError("File not found", f"{text} is not a file.", "Check the path.")
    from wsdemo import hub  # huggingface_hub takes a second to import

    found, repository, candidate = hub.fetch_file(text, hub.own_token(), judge_header)
    kept = " (offline: the copy on this machine)" if repository.is_offline else ""
    report(f"{repository.repo}@{repository.commit}:{candidate.path}{kept}")
    return found


def own_token(texts: Sequence[str]) -> str | None:
    """The token of this machine's own Hub tools, if one of some predictors comes from there."""
    if all(Path(text).exists() for text in texts):
        return None
    from wsdemo import hub

    return hub.own_token()


def run_predict(args: argparse.Namespace) -> Result:
    """``predict FILE_OR_REPO``: what a LoRA's weights say, or why they say nothing."""
    predictors = known_predictors(args.predictor, own_token(args.predictor))
    path = lora_file(args.input)
    started = time.monotonic()
    lora = read_lora(path)
    found = answer(lora, predictors).to_dict(time.monotonic() - started)
    origin = origin_of(lora.config)
    return found | ({"origin": origin} if origin else {})


def report(text: str) -> None:
    """Progress, on stderr."""
    print(text, file=sys.stderr, flush=True)


def run_train(args: argparse.Namespace) -> Result:
    """``lol train``: a predictor for a folder of LoRAs with labels."""
    if not args.loras.is_dir():
        raise WsdemoError("No folder", f"{args.loras} is no folder.", "Give a folder of LoRAs.")
    unknown = sorted(set(args.models or ()) - set(MODELS))
    if unknown:
        raise WsdemoError(
            "Unknown model", f"Found {', '.join(unknown)}.", f"Choose among {', '.join(MODELS)}."
        )
    started, out = time.monotonic(), args.out
    torch.manual_seed(0)
    collection = load_collection(args.loras, args.labels)
    for note in collection.notes:
        report(note)
    counts = {k: len(v.names) for k, v in collection.splits.items()}
    report(f"{counts}, {len(collection.signature)} modules, tasks: "
           + ", ".join(t.name for t in collection.tasks))  # fmt: skip
    rows = {
        task.name: compare_models(collection, task, args.models or MODELS, args.seeds, report)
        for task in collection.tasks
    }
    name = args.name or out.name
    predictor = build_predictor(
        collection, rows, name, f"LoRAs of {collection.base or name}", "additive"
    )
    comparison = {t: [r.to_dict() for r in own] for t, own in rows.items()}
    extra = {"counts": counts, "comparison": comparison, "seeds": args.seeds}
    file = out / "predictor.safetensors"
    save_predictor(file, predictor, extra)
    (out / "README.md").write_text(predictor_card(file))
    return {
        "predictor": str(file),
        "counts": counts,
        "tasks": {t: m.measured for t, m in predictor.tasks.items()},
        "not_answered": [t.name for t in collection.tasks if t.name not in predictor.tasks],
        "notes": list(collection.notes),
        "seconds": time.monotonic() - started,
    }


def run_evaluate(args: argparse.Namespace) -> Result:
    """``lol evaluate``: a predictor against the labels of a folder of LoRAs."""
    predictor = find_predictor(args.predictor, own_token([args.predictor]))
    tasks = [m.task for m in predictor.tasks.values()]
    collection = load_collection(args.loras, args.labels, tasks)
    if dict(collection.signature.shapes) != dict(predictor.signature.shapes):
        raise WsdemoError(
            "Another family",
            f"The LoRAs have {len(collection.signature)} modules, which are not the predictor's"
            f" {len(predictor.signature)}.",
            "Evaluate on LoRAs of the base model that it was trained for.",
        )
    found: Result = {}
    for name, models in predictor.tasks.items():
        test = collection.splits["test"].known(models.task)
        out = models.outputs(test.pairs)
        figures = task_metrics(models.task, out, test.targets(models.task), models.std)
        found[name] = {"test_loras": len(test.names), **figures}
    return {"predictor": predictor.name, "tasks": found}


def run_list(args: argparse.Namespace) -> Result:
    """``lol list``: every predictor and what it knows."""
    return {
        "predictors": [
            {
                "name": p.name,
                "family": p.title,
                "base": p.base,
                "modules": len(p.signature),
                "ranks": list(p.ranks),
                "labels": [label for m in p.tasks.values() for label in m.task.labels],
            }
            for p in known_predictors(args.predictor, own_token(args.predictor))
        ]
    }


def run_examples(args: argparse.Namespace) -> Result:
    """``lol examples``: writes the shipped test LoRAs with their true labels."""
    out: Path = args.out
    from safetensors.torch import save_file

    tensors, meta = load_checkpoint(DIRECTORY / f"{EXAMPLES}.safetensors")
    files = []
    for i, entry in enumerate(meta["loras"]):
        own = {k.split("/", 1)[1]: v for k, v in tensors.items() if k.startswith(f"{i}/")}
        path = out / f"{entry['name']}.safetensors"
        save_file(own, path, metadata=entry["metadata"])
        files.append({"file": str(path), "family": entry["family"], "labels": entry["labels"]})
    (out / "labels.json").write_text(json.dumps(files, indent=1))
    return {"files": files}
