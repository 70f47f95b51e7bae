"""Builds Paper B's CelebA-LoRA: LoRAs of Stable Diffusion 1.4, one celebrity each, with labels.

    pip install diffusers transformers peft ray
    python -m wsdemo.train.loras.celeba_lora --data CELEBA --out-loras celeba-lora
    python -m wsdemo lol train --loras celeba-lora --labels celeba-lora/manifest.csv --out PREDICTOR

``--data``: CelebA as its authors give it: ``img_align_celeba/``, ``identity_CelebA.txt`` and
``list_attr_celeba.txt``. ``--ray ADDRESS`` uses a Ray cluster (``auto``: the one that this machine
is in); without it, Ray starts on this machine and takes all its GPUs. Only the machine that calls
needs the pictures and keeps the LoRAs; the others need the packages and the two models.

Prompt, learning rate, steps and batch vary and are drawn from a LoRA's name, in ranges of ours.
Labels: CLIP score, 100 · cos(picture, prompt), mean over 33 prompts, with the same noise for
every LoRA; and which of five attributes most of its pictures have. A split has its own
celebrities. Call again to go on, or to try again what failed.
"""

import json
import math
import random
import sys
import zlib
from dataclasses import asdict, dataclass
from pathlib import Path

from PIL import Image
from torch import Tensor

from wsdemo.errors import WsdemoError
from wsdemo.files import write_whole
from wsdemo.generate.lora_layers import save_lora
from wsdemo.lol.data.collection import default_split
from wsdemo.train.faces.data import toy_faces
from wsdemo.train.loop import log, recipe_parser, start
from wsdemo.train.loras.crew import make_all, ray_options
from wsdemo.train.loras.making import write_table
from wsdemo.train.loras.stable_diffusion import (
    RANK,
    Plan,
    Settings,
    Studio,
    write_toy_models,
)

TRIGGERS = ("a photo of a person", "a photo of a celebrity", "a portrait of a person", "sks person")
"""Prompts to finetune with; scores are over PROMPTS, which are the same for every LoRA."""
ATTRIBUTES = ("Male", "Young", "Wearing_Lipstick", "Big_Lips", "No_Beard")
MIN_PICTURES = 10
"""A celebrity with fewer is left out."""


@dataclass(frozen=True)
class Celebrity:
    """A person in CelebA: its pictures' names, and whether most of them have an attribute."""

    identity: int
    files: tuple[str, ...]
    attributes: dict[str, int]


def make_plan(identity: int, steps: tuple[int, int]) -> Plan:
    """The recipe of a celebrity's LoRA."""
    name = f"celebrity-{identity:05d}"
    rng = random.Random(name)
    return Plan(
        name, default_split(name), rng.choice(TRIGGERS), 10 ** rng.uniform(-4, -2.5),
        rng.randint(*steps), rng.choice((1, 2)), rng.randrange(2**31),
    )  # fmt: skip


def load_celebrities(data: Path, count: int) -> list[Celebrity]:
    """Celebrities with MIN_PICTURES pictures or more, ``count`` at most, in an arbitrary but fixed
    order: those of a smaller count are the first of a larger one.

    Raises:
        WsdemoError: A table is missing or is not CelebA's, or nobody has enough pictures.
    """
    try:
        present = {p.name for p in (data / "img_align_celeba").iterdir()}
        of: dict[int, list[str]] = {}
        for line in (data / "identity_CelebA.txt").read_text().splitlines():
            name, identity = line.split()
            if name in present:
                of.setdefault(int(identity), []).append(name)
        lines = (data / "list_attr_celeba.txt").read_text().splitlines()
        columns = {a: 1 + lines[1].split().index(a) for a in ATTRIBUTES}
        table = {row[0]: row for row in (line.split() for line in lines[2:])}
        people: list[Celebrity] = []
        for one in sorted(of, key=lambda i: zlib.crc32(str(i).encode())):
            files = tuple(sorted(of[one]))
            if len(files) >= MIN_PICTURES and len(people) < count:
                share = {a: sum(int(table[f][c]) > 0 for f in files) for a, c in columns.items()}
                has = {a: int(2 * n > len(files)) for a, n in share.items()}
                people.append(Celebrity(one, files, has))
    except (OSError, ValueError, LookupError) as error:
        raise WsdemoError(
            "CelebA cannot be read",
            f"{data}: {type(error).__name__}: {str(error)[:200]}.",
            "Give a folder with img_align_celeba/, identity_CelebA.txt and list_attr_celeba.txt.",
        ) from error
    if not people:
        raise WsdemoError(
            "No celebrities",
            f"Of {len(of)} in {data}, none has {MIN_PICTURES} pictures.",
            "Give all of CelebA.",
        )
    return people


def keep(
    folder: Path, plan: Plan, person: Celebrity, tensors: dict[str, Tensor], score: float,
    settings: Settings,
) -> None:  # fmt: skip
    """Writes a LoRA, then its row of labels: who has a row is done."""
    path = folder / plan.file
    path.parent.mkdir(parents=True, exist_ok=True)
    row = {"file": plan.file, "split": plan.split, "group": plan.name,
           "clip_score": round(score, 4), **person.attributes}  # fmt: skip
    recipe = {**asdict(plan), "pictures": len(person.files)}
    save_lora(path, tensors, RANK, settings.pipeline, {**recipe, **row})
    write_whole(path.with_suffix(".json"), json.dumps({"labels": row, "recipe": recipe}, indent=1))


def write_manifest(folder: Path) -> None:
    """manifest.csv: file, split, group and labels of every LoRA. Recipes stay out of it, as
    ``lol train`` would learn to predict every column of numbers."""
    rows = [json.loads(p.read_text())["labels"] for p in sorted(folder.glob("*/*.json"))]
    columns = ["file", "split", "group", "clip_score", *ATTRIBUTES]
    write_table(folder / "manifest.csv", rows, columns)


def check_settings(folder: Path, settings: Settings) -> None:
    """Writes the settings of a new folder.

    Raises:
        WsdemoError: The folder's LoRAs were made with others: their scores would not compare.
    """
    path, text = folder / "settings.json", json.dumps(asdict(settings), indent=1)
    if path.exists() and json.loads(path.read_text()) != json.loads(text):
        raise WsdemoError(
            "Another collection's folder",
            f"{folder} holds LoRAs made with {path.read_text()}; asked for is {text}.",
            "Give the same options, or another --out-loras.",
        )
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(path, text)


def write_toy(folder: Path, people: int = 20) -> Path:
    """Made-up celebrities in CelebA's layout, with the models of ``write_toy_models`` beside."""
    if (folder / "list_attr_celeba.txt").exists():
        return folder
    (folder / "img_align_celeba").mkdir(parents=True, exist_ok=True)
    write_toy_models(folder)
    owners, rows = [], []
    for i, face in enumerate(toy_faces(people * MIN_PICTURES, 16).images):
        name, person = f"{i + 1:06d}.jpg", i // MIN_PICTURES
        Image.fromarray(face.permute(1, 2, 0).numpy()).save(folder / "img_align_celeba" / name)
        owners.append(f"{name} {person + 1}\n")
        has = ["1" if person >> k & 1 else "-1" for k in range(len(ATTRIBUTES))]
        rows.append(f"{name} {'  '.join(has)}\n")
    (folder / "identity_CelebA.txt").write_text("".join(owners))
    head = f"{len(rows)}\n{' '.join(ATTRIBUTES)}\n"
    write_whole(folder / "list_attr_celeba.txt", head + "".join(rows))
    return folder


def main(arguments: list[str] | None = None) -> None:
    parser = recipe_parser(str(__doc__), minutes=math.inf)
    parser.add_argument("--data", type=Path, help="CelebA's folder")
    parser.add_argument("--pipeline", default="CompVis/stable-diffusion-v1-4")
    parser.add_argument("--clip", default="openai/clip-vit-large-patch14")
    parser.add_argument("--count", type=int, default=3900, help="celebrities")
    parser.add_argument("--out-loras", type=Path, default=None, help="default: RUNS/celeba-lora")
    parser.add_argument("--resolution", type=int, default=512, help="pixels a side")
    parser.add_argument("--images-per-prompt", type=int, default=1, help="drawn for the score")
    ray_options(parser)
    args = parser.parse_args(arguments)
    start(args)
    args.out_loras = args.out_loras or args.runs / "celeba-lora"
    settings = Settings(args.pipeline, args.clip, args.resolution, args.images_per_prompt)
    if args.toy:
        args.data = write_toy(args.runs / "celeba-toy")
        settings = Settings(
            str(args.data / "pipeline"), str(args.data / "clip"), 16, 1, (1, 3), denoising_steps=2
        )
    if args.data is None:
        raise WsdemoError("No CelebA", "--data is not given.", "Pass --data with its folder.")
    check_settings(args.out_loras, settings)
    people = load_celebrities(args.data, args.count)
    plans = [(make_plan(person.identity, settings.steps), person) for person in people]
    work = [w for w in plans if not (args.out_loras / w[0].file).with_suffix(".json").exists()]
    log(f"{len(plans)} celebrities, of {args.count} asked for; {len(work)} LoRAs to make")

    def order(piece: tuple[Plan, Celebrity]) -> tuple[Plan, list[bytes]]:
        plan, person = piece
        return plan, [(args.data / "img_align_celeba" / f).read_bytes() for f in person.files]

    def kept(piece: tuple[Plan, Celebrity], made: tuple[dict[str, Tensor], float]) -> str:
        keep(args.out_loras, *piece, *made, settings)
        return f"CLIP score {made[1]:.2f}"

    failed, given = 0, (settings, args.device, args.threads)
    try:
        if work:
            named = [(plan.name, (plan, person)) for plan, person in work]
            failed = make_all(named, Studio, given, order, kept, args)
    finally:
        write_manifest(args.out_loras)
    if failed:
        log(f"{failed} LoRAs failed; the same command tries them again")
        sys.exit(1)


if __name__ == "__main__":
    main()
