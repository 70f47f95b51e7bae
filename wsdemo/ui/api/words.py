"""What every endpoint does, takes and gives, in words: data for docs/api.md, /info and MCP.

Endpoints of domains are found by what they do (``sample_…``, ``fit_…``), so that those of another
domain need no words of their own.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class File:
    """In an example: a file of the caller's, by its name."""

    name: str


@dataclass(frozen=True)
class Words:
    """Of one kind of endpoint.

    Attributes:
        does: What it does; ``{0}`` is the part of its name that the pattern leaves open.
        gives: Name of each output, in order, and what it is, with its unit.
        takes: Parameters that other words fit than those of ``TAKES`` and the control's label.
        example: One call: value by parameter; what is left out has its default.
    """

    does: str
    gives: Mapping[str, str]
    takes: Mapping[str, str] = field(default_factory=dict)
    example: Mapping[str, Any] = field(default_factory=dict)


TAKES = {
    "count": "How many to draw",
    "seed": "Whole number, 0 or more; the same seed gives the same result",
    "steps": "Denoising steps (DDIM)",
    "guidance": "Strength of the wishes, without unit; 0 ignores them",
    "wanted": "Attributes that they shall have",
    "unwanted": "Attributes that they shall not have",
    "category": "What to draw, or any",
    "family": "Title of the model",
    "base": "Title of the base field",
    "temperature": "Factor of the noise; below 1 more typical and less various",
    "preset": "How long and how to fit",
    "x": "Centre of the crop, 0 left to 1 right",
    "y": "Centre of the crop, 0 top to 1 bottom",
    "zoom": "1 takes the largest square, 2 one of half the side",
    "size": "Pixels a side",
    "resolution": "Cells a side of marching cubes",
    "largest": "Whether to keep the largest piece only",
    "share": "Share of the second, 0 to 1",
    "energy": "Percent of the squared norm of the update to keep",
    "program": "Program whose names the result shall have",
    "style": "Names of the result: kohya or peft",
    "strength": "Times the direction, without unit; 0 changes nothing",
    "attribute": "Which attribute's direction",
    "is_debiased": "Whether the other attributes are held fixed",
    "config": "adapter_config.json of a PEFT LoRA, which holds its scale; else leave it out",
    "name": "Which map",
    "colour": "Label that the map is coloured by",
    "has_pictures": "Whether the map shows pictures",
    "kind": "How the map was flattened",
    "representation": "Weights of which representation",
    "index": "Number of a held-out instance, used where no file is given",
}
"""Parameters by name, with their units."""

LORA = "LoRA file (.safetensors, .npz or .gguf)"
INSTANCE = "Instance file (.safetensors) that fitting or sampling wrote"
RESULT = {"files": "The new LoRA, and what belongs to it", "summary": "What was kept and lost"}
MANY = {
    "table": "A row a file",
    "csv_file": "The same as CSV",
    "summary": "How many were read, HTML",
    "duplicates": "Which hold the same update, HTML",
    "map": "Which change the network alike, HTML",
    "base_models": "The base models among them",
    "json_file": "The table as JSON",
    "parquet_file": "The table as Parquet",
}

ENDPOINTS: dict[str, Words] = {
    r"sample_(.+)": Words(
        "Draws new {0} from a diffusion model of neural-field weights and decodes them.",
        {"gallery": "A picture of each", "status": "How many, the seed, the time in s"},
        example={"count": 1, "seed": 5, "steps": 5},
    ),
    r"fit_(.+)": Words(
        "Turns a {0} into the weights of a neural field by gradient descent, and measures how well"
        " they show it.",
        {
            "preview": "What the weights show",
            "psnr_curve": "PSNR in dB by seconds",
            "status": "Done, with PSNR in dB and seconds",
            "comparison": "The original and what the weights show, side by side",
            "facts": "Weights, bytes, scores, as a Markdown table",
            "weights_file": "The weights (.safetensors)",
            "canonical_file": "The same with canonical factors (.safetensors)",
            "error_picture": "Where the surface is off, for meshes",
            "mesh_files": "The fitted mesh in several formats, for meshes",
        },
        {"path": "The {0} to fit, a file"},
    ),
    r"decode_(.+)": Words(
        "Decodes the weights in an instance file.",
        {
            "shown": "A picture, or a mesh (GLB)",
            "facts": "Representation, weights, bytes, as a Markdown table",
            "files": "The mesh in several formats, for meshes",
        },
        {"path": INSTANCE},
    ),
    r"blend(?:_(.+))?": Words(
        "Decodes a point of the straight way between two instances in weight space.",
        {"picture": "What is there"},
        {"a": INSTANCE + ", the first", "b": INSTANCE + ", the second"},
        {"share": 0.5},
    ),
    r"walk_(.+)": Words(
        "Measures how far {0} on the straight way between two instances are from both ends.",
        {"distances": "Distance to either end by share of the way"},
        {"a": INSTANCE + ", the first", "b": INSTANCE + ", the second"},
    ),
    r"edit_(.+)": Words(
        "Moves a {0} along an attribute's direction in weight space.",
        {
            "before": "What it showed",
            "after": "What it shows now",
            "identity_change": "Percent of the median distance between two different ones",
            "weights_file": "The edited instance (.safetensors)",
        },
        {"path": INSTANCE + "; without one, a held-out instance is edited"},
        {"path": None, "strength": 1.0},
    ),
    "place_instance": Words(
        "Places an instance on the map of weight space, by its nearest fitted instances.",
        {
            "map": "Position of every point, without unit, as JSON text",
            "picture": "What the instance shows",
            "words": "How near to training instances it lies, in percent of held-out ones",
            "nearest": "Pictures of the points with the nearest weights",
            "weights": "Which weights the map shows",
            "colour": "What it is coloured by",
            "weights_file": "The instance (.safetensors)",
        },
        example={"path": File("face.safetensors"), "name": "faces"},
    ),
    "inspect_lora": Words(
        "Reads a LoRA without its base model: format, base, ranks, strength, where it loads, what"
        " was ignored, and the geometry of every module.",
        {
            "card": "The answer in a few lines, HTML",
            "passport": "All that the file says and how it was read, Markdown",
            "network": "Norm of the update by block and layer, an HTML table",
            "modules": "A row a module: shape, rank, Frobenius norm, largest singular value",
            "csv_file": "The same as CSV",
            "json_file": "Passport and modules as JSON",
        },
        {"path": LORA},
        {"path": File("lora.safetensors")},
    ),
    "inspect_hub_lora": Words(
        "Reads a LoRA from the Hugging Face Hub by name, and predicts what it was trained on where"
        " its family is known. The fastest way to a JSON answer.",
        {"report": "JSON: commit, file, passport (bytes, ranks, norms) and prediction"},
        {"reference": "owner/name, owner/name@revision, owner/name:path, or an address"},
        {"reference": "acme/lora:a.safetensors"},
    ),
    "predict_lora": Words(
        "Predicts from a LoRA's weights alone what it does and was finetuned on, with 90 %"
        " intervals; abstains with a reason where its family is unknown.",
        {
            "prediction": "Labels, values and intervals, or the reason for none, HTML",
            "truth": "True labels of an example, Markdown",
            "explained_label": "The label that the evidence is for",
            "evidence": "Share of each module in the answer, HTML",
            "doses": "The prediction for 0 to 2 times the strength, and for fewer ranks, SVG",
            "model_index": "YAML for a model card",
            "gauge": "The same from other factors, once asked for, HTML",
        },
        {"path": LORA},
        {"path": File("lora.safetensors")},
    ),
    "predict_many": Words(
        "Reads up to 200 LoRAs: a row each with passport and prediction, and which hold the same; a"
        " file that is refused is a row that says why.",
        MANY,
        {"paths": "LoRA files; of PEFT, one adapter_config.json for all"},
        {"paths": [File("lora.safetensors"), File("other.safetensors")]},
    ),
    "predict_from_hub": Words(
        "The same of LoRAs on the Hub: of an owner, a collection, or a list of repositories.",
        MANY,
        {"text": "One a line: owner, owner/name, collections/owner/slug",
         "token": "Of the Hub, for private and gated repositories; never stored or logged"},
        {"text": "acme/lora", "token": ""},
    ),
    "compare_loras": Words(
        "Compares the updates of two LoRAs of one base model.",
        {
            "summary": "Cosine (-1 to 1), ratio of sizes, shared modules, hint of origin",
            "modules": "A row a module: cosine, cosines of the angles of inputs and outputs",
        },
        {"a": LORA + ", the first", "b": LORA + ", the second"},
        {"a": File("lora.safetensors"), "b": File("other.safetensors")},
    ),
    "merge_loras": Words(
        "Writes a weighted sum of two LoRAs of one base model.",
        RESULT,
        {"a": LORA + ", the first", "b": LORA + ", the second", "first": "Factor of the first",
         "second": "Factor of the second"},
        {"a": File("lora.safetensors"), "b": File("other.safetensors"), "first": 0.5,
         "second": 0.5},
    ),
    "resize_lora": Words(
        "Writes a LoRA with as few ranks as hold a share of its energy.",
        RESULT,
        {"path": LORA},
        {"path": File("lora.safetensors"), "energy": 99},
    ),
    "export_lora": Words(
        "Writes a LoRA under the names of another program.",
        RESULT,
        {"path": LORA},
        {"path": File("lora.safetensors"), "program": "diffusers"},
    ),
    "regauge_lora": Words(
        "Writes the same update from other factors (B R, R⁻¹ A), R random.",
        RESULT,
        {"path": LORA},
        {"path": File("lora.safetensors"), "seed": 1},
    ),
}  # fmt: skip
"""By the pattern of their names."""


def words_of(endpoint: str) -> Words | None:
    """The words of an endpoint, or None."""
    for pattern, words in ENDPOINTS.items():
        match = re.fullmatch(pattern, endpoint)
        if match:
            of = (match.groups() or ("",))[0] or "instances"
            takes = {k: v.format(of) for k, v in words.takes.items()}
            return Words(words.does.format(of), words.gives, takes, words.example)
    return None


def return_names(endpoint: str, labels: list[str]) -> dict[str, str]:
    """Name → meaning of an endpoint's outputs, one for each of ``labels``.

    Where there are no words for an output, its control's label makes a name.
    """
    known = list(words_of(endpoint).gives.items()) if words_of(endpoint) else []  # type: ignore[union-attr]
    if len(known) == len(labels):
        return dict(known)
    names: dict[str, str] = {}
    for i, label in enumerate(labels, 1):
        name = re.sub(r"[^a-z]+", "_", label.lower()).strip("_")
        usable = name if name and not name.startswith("value") and name not in names else ""
        names[usable or f"output_{'abcdefghijklmnopqrstuvwxyz'[(i - 1) % 26]}"] = label
    return names
