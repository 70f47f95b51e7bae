"""Trains, compares, calibrates and writes the predictor of a shipped family of LoRAs.

    python -m wsdemo.train.loras.families face-fields --data celeba.zip
    python -m wsdemo.train.loras.families face-generator
    python -m wsdemo.train.loras.families smollm2 --models gradient-probes spectral

``face-fields``: the mLoRA and mLoRA-Asym adapters of ``faces_ranks`` and ``faces_fit``, those of
mirrored training faces too; labels: CelebA's attributes of the photo. ``face-fields-lora``: the
same of LoRA, whose products are added.
``face-generator``: the LoRAs of ``face_loras``. ``smollm2``: those of ``smollm2_loras``. All models
are trained on every task with ``--seeds`` seeds each; the comparison lies in the predictor's
metadata.
"""

import argparse
import dataclasses
import itertools
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from wsdemo.checkpoints import load_checkpoint
from wsdemo.domains.faces import FACES
from wsdemo.errors import WsdemoError
from wsdemo.fields.adapters import Adapter, AdapterConfig
from wsdemo.fields.base_files import load_base
from wsdemo.lol.data.collection import Collection, load_collection, read_labels
from wsdemo.lol.data.pairs import Pairs, Signature
from wsdemo.lol.data.tasks import LabelledLoras, Task
from wsdemo.lol.models.networks import MODELS
from wsdemo.lol.models.probes import PROBED
from wsdemo.lol.predictor.build import Row, build_predictor, compare_models, recalibrated
from wsdemo.lol.predictor.calibration import task_metrics
from wsdemo.lol.predictor.files import load_predictor, save_predictor
from wsdemo.lol.predictor.predictor import Predictor
from wsdemo.lol.predictor.provenance import check_calibration, provenance
from wsdemo.runtime import choose_threads, tune_allocator
from wsdemo.train.faces.data import load_faces, toy_faces
from wsdemo.train.faces.ranks import RANKS
from wsdemo.train.loop import log, recipe_parser, start
from wsdemo.train.loras import smollm2_family
from wsdemo.train.loras.face_loras import ATTRIBUTES, GROUPS
from wsdemo.train.population import fits_folder, load_fits

GENERATOR_TASKS = (
    Task("CelebA-CLIP score", ("celeba_clip_score",), "regression", unit="100 x cosine"),
    Task("attributes", ATTRIBUTES, "binary"),
    Task("groups", tuple(f"has {g}" for g in GROUPS), "binary"),
    Task("data set size", ("data_set_size",), "regression", logarithm=True, unit="faces"),
)
MEASURED_RANKS = {"CelebA-CLIP score": (1, 2, 8)}
"""Where benchmarks/lol.py finds the face generator's predictor good beyond its rank of 4. At 16 and
32 the score's error was as large as its variance on an earlier test collection; the data set's size
is read at rank 4 alone."""
TITLES = {
    "face-fields": "mLoRA and mLoRA-Asym instances of faces-base: one fitted face each",
    "face-fields-lora": "LoRA instances of faces-base: one fitted face each",
    "face-generator": "LoRAs of faces-generator, the text-conditional face generator of wsdemo",
    "smollm2": smollm2_family.TITLE,
}

FIELDS = {"face-fields": ("mlora-asym", "mlora"), "face-fields-lora": ("lora",)}
"""Families of fitted faces → their representations: multiplied and added products do not mix."""


def pairs_of(adapter: Adapter, instances: Tensor, signature: Signature) -> Pairs:
    """(n, D) instances as pairs: U = B, V = Aᵀ; mLoRA multiplies by U Vᵀ, LoRA adds it."""
    tensors = adapter.tensors(instances)
    return Pairs(
        tuple(
            (
                torch.stack([tensors[f"{name}.B"] for name in names], 1),
                torch.stack([tensors[f"{name}.A"].mT for name in names], 1),
            )
            for _, names in signature.groups
        )
    )


def face_fields(args: argparse.Namespace) -> Collection:
    """The fitted faces as a collection: CelebA's own splits, 40 attributes.

    A LoRA is called STEM-REPRESENTATION-rRANK after its photo and its fit.
    """
    base, meta = load_base(args.out / "faces-base.safetensors")
    parts: dict[str, list[LabelledLoras]] = {"train": [], "validation": [], "test": []}
    for representation, rank in itertools.product(FIELDS[args.family], RANKS):
        config = AdapterConfig(representation, rank, 0)
        folder = fits_folder(args.runs, FACES.name, config)
        if not (folder / "train").is_dir():
            continue
        adapter = Adapter(base, config)
        for split, fitted in parts.items():
            fitted.append(fitted_faces(args, adapter, folder / split))
        if (folder / "train-mirrored").is_dir():
            parts["train"].append(fitted_faces(args, adapter, folder / "train-mirrored"))
    if not parts["train"]:
        raise WsdemoError(
            "No fits of faces",
            f"Found none of {', '.join(FIELDS[args.family])} in {args.runs / 'faces-fit'}.",
            "Run python -m wsdemo.train.faces.ranks first.",
        )
    splits = {split: LabelledLoras.join(fitted) for split, fitted in parts.items()}
    ranks = Counter(int(name.rsplit("-r", 1)[1]) for name in splits["train"].names)
    names = tuple(splits["train"].labels)
    task = Task("attributes", names, "binary", headline=tuple(a for a in ATTRIBUTES if a in names))
    base_name = f"wsdemo/{meta['name']}@{meta['hash'][:12]}"
    return Collection(field_signature(adapter), splits, (task,), base_name, ranks, ())


def field_signature(adapter: Adapter) -> Signature:
    """The layers of a field as modules."""
    return Signature({name: (o, i) for name, o, i in sorted(adapter.field_config.layer_shapes())})


def fitted_faces(args: argparse.Namespace, adapter: Adapter, folder: Path) -> LabelledLoras:
    """The fits of one representation, rank and split, labelled."""
    instances, files = load_fits(folder)
    instances, files = instances[: args.count], files[: args.count]
    faces = (toy_faces(64) if args.toy else load_faces(args.data, folder.name)).pick(files)
    values = faces.attributes.float()
    labels = {name: values[:, i] for i, name in enumerate(faces.attribute_names)}
    kind = f"{adapter.config.representation}-r{adapter.config.rank}"
    if folder.name == "train-mirrored":
        kind = f"mirrored-{kind}"
    names = tuple(f"{Path(file).stem}-{kind}" for file in files)
    pairs = pairs_of(adapter, instances.float(), field_signature(adapter))
    return LabelledLoras(pairs, labels, names)


def by_fit(predictor: Predictor, collection: Collection) -> dict[str, dict[str, float]]:
    """REPRESENTATION-rRANK → the predictor's figures on its test LoRAs."""
    figures_of: dict[str, dict[str, float]] = {}
    test = collection.splits["test"]
    models = predictor.tasks["attributes"]
    kinds = [name.split("-", 1)[1] for name in test.names]
    for kind in dict.fromkeys(kinds):
        loras = test.pick(torch.tensor([i for i, k in enumerate(kinds) if k == kind]))
        out = models.outputs(loras.pairs)
        figures = task_metrics(models.task, out, loras.targets(models.task), models.std)
        figures_of[kind] = {"loras": len(loras.names), **figures}
    return figures_of


def face_generator(args: argparse.Namespace) -> Collection:
    """The LoRAs of the face generator, but for those of other ranks."""
    folder = args.runs / "face-loras"
    columns = read_labels(folder / "manifest.csv")[1]
    # The toy's faces have none of the paper's attributes.
    tasks = [t for t in GENERATOR_TASKS if not args.toy or set(t.labels) <= set(columns)]
    collection = load_collection(folder, folder / "manifest.csv", tasks)
    test = collection.splits["test"]
    keep = [i for i, name in enumerate(test.names) if "/ranks-" not in name]
    test = test.pick(torch.tensor(keep))
    only = dataclasses.replace(test, pairs=test.pairs.padded(4))
    return dataclasses.replace(collection, splits={**collection.splits, "test": only})


def compare_model(collection: Collection, seeds: int, task: Task, model: str) -> Row:
    """One model on one task."""
    return compare_models(collection, task, [model], seeds, log)[0]


def prepare_worker() -> None:
    """One thread a process; models come back through files, not through hundreds of handles."""
    tune_allocator()
    choose_threads(1)
    torch.multiprocessing.set_sharing_strategy("file_system")


def main(arguments: list[str] | None = None) -> None:
    parser = recipe_parser(str(__doc__), minutes=30)
    parser.add_argument("family", choices=sorted(TITLES))
    parser.add_argument("--data", type=Path, help="CelebA folder or zip with attributes.csv")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--count", type=int, default=None, help="at most, of a kind and split")
    parser.add_argument("--workers", type=int, default=1, help="processes, a model each")
    parser.add_argument(
        "--recalibrate", action="store_true", help="train nothing: calibrate and measure again"
    )
    parser.add_argument("--models", nargs="+", choices=[*MODELS, PROBED], help="default: all")
    args = parser.parse_args(arguments)
    start(args)
    is_field = args.family in FIELDS
    readers = {
        "face-generator": face_generator,
        "smollm2": lambda args: smollm2_family.smollm2(args.runs),
    }
    collection = (face_fields if is_field else readers[args.family])(args)
    counts = {k: len(v.names) for k, v in collection.splits.items()}
    models = args.models or [*MODELS, *([PROBED] if collection.probes is not None else [])]
    if not args.toy:
        check_calibration(collection)
    log(f"{args.family}: {counts}, {len(collection.signature)} modules; {collection.notes}")
    path = args.out / f"lol-{args.family}.safetensors"
    ranks = MEASURED_RANKS if args.family == "face-generator" else None
    if args.recalibrate:
        recalibrate(path, collection, ranks)
        return
    compare = partial(compare_model, collection, args.seeds)
    pairs = list(itertools.product(collection.tasks, models))
    tasks, names = [task for task, _ in pairs], [model for _, model in pairs]
    if args.workers > 1:
        prepare_worker()
        with ProcessPoolExecutor(args.workers, get_context("spawn"), prepare_worker) as pool:
            compared = list(pool.map(compare, tasks, names))
    else:
        compared = list(map(compare, tasks, names))
    rows: dict[str, list[Row]] = {task.name: [] for task in collection.tasks}
    for task, row in zip(tasks, compared, strict=True):
        rows[task.name].append(row)
    kind = "multiplicative" if args.family == "face-fields" else "additive"
    predictor = build_predictor(
        collection, rows, path.stem, TITLES[args.family], kind,
        smollm2_family.RANKS if args.family == "smollm2" else (), ranks_by_task=ranks,
        keep_all=args.toy,
    )  # fmt: skip
    comparison: dict[str, Any] = {t: [r.to_dict() for r in models] for t, models in rows.items()}
    extra: dict[str, Any] = {"toy": args.toy, "seeds": args.seeds, "comparison": comparison}
    extra |= provenance(collection)
    if is_field:
        extra["by_fit"] = by_fit(predictor, collection)
    if args.family == "smollm2":
        extra["unseen"] = smollm2_family.unseen_figures(predictor, args.runs)
    save_predictor(path, predictor, extra)
    report_measured(predictor)


def recalibrate(
    path: Path, collection: Collection, ranks: Mapping[str, Sequence[int]] | None
) -> None:
    """Calibrates and measures a predictor again; what trained and compared it stays as it was."""
    _, meta = load_checkpoint(path)
    kept = ("toy", "seeds", "comparison", "by_fit")
    extra: dict[str, Any] = {k: meta[k] for k in kept if k in meta}
    before, about = meta.get("comparison_counts", meta["counts"]), provenance(collection)
    about["counts"] |= {split: before[split] for split in ("train", "validation")}
    about["chosen_by"] = sorted({*meta["chosen_by"], *about["chosen_by"]})
    about["notes"] = meta["notes"]
    collection = dataclasses.replace(collection, notes=tuple(meta["notes"]))
    predictor = recalibrated(load_predictor(path), collection, about["counts"], ranks)
    save_predictor(path, predictor, extra | about | {"comparison_counts": before})
    report_measured(predictor)


def report_measured(predictor: Predictor) -> None:
    """Logs what every task was measured at."""
    for task_name, models in predictor.tasks.items():
        log(f"{task_name}: {models.measured}")


if __name__ == "__main__":
    main()
