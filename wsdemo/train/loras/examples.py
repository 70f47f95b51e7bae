"""Packs test LoRAs of the shipped families, with their true labels, into one checkpoint:

python -m wsdemo.train.loras.examples --data celeba.zip
"""

import json
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor

from wsdemo.checkpoints import save_checkpoint
from wsdemo.domains.faces import FACES
from wsdemo.fields.adapters import Adapter, AdapterConfig
from wsdemo.fields.base_files import load_base
from wsdemo.fields.instance import Instance
from wsdemo.train.faces.data import load_faces, toy_faces
from wsdemo.train.loop import recipe_parser, start
from wsdemo.train.loras.families import TITLES
from wsdemo.train.population import fits_folder, load_fits

EACH = 10
"""LoRAs a family."""
RECIPE = (
    "rank", "learning_rate", "steps", "size", "examples", "first_layer", "alpha", "batch",
    "dropout", "rank_stabilised", "weight_decay", "seconds",
)  # fmt: skip
"""How a LoRA was made, and what no predictor answers."""
LARGEST = 1_500_000
"""Bytes of a LoRA of a language model: larger ones would fill the checkpoint."""
SHOWN = 3
"""Of them, those that the page offers."""


def fields(
    args: Any, family: str, config: AdapterConfig
) -> list[tuple[dict[str, Tensor], dict[str, Any]]]:
    """Fitted faces of the test split, as instance files hold them."""
    base, meta = load_base(args.out / "faces-base.safetensors")
    adapter = Adapter(base, config)
    instances, files = load_fits(fits_folder(args.runs, FACES.name, config) / "test")
    faces = (toy_faces(64) if args.toy else load_faces(args.data, "test")).pick(files)
    examples = []
    for i in random.Random(0).sample(range(len(files)), min(EACH, len(files))):
        weights = instances[i].float()
        kind, size = meta["domain"], meta["size"]
        whole = Instance(adapter, weights, kind, FACES.base_name, meta["hash"], size, {})
        with_path = args.runs / "example.safetensors"
        whole.save(with_path)
        with safe_open(with_path, framework="pt") as file:
            metadata = file.metadata()
        with_path.unlink()
        tensors = {k: v[0].half() for k, v in adapter.tensors(weights[None]).items()}
        labels = dict(zip(faces.attribute_names, faces.attributes[i].tolist(), strict=True))
        name = f"face-{Path(files[i]).stem}-{config.representation}-r{config.rank}"
        examples.append((tensors, entry(name, family, labels, {**metadata, "name": name})))
    return examples


def entry(
    name: str, family: str, labels: dict[str, Any], metadata: dict[str, str]
) -> dict[str, Any]:
    """What the checkpoint says of one LoRA."""
    return {"name": name, "family": TITLES[family], "labels": labels, "metadata": metadata}


def generators(args: Any) -> list[tuple[dict[str, Tensor], dict[str, Any]]]:
    """LoRAs of the face generator, of the test split and rank 4."""
    paths = sorted((args.runs / "face-loras" / "test").glob("*.safetensors"))
    paths = [p for p in paths if not p.name.startswith("ranks-")]
    examples = []
    for path in random.Random(0).sample(paths, min(EACH, len(paths))):
        with safe_open(path, framework="pt") as file:
            tensors = {k: file.get_tensor(k) for k in file.keys()}  # noqa: SIM118
            metadata = file.metadata()
        labels = json.loads(metadata["labels"])
        # The labels are the answer: a file that is asked about must not carry them.
        asked = {k: v for k, v in metadata.items() if k != "labels"}
        asked["name"] = path.stem
        kept = {k: v for k, v in labels.items() if isinstance(v, int | float) and k not in RECIPE}
        examples.append((tensors, entry(path.stem, "face-generator", kept, asked)))
    return examples


def languages(args: Any) -> list[tuple[dict[str, Tensor], dict[str, Any]]]:
    """LoRAs of SmolLM2, of the test split; their configuration goes into the metadata."""
    paths = sorted((args.runs / "smollm2-loras" / "test").glob("*/adapter_model.safetensors"))
    paths = [path for path in paths if path.stat().st_size <= LARGEST]
    examples = []
    for path in random.Random(0).sample(paths, min(EACH, len(paths)))[:SHOWN]:  # they are large
        config = json.loads(path.with_name("adapter_config.json").read_text())
        labels = json.loads(path.with_name("labels.json").read_text())
        metadata = {
            "format": "pt",
            "lora_adapter_metadata": json.dumps({k: config[k] for k in ("r", "lora_alpha")}),
            "modelspec.architecture": config["base_model_name_or_path"],
            "name": path.parent.name,
        }
        kept = {k: v for k, v in labels.items() if isinstance(v, int | float) and k not in RECIPE}
        examples.append((load_file(path), entry(path.parent.name, "smollm2", kept, metadata)))
    return examples


def main(arguments: list[str] | None = None) -> None:
    parser = recipe_parser(str(__doc__), minutes=0)
    parser.add_argument("--data", type=Path, help="CelebA folder or zip with attributes.csv")
    args = parser.parse_args(arguments)
    start(args)
    tensors: dict[str, torch.Tensor] = {}
    loras: list[dict[str, Any]] = []
    sources: tuple[tuple[str, Callable[[Any], Sequence[Any]]], ...] = (
        ("fitted face", lambda a: fields(a, "face-fields", AdapterConfig("mlora-asym", 8, 0))),
        ("face as LoRA", lambda a: fields(a, "face-fields-lora", AdapterConfig("lora", 4, 0))),
        ("face generator LoRA", generators),
        ("SmolLM2 LoRA", languages),
    )
    for family, source in sources:
        for i, (lora, about) in enumerate(source(args)):
            if i < SHOWN:
                about["title"] = f"{family}: {about['name']}"
            tensors |= {f"{len(loras)}/{k}": v for k, v in lora.items()}
            loras.append(about)
    save_checkpoint(
        args.out / "lora-examples.safetensors",
        tensors,
        {"name": "lora-examples", "kind": "lora-examples", "loras": loras},
    )


if __name__ == "__main__":
    main()
