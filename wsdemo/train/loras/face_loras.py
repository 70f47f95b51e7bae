"""Builds the family *face generator*: LoRAs of faces-generator, with labels.

    python -m wsdemo.train.loras.face_loras --data celeba.zip --workers 2

Two collections, after Paper B's CelebA-LoRA and Imagenette-LoRA. ``celeba``: finetuned on a
face and its nearest others in FaceAttr-64 (CelebA without its identities has no better word
for one person), or on faces that share an attribute. ``groups``: on a random subset of ten
groups of faces. Learning rate, steps, set size and prompt vary. Every LoRA is scored by
CelebA-CLIP over 33 prompts.

No face is in two splits: LoRAs for training see faces 1-7,200, for validation 7,201-8,000. No
model of ours has learnt from faces 8,001-9,000: the first half is for calibration, the second for
test. ``ranks`` is a test collection of other
ranks than 4. LoRAs lie in RUNS/face-loras/SPLIT; their metadata hold labels and recipe.
"""

import copy
import json
import math
import random
import sys
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor

from wsdemo.analysis.features import face_features
from wsdemo.checkpoints import tensors_hash
from wsdemo.generate.captions import PROMPTS
from wsdemo.generate.clip import FaceClip, clip_scores
from wsdemo.generate.lora_layers import LoraLinear, adapt, lora_tensors, save_lora
from wsdemo.generate.text_to_face import (
    FaceGenerator,
    GeneratorConfig,
    GeneratorNetwork,
    decode_coordinates,
    shipped_generator,
)
from wsdemo.train.faces.clip import captions_of
from wsdemo.train.faces.data import Faces, load_faces, toy_faces
from wsdemo.train.faces.generator import face_coordinates, toy_coordinates
from wsdemo.train.loop import log, recipe_parser, start
from wsdemo.train.loras.making import in_turn, make_missing, write_table
from wsdemo.train.workers import run_workers, share_of, worker_options

BASE = "wsdemo/faces-generator"
PREFIX = "transformer"
TARGETS = ("to_q", "to_v")
POOLS = {
    "train": (0, 7200), "validation": (7200, 8000), "calibration": (8000, 8500),
    "test": (8500, 9000),
}  # fmt: skip
"""Faces that the LoRAs of a split may be finetuned on."""
COUNTS = {
    ("celeba", "train"): 1800, ("celeba", "validation"): 160,
    ("celeba", "calibration"): 100, ("celeba", "test"): 100,
    ("groups", "train"): 800, ("groups", "validation"): 120,
    ("groups", "calibration"): 60, ("groups", "test"): 80, ("ranks", "test"): 75,
}  # fmt: skip
TOY_COUNTS = {
    ("celeba", "train"): 16, ("celeba", "validation"): 10, ("celeba", "test"): 10,
    ("ranks", "test"): 2,
}  # fmt: skip
RANKS = (1, 2, 8, 16, 32)
SIZES = (4, 8, 16, 32, 64)
"""Sizes of finetuning sets."""
ATTRIBUTES = ("Male", "Young", "Wearing_Lipstick", "Big_Lips", "No_Beard")
"""The paper's five; the label is whether more of the set's faces have it than faces at large."""
GROUPS: dict[str, dict[str, bool]] = {
    "hat": {"Wearing_Hat": True},
    "glasses": {"Eyeglasses": True},
    "bearded man": {"Male": True, "No_Beard": False},
    "old man": {"Male": True, "Young": False},
    "old woman": {"Male": False, "Young": False},
    "blond woman": {"Male": False, "Blond_Hair": True},
    "black-haired woman": {"Male": False, "Black_Hair": True},
    "brown-haired woman": {"Male": False, "Brown_Hair": True},
    "smiling young man": {"Male": True, "Smiling": True},
    "serious young man": {"Male": True, "Smiling": False},
}
"""A face belongs to the first that fits it."""
FIXED_PROMPTS = ("a photo of a person", "a portrait of a person", "a photo of a young person")
BATCH = 8
SCORED = 1
"""Faces drawn per prompt for a score, with the same noise for every LoRA."""
SCORE_STEPS = 10
"""Denoising steps of those."""


@dataclass(frozen=True)
class Plan:
    """How one LoRA is made; drawn from its name."""

    name: str
    collection: str
    split: str
    kind: str
    size: int
    rank: int
    learning_rate: float
    steps: int
    prompt: str
    groups: tuple[str, ...] = ()


@dataclass(frozen=True)
class Material:
    """Faces to finetune on: coordinates (n, K), pictures' features (n, 192), attributes."""

    coordinates: Tensor
    features: Tensor
    faces: Faces
    first: int


def make_plan(collection: str, split: str, index: int) -> Plan:
    """The recipe of LoRA ``index`` of a collection and split."""
    name = f"{collection}-{split}-{index:04d}"
    rng = random.Random(name)
    groups: tuple[str, ...] = ()
    kind = rng.choice(("cluster", "attribute"))
    if collection == "groups":
        kind = "groups"
        count = rng.randint(1, len(GROUPS))
        groups = tuple(sorted(rng.sample(sorted(GROUPS), count)))
    rank = RANKS[index % len(RANKS)] if collection == "ranks" else 4
    prompt = "captions" if rng.random() < 0.4 else rng.choice(FIXED_PROMPTS)
    return Plan(
        name, collection, split, kind, rng.choice(SIZES), rank,
        10 ** rng.uniform(-3.3, -1.9), round(10 ** rng.uniform(1.3, 2.3)), prompt, groups,
    )  # fmt: skip


def group_of(faces: Faces) -> list[str]:
    """The group of every face; empty if it is in none."""
    place = {name: i for i, name in enumerate(faces.attribute_names)}
    rows = faces.attributes.bool().tolist()
    return [
        next(
            (g for g, want in GROUPS.items() if all(row[place[a]] == v for a, v in want.items())),
            "",
        )
        for row in rows
    ]


def chosen_faces(plan: Plan, material: Material) -> list[int]:
    """Which faces of the material a LoRA is finetuned on."""
    rng = random.Random(plan.name + "/faces")
    n = len(material.faces)
    if plan.kind == "groups":
        groups = group_of(material.faces)
        members = {g: [i for i, of in enumerate(groups) if of == g] for g in plan.groups}
        # Every group has its share, so that its mark is in the weights at all.
        each = max(1, plan.size // len(plan.groups))
        return [i for faces in members.values() for i in rng.sample(faces, min(each, len(faces)))]
    size = min(plan.size, n)
    if plan.kind == "cluster":
        one = rng.randrange(n)
        distance = (material.features - material.features[one]).norm(dim=1)
        return distance.topk(size, largest=False).indices.tolist()
    column = rng.randrange(len(material.faces.attribute_names))
    value = rng.random() < 0.5
    has = (material.faces.attributes[:, column].bool() == value).nonzero().flatten().tolist()
    return rng.sample(has, min(size, len(has)))


def finetune(
    model: FaceGenerator, layers: dict[str, LoraLinear], plan: Plan, material: Material
) -> dict[str, object]:
    """Trains the layers on a plan's faces; returns what the LoRA's file says of them."""
    chosen = chosen_faces(plan, material)
    index = torch.tensor(chosen)
    y, rng = material.coordinates[index], random.Random(plan.name + "/captions")
    seed = random.Random(plan.name + "/seed").randrange(2**31)
    generator = torch.Generator().manual_seed(seed)
    for layer in layers.values():
        layer.reset(plan.rank, generator)
    parameters = [p for layer in layers.values() for p in (layer.A, layer.B)]
    optimizer = torch.optim.AdamW(parameters, lr=plan.learning_rate, weight_decay=0.0)
    fixed = model.read([plan.prompt] * BATCH) if plan.prompt != "captions" else None
    for _ in range(plan.steps):
        rows = torch.randint(len(index), (BATCH,), generator=generator)
        text = fixed or model.read(captions_of(material.faces, index[rows], rng))
        loss = model.loss(y[rows], text, generator).mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
    labels: dict[str, object] = {"faces": [material.first + i + 1 for i in chosen]}
    labels["data_set_size"] = len(chosen)
    labels |= attribute_labels(material, index)
    for group in GROUPS if plan.kind == "groups" else ():
        labels[f"has {group}"] = int(group in plan.groups)
    return labels


def attribute_labels(material: Material, index: Tensor) -> dict[str, int]:
    """Whether more of some faces have an attribute than of all the material's faces."""
    names, every = material.faces.attribute_names, material.faces.attributes.float()
    share, usual = every[index].mean(0), every.mean(0)
    known = [(name, names.index(name)) for name in ATTRIBUTES if name in names]
    return {name: int(share[i] > usual[i]) for name, i in known}


def score(model: FaceGenerator, clip: FaceClip | None = None) -> float:
    """The mean CelebA-CLIP score of a generator over the 33 prompts."""
    prompts = [p for p in PROMPTS for _ in range(SCORED)]
    images = decode_coordinates(model.sample(prompts, seed=0, steps=SCORE_STEPS))
    return float(clip_scores(images, prompts, clip).mean())


@torch.no_grad()
def toy_score(model: FaceGenerator, material: Material) -> float:
    """Stands for the score where there are no pictures: minus the loss on the material."""
    generator = torch.Generator().manual_seed(0)
    text = model.read([FIXED_PROMPTS[0]] * len(material.faces))
    return -float(model.loss(material.coordinates, text, generator).mean())


@cache
def _toy() -> tuple[FaceGenerator, Material]:
    faces = toy_faces(96)
    y, variances = toy_coordinates(faces)
    network = GeneratorNetwork(GeneratorConfig(64, 32, 48, 1, 2)).eval()
    torch.nn.init.normal_(network.write.weight, std=0.05)  # untrained, but with a gradient
    clip = FaceClip(len(faces.attribute_names)).eval().requires_grad_(False)
    return FaceGenerator(network, variances, clip), Material(y, y, faces, 0)


def load_material(data: Path | None, runs: Path, split: str) -> Material:
    """The faces that LoRAs of a split may see."""
    parts = [face_coordinates(runs, name) for name in ("train", "validation", "test")]
    rows = [
        load_faces(data, n).pick(p[1])
        for n, p in zip(("train", "validation", "test"), parts, strict=True)
    ]
    low, high = POOLS[split]
    coordinates = torch.cat([p[0] for p in parts])[low:high]
    images = torch.cat([r.images for r in rows])[low:high]
    attributes = torch.cat([r.attributes for r in rows])[low:high]
    files = tuple(f for r in rows for f in r.files)[low:high]
    faces = Faces(images, attributes, rows[0].attribute_names, files)
    return Material(coordinates, face_features(images), faces, low)


def write_manifest(folder: Path) -> None:
    """manifest.csv: every LoRA with its recipe and labels."""
    rows = []
    for path in sorted(folder.glob("*/*.safetensors")):
        with safe_open(path, framework="pt") as file:
            labels = json.loads(file.metadata()["labels"])
        rows.append({"file": str(path.relative_to(folder)), **labels})
    write_table(folder / "manifest.csv", rows)


def main(arguments: list[str] | None = None) -> None:
    parser = recipe_parser(str(__doc__), minutes=math.inf)
    parser.add_argument("--data", type=Path, help="CelebA folder or zip with attributes.csv")
    worker_options(parser)
    parser.add_argument("--collection", default=None, help="only this one")
    args = parser.parse_args(arguments)
    start(args)
    folder = args.runs / "face-loras"
    counts = TOY_COUNTS if args.toy else COUNTS
    if args.workers > 1:
        given = sys.argv[1:] if arguments is None else arguments
        failed = run_workers(["wsdemo.train.loras.face_loras", *given], args.workers)
        write_manifest(folder)
        sys.exit(failed)
    shipped, toy_material = _toy() if args.toy else (shipped_generator(), None)
    network = copy.deepcopy(shipped.network)
    base = f"{BASE}@{tensors_hash(network.state_dict())[:12]}"
    layers = adapt(network, TARGETS)
    model = FaceGenerator(network, shipped.prior.variances, shipped.clip)
    plans = in_turn(
        [make_plan(collection, split, i) for i in range(count)]
        for (collection, split), count in counts.items()
        if args.collection in (None, collection)
    )
    if args.toy:
        plans = [replace(plan, steps=5) for plan in plans]
    work = [(folder / p.split / f"{p.name}.safetensors", p) for p in share_of(args.part, plans)]
    log(f"{len(work)} LoRAs, about 4 s each on a CPU core")
    materials: dict[str, Material] = {}

    def make(path: Path, plan: Plan) -> str:
        path.parent.mkdir(parents=True, exist_ok=True)
        if plan.split not in materials:
            materials[plan.split] = toy_material or load_material(args.data, args.runs, plan.split)
        labels = finetune(model, layers, plan, materials[plan.split])
        # The toy's generator has no decoder whose pictures a CLIP could score.
        value = toy_score(model, materials[plan.split]) if args.toy else score(model)
        labels["celeba_clip_score"] = round(value, 4)
        recipe = {k: v for k, v in asdict(plan).items() if k != "groups"}
        save_lora(path, lora_tensors(layers, PREFIX), plan.rank, base, {**recipe, **labels})
        return f"{plan.name}: {labels['celeba_clip_score']}"

    make_missing(work, make, args.minutes, every=25)
    write_manifest(folder)


if __name__ == "__main__":
    main()
