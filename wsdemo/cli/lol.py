"""The command line's verbs that learn on LoRAs: predict, lol train, evaluate, list, examples."""

import argparse
import dataclasses
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from wsdemo.checkpoints import DIRECTORY, load_checkpoint
from wsdemo.errors import WsdemoError, check_range
from wsdemo.files import write_whole
from wsdemo.hub.reference import looks_like_reference
from wsdemo.limits import MAX_ENSEMBLE, MAX_IMPORTED_FILES
from wsdemo.lol.data.collection import Collection, load_collection
from wsdemo.lol.models.memory import affordable
from wsdemo.lol.models.networks import MODELS
from wsdemo.lol.predictor.answers import ask
from wsdemo.lol.predictor.build import (
    OWN_PARAMETERS,
    best_row,
    build_predictor,
    caveat,
    common_rank,
    compare_models,
    model_config,
)
from wsdemo.lol.predictor.calibration import task_metrics
from wsdemo.lol.predictor.card import predictor_card
from wsdemo.lol.predictor.files import load_predictor, save_predictor, seen_names, without_nan
from wsdemo.lol.predictor.provenance import check_calibration, provenance
from wsdemo.lol.predictor.shipped import find_predictor, known_predictors
from wsdemo.lol.predictor.unseen import load_unseen
from wsdemo.lora.base_model import origin_of
from wsdemo.lora.reader import judge_header
from wsdemo.lora.reading import read

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
    from wsdemo.hub import client as hub  # huggingface_hub takes a second to import

    file, repository, candidate = hub.fetch_file(text, hub.own_token(), judge_header)
    kept = " (offline: the copy on this machine)" if repository.is_offline else ""
    report(f"{repository.repo}@{repository.commit}:{candidate.path}{kept}")
    return file


def own_token(texts: Sequence[str]) -> str | None:
    """The token of this machine's own Hub tools, if one of some predictors comes from there."""
    if all(Path(text).exists() for text in texts):
        return None
    from wsdemo.hub import client as hub

    return hub.own_token()


def run_predict(args: argparse.Namespace) -> Result:
    """``predict FILE_OR_REPO``: what a LoRA's weights say, or why they say nothing."""
    predictors = known_predictors(args.predictor, own_token(args.predictor))
    path = lora_file(args.input)
    started = time.monotonic()
    reading = read(path)
    answer = ask(reading, predictors)[0].to_dict(time.monotonic() - started)
    origin = origin_of(reading.lora.config)
    return answer | ({"origin": origin} if origin else {})


def report(text: str) -> None:
    """Prints progress on stderr, at once."""
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
    check_range("seeds", args.seeds, 1, MAX_ENSEMBLE)
    started, out = time.monotonic(), args.out
    torch.manual_seed(0)
    collection = load_collection(args.loras, args.labels)
    check_calibration(collection)
    about = provenance(collection)
    models, notes = models_to_train(collection, args.models or MODELS, args.seeds)
    notes = [*collection.notes, *notes]
    for note in notes:
        report(note)
    report(f"{about['counts']}, {len(collection.signature)} modules, tasks: "
           + ", ".join(t.name for t in collection.tasks))  # fmt: skip
    rows = {
        task.name: compare_models(collection, task, models, args.seeds, report)
        for task in collection.tasks
    }
    name = args.name or out.name
    predictor = build_predictor(
        collection, rows, name, f"LoRAs of {collection.base or name}", collection.kind,
        most_parameters=OWN_PARAMETERS, only_useful=True,
    )  # fmt: skip
    for models_of in predictor.tasks.values():
        task = models_of.task
        if remark := caveat(task, best_row(rows[task.name], OWN_PARAMETERS), OWN_PARAMETERS):
            notes.append(remark)
    comparison = {t: [r.to_dict() for r in compared] for t, compared in rows.items()}
    extra = {**about, "notes": notes, "comparison": comparison, "seeds": args.seeds}
    file = out / "predictor.safetensors"
    save_predictor(file, predictor, without_nan(extra))
    load_predictor(file)  # what cannot be opened again is not reported as done
    write_whole(out / "README.md", predictor_card(file))
    return without_nan({
        "predictor": str(file),
        "counts": about["counts"],
        "calibration": about["calibration"],
        "tasks": {t: m.measured for t, m in predictor.tasks.items()},
        "not_answered": [t.name for t in collection.tasks if t.name not in predictor.tasks],
        "notes": notes,
        "seconds": time.monotonic() - started,
    })  # fmt: skip


def models_to_train(
    collection: Collection, names: Sequence[str], seeds: int
) -> tuple[list[str], list[str]]:
    """Those of some models that fit into memory, and why the others are skipped.

    Raises:
        WsdemoError: None fits.
    """
    outputs = max(len(task.labels) for task in collection.tasks)
    rank, loras = common_rank(collection.ranks), len(collection.splits["train"].names)
    configs = [model_config(name, outputs, rank, loras) for name in names]
    models, skipped = affordable(collection.signature, configs, seeds)
    if not models:
        raise WsdemoError(
            "Not enough memory", f"{'. '.join(skipped)}.", "Choose another model, or fewer modules."
        )
    return models, skipped


def run_evaluate(args: argparse.Namespace) -> Result:
    """``lol evaluate``: a predictor against the labels of LoRAs that it was not made from.

    Of a folder with a column ``split`` these are the test LoRAs.
    """
    predictor = find_predictor(args.predictor, own_token([args.predictor]))
    path = Path(args.predictor)
    # Of one from the Hub only the training LoRAs are known here.
    seen = seen_names(path) if path.exists() else predictor.envelope.names
    unseen, notes = load_unseen(args.loras, args.labels, predictor, seen)
    for note in notes:
        report(note)
    figures: Result = {}
    for name, models in predictor.tasks.items():
        test = unseen.known(models.task)
        figures[name] = {"test_loras": len(test.names)}
        if test.names:
            out = models.outputs(test.pairs)
            figures[name] |= task_metrics(models.task, out, test.targets(models.task), models.std)
    return without_nan({"predictor": predictor.name, "tasks": figures, "notes": notes})


def run_list(args: argparse.Namespace) -> Result:
    """``lol list``: every predictor and what it knows."""
    return {
        "predictors": [
            {
                "name": p.name,
                "family": p.title,
                "base": p.base,
                "modules": len(p.signature),
                "ranks": sorted({r for m in p.tasks.values() for r in m.ranks or p.ranks}),
                "labels": [label for m in p.tasks.values() for label in m.task.labels],
            }
            for p in known_predictors(args.predictor, own_token(args.predictor))
        ]
    }


def run_import(args: argparse.Namespace) -> Result:
    """``lol import``: a public collection as a folder of LoRAs with labels.csv."""
    from wsdemo.hub import client  # huggingface_hub takes a second to import
    from wsdemo.lol.imports.importing import LABELS, import_collection

    if args.most is not None:
        check_range("most", args.most, 1, MAX_IMPORTED_FILES)
    done = import_collection(
        args.source, args.out, report, client.own_token(), base=args.base, most=args.most,
        allow_missing=args.allow_missing,
    )  # fmt: skip
    facts = dataclasses.asdict(done) | {"labels": str(args.out / LABELS)}
    return facts | {"seconds": round(done.seconds, 3)}


def run_examples(args: argparse.Namespace) -> Result:
    """``lol examples``: writes the shipped test LoRAs with their true labels."""
    out: Path = args.out
    from safetensors.torch import save

    tensors, meta = load_checkpoint(DIRECTORY / f"{EXAMPLES}.safetensors")
    files = []
    for i, entry in enumerate(meta["loras"]):
        lora = {k.split("/", 1)[1]: v for k, v in tensors.items() if k.startswith(f"{i}/")}
        path = out / f"{entry['name']}.safetensors"
        write_whole(path, save(lora, metadata=entry["metadata"]))
        files.append({"file": str(path), "family": entry["family"], "labels": entry["labels"]})
    write_whole(out / "labels.json", json.dumps(files, indent=1))
    return {"files": files}
