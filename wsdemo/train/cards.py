"""Writes the card of every checkpoint from its own metadata: ``python -m wsdemo.train.cards``."""

import re
from pathlib import Path
from statistics import fmean
from typing import Any

from wsdemo.checkpoints import DIRECTORY, load_checkpoint
from wsdemo.files import write_whole
from wsdemo.lol.predictor.card import draw_reliability

FACES = """8,000 aligned CelebA faces (numbers 1 to 8,000 of a 9,000 subset at 89x109), cropped and
resized to 64x64. Validation is 8,001-8,500, test 8,501-9,000; no model was trained on either."""
SHAPES = """{meshes} watertight meshes of {categories}, from the Princeton Shape
Benchmark and SHREC'12 (academic research only, no licence file){more}. Each also counts
{copies} times stretched along the axes. One training mesh in 20 is for validation, and the
collection's own held-out meshes are the test split; no model was trained on either."""
TEXTS_OF_LORAS = """Passages of 48 tokens of 18 sources of very different kind (GSM8K, MIT; BBQ,
CC BY 4.0; code, manuals in three languages, scripture, fiction, dictionaries, tables, from Debian
packages, each under its own free licence), and of two more that no LoRA which trained, chose or
calibrated it has seen: `wsdemo.train.loras.smollm2_texts` names them. SmolLM2-135M-Instruct is
under Apache-2.0."""
CELEBA = "CelebA's terms: non-commercial research only."
MESHES = "academic, non-commercial research only, as the meshes' collections ask."
FREE = "MIT, as the code: weights of ours, learnt from free texts."
LICENCES = {FACES: CELEBA, TEXTS_OF_LORAS: FREE}
MACHINE = "a machine of two CPU cores, no accelerator"

FIELD_FITS = (
    "The fits: `python -m wsdemo.train.faces.ranks --data celeba.zip`, 1,000 training faces at "
    "each rank, other ones at each, and the same 200 test faces at every rank, which count anew. "
)
LOL = (
    "All models of wsdemo/lol were trained with several seeds; the one that ships was chosen by "
    "the validation LoRAs. Figures are of the test LoRAs. Comparison of the models: "
    "docs/results.md."
)

TEXTS: dict[str, tuple[str, str, str]] = {
    "faces-base": (
        "The base field of the faces: what all face instances adapt.",
        "python -m wsdemo.train.faces.base --data celeba.zip",
        "Variational autodecoder, progressive schedule, EMA; mirror images count as further faces. "
        "The scales at the mean latent are folded into the weights.",
    ),
    "faces-manifold": (
        "The second generation of the faces: base field, learned linear manifold of adapters, "
        "ε = ε₀ + P z with 256 coordinates, encoder and discriminator.",
        "python -m wsdemo.train.faces.manifold --data celeba.zip",
        "On one thread beside much other work, which left it about a third of a core; hours are "
        "by the clock. Stages, each with an EMA, the average kept that was best on validation: "
        "field, manifold and encoder at random points (*autoencoder*); whole pictures and a "
        "discriminator beside the error (*adversarial*); the encoder frozen, the discriminator "
        "also on fields drawn from the Gaussian of all z (*drawn*), and at last on those that "
        "faces-manifold-diffusion drew (`--latents`), in bfloat16 on most of a core, the last "
        "average kept (`--bfloat16 --last`): FaceAttr-64, which chooses the best, hardly sees the "
        "texture that this changes (docs/results.md). Its budget was cut from 110 to 86 minutes "
        "after 57, so a new run will not give the same bytes. fd: Fréchet distance in "
        "FaceAttr-64 to the 500 validation faces, of their reconstructions and of 500 drawn "
        "fields. P is stored in half precision, the encoder's large matrix in a byte an entry. "
        "To go on from this file alone, with optimiser states afresh: the same command with "
        "`--stage drawn --from-checkpoint checkpoints/faces-manifold.safetensors`, or another "
        "stage.",
    ),
    "faces-manifold-base": (
        "The base field (W, b) of faces-manifold as a file of its own: what its instances adapt.",
        "python -m wsdemo.train.faces.manifold_fit --data celeba.zip",
        "",
    ),
    "faces-manifold-diffusion": (
        "Draws the weights of faces of the second generation: a mixture of 64 Gaussians of the 96 "
        "leading coordinates of the manifold, beyond the Gaussian prior of all 256, and a network "
        "that adds what wishes change.",
        "python -m wsdemo.train.faces.manifold_diffusion --data celeba.zip",
        "Trained on the encoder's posteriors of 8,000 training faces and their mirror images, of "
        "which z is drawn anew each time, on one thread beside other work. The loss is the share "
        "of the Gaussian prior's expected error: the prior alone scores 1, the network alone the "
        "validation loss, the shipped model that with mixture.",
    ),
    "faces-manifold-neighbours": (
        "As faces-neighbours, of the second generation: the training instances are the points of "
        "the manifold that its encoder proposes.",
        "python -m wsdemo.train.faces.release faces-manifold",
        "",
    ),
    "faces-encoder": (
        "Guesses a face's latent and writes it as mLoRA weights: where fits start.",
        "python -m wsdemo.train.faces.base --data celeba.zip",
        "The encoder that the base was trained with, the base's mapping network, the mean latent.",
    ),
    "faces-diffusion": (
        "Draws the weights of faces: a Gaussian prior over 512 principal coordinates, and a "
        "network for the first 64 of them.",
        "python -m wsdemo.train.faces.diffusion --data celeba.zip --keep-prior",
        "Trained on one mLoRA-Asym adapter of rank 8 per training face and one per mirrored "
        "training face, fitted by `python -m wsdemo.train.faces.fit` (50 steps of 512 points from "
        "the encoder's start, pull 1). On one thread, beside other work. Without mirrored faces a "
        "run of 25 minutes at width 512 overfitted (loss 0.912, on validation 0.947). "
        "The loss is the share of the Gaussian prior's expected error along the 64: the prior "
        "alone scores about 1. The prior is that of an earlier run on the unmirrored fits, which "
        "faces-map and faces-generator were made with.",
    ),
    "faces-features": (
        "FaceAttr-64: the feature space of the face metrics, a small residual network.",
        "python -m wsdemo.train.faces.features --data celeba.zip",
        "On one thread. Labels: CelebA's 40 attributes. "
        "Its distances compare our own models with each other and "
        "nothing more.",
    ),
    "faces-neighbours": (
        "Principal coordinates of the weights of every training face and of its mirror image, for "
        "the memorisation check, and how far 1,000 unseen faces lie from the nearest of them.",
        "python -m wsdemo.train.faces.release --data celeba.zip",
        "",
    ),
    "faces-weights": (
        "The fitted weights of the first training faces, whole, with their CelebA attributes: data "
        "for whoever wants to learn on weights.",
        "python -m wsdemo.train.faces.release --data celeba.zip",
        "A documented subset: all 8,000 would take 180 MB.",
    ),
    "faces-clip": (
        "CelebA-CLIP: a small CLIP of faces and captions. It scores face generators, and its text "
        "tower reads their prompts.",
        "python -m wsdemo.train.faces.clip --data celeba.zip",
        "On one thread. Captions are made from CelebA's attributes by a small grammar "
        "(wsdemo/generate/captions.py); the image tower starts at FaceAttr-64. Its score compares "
        "our own generators with each other and nothing more: it is not OpenAI's CLIP.",
    ),
    "faces-generator": (
        "Draws the weights of faces from a caption: a text-conditional diffusion transformer over "
        "512 principal coordinates of the fitted faces' weights.",
        "python -m wsdemo.train.faces.generator --data celeba.zip",
        "On one thread. Trained on the fits of `python -m wsdemo.train.faces.fit`; the base model "
        "of the LoRA family *face generator*. The loss is the share of the Gaussian prior's "
        "expected error; the prior alone scores 1.",
    ),
    "lol-face-fields": (
        "Predicts 40 CelebA attributes of a face from the mLoRA or mLoRA-Asym adapter (ranks 1 to "
        "16) of its fitted field.",
        "python -m wsdemo.train.loras.families face-fields --data celeba.zip",
        FIELD_FITS + "Of mLoRA-Asym at rank 8 all 8,000, their mirror images and 500. " + LOL,
    ),
    "lol-face-fields-lora": (
        "Predicts 40 CelebA attributes of a face from the LoRA (ranks 1 to 16) of its fitted "
        "field.",
        "python -m wsdemo.train.loras.families face-fields-lora --data celeba.zip",
        FIELD_FITS + LOL,
    ),
    "lol-face-generator": (
        "Predicts what a LoRA of faces-generator does and what it was finetuned on: its "
        "CelebA-CLIP score, five attributes of its faces, and their number. Which of ten groups of "
        "faces were among them was tried too: hardly better than chance, so it is not answered.",
        "python -m wsdemo.train.loras.families face-generator",
        "The LoRAs: `python -m wsdemo.train.loras.face_loras --data celeba.zip`; those for "
        "calibration and test use faces that no model has learnt from. The probability of an "
        "attribute is that more of the LoRA's faces have it than faces at large, not that each "
        "has. " + LOL,
    ),
    "lol-smollm2": (
        "Predicts of a LoRA of SmolLM2-135M as people publish them (any of its linear layers, any "
        "rank) which of 18 text sources it was finetuned on, its loss on each less the base's, and "
        "steps × rate.",
        "python -m wsdemo.train.loras.families smollm2 --models gradient-probes spectral",
        "The LoRAs: `python -m wsdemo.train.loras.smollm2_loras --model SMOLLM2 --texts TEXTS`; "
        "the probes: `python -m wsdemo.train.loras.smollm2_probes`. Few LoRAs so far: figures of "
        "38 test LoRAs move by some hundredths with chance, and intervals that 21 LoRAs calibrate "
        "are wide. The size of the data set and the loss on general text were tried too: so few "
        "LoRAs do not teach them (ρ .05 on 13 test LoRAs, R² below 0 on 20; these decided it), so "
        "they are not answered. A source that it does not know is taken for the known ones most "
        "like it. Two models were compared, with three seeds each; the validation LoRAs chose. "
        "Figures are of the test LoRAs.",
    ),
    "lora-examples": (
        "LoRAs of all families' test splits with their true labels, for the app and "
        "`wsdemo lol examples`.",
        "python -m wsdemo.train.loras.examples --data celeba.zip",
        "Drawn at random from the test splits; of SmolLM2's those below 1.5 MB, since "
        "most are larger. Those of SmolLM2 learnt from other texts, named in the card of "
        "lol-smollm2.",
    ),
    "faces-map": (
        "The map of the faces: positions, principal coordinates and attributes of 4,500 training "
        "and 500 held-out faces' weights, and the directions of 40 attributes.",
        "python -m wsdemo.train.maps faces --data celeba.zip",
        "t-SNE at perplexity 30 on 64 principal coordinates. Directions: least squares on all "
        "40 attributes at once over the 8,000 training faces. mLoRA, LoRA and MLP: 2,000 of the "
        "training faces and the 500, fitted from one shared start by `python -m "
        "wsdemo.train.faces.fit --shared-start --steps 60 --runs runs/compare`, of mLoRA at rank 8 "
        "and rate 0.03, LoRA at 8 and 0.01, MLP at width 39 and 0.01.",
    ),
    "faces-examples": (
        "Samples of faces-diffusion that are on screen before the first click.",
        "python -m wsdemo.train.faces.release --data celeba.zip",
        "Unselected: eight draws of one seed.",
    ),
    "faces-manifold-map": (
        "As faces-map, of the second generation, without other representations.",
        "python -m wsdemo.train.maps faces-manifold --data celeba.zip",
        "t-SNE at perplexity 30 on 64 principal coordinates.",
    ),
    "faces-manifold-examples": (
        "Samples of faces-manifold-diffusion that are on screen before the first click.",
        "python -m wsdemo.train.faces.release faces-manifold",
        "Unselected: eight draws of one seed.",
    ),
}


TEXTS["shapes-map"] = (
    "The map of the ten categories: positions and principal coordinates of the weights of 970 "
    "training and 130 held-out shapes, for several representations.",
    "python -m wsdemo.train.maps shapes --data MESHES",
    "t-SNE at perplexity 30 on 64 principal coordinates. mlora-asym: the app's fits, from the "
    "encoder's start; the others, and 'mlora-asym (shared start)': `python -m "
    "wsdemo.train.shapes.fit shapes --data MESHES --shared-start --runs runs/compare` with "
    "--representation, and --rate 0.03 for mLoRA, 0.003 for LoRA-Asym, 0.01 otherwise.",
)
TEXTS["shapes-features"] = (
    "PointNet-10: the feature space of the shape metrics, a small PointNet.",
    "python -m wsdemo.train.shapes.features --data MESHES",
    "On one thread. Labels: the ten categories; 1,024 surface points, stretched at random in place "
    "of the copies. Its distances compare our own models with each other and nothing more.",
)
AIRPLANES = SHAPES.format(meshes=158, categories="airplanes", more="", copies=5)
TEN = SHAPES.format(
    meshes="1,010",
    categories="ten categories (airplane, car, chair, gun, guitar, humanoid, lamp, sofa, table,\n"
    "vessel)",
    more=" and,\nfor chairs, lamps, sofas and tables, from Sweet Home 3D (CC0, CC BY 3.0) and\n"
    "Quaternius (CC0)",
    copies=1,
)
EXTENDED = {
    "airplane": "",
    "shapes": " The run began with a budget of 15 minutes and was extended to the one stated "
    "after six, so a new run will not give the same bytes.",
}
for _set in EXTENDED:
    TEXTS[f"{_set}-base"] = (
        f"The base field of the set {_set}: what its instances adapt.",
        f"python -m wsdemo.train.shapes.base {_set} --data MESHES",
        "Variational autodecoder of signed distances truncated at 0.05, absolute error, "
        "progressive schedule, EMA, on one thread. The scales at the mean latent are folded into "
        "the weights.",
    )
    TEXTS[f"{_set}-encoder"] = (
        "Guesses a shape's latent from a 32x32x32 grid of distances and writes it as mLoRA "
        "weights: where fits start.",
        f"python -m wsdemo.train.shapes.base {_set} --data MESHES",
        "The encoder that the base was trained with, the base's mapping network, the mean latent.",
    )
    TEXTS[f"{_set}-diffusion"] = (
        f"Draws the weights of shapes of the set {_set}: Gaussian prior and denoising network.",
        f"python -m wsdemo.train.shapes.diffusion {_set}",
        "Trained on one mLoRA-Asym adapter of rank 8 per training shape, fitted by `python -m "
        f"wsdemo.train.shapes.fit {_set} --data MESHES` (100 steps of 768 points from the "
        "encoder's start, absolute error, pull 2), kept to 128 principal directions. On one "
        "thread. The loss is the share of the Gaussian prior's expected error, which scores about "
        "1 on training shapes and less on validation shapes, which are not stretched: a training "
        "loss that goes on falling while the validation loss rises means recall." + EXTENDED[_set],
    )
    TEXTS[f"{_set}-neighbours"] = (
        "Principal coordinates of every training shape's weights, for the memorisation check, and "
        "how far unseen shapes lie from their nearest training shape.",
        f"python -m wsdemo.train.shapes.release {_set}",
        "",
    )
    TEXTS[f"{_set}-examples"] = (
        f"Samples of {_set}-diffusion that are on screen before the first click.",
        f"python -m wsdemo.train.shapes.release {_set}",
        "Chosen by a rule: of four draws for each place the one that PointNet-10 (shapes-features) "
        "is surest to be what was asked for, times the share of its vertices in one piece.",
    )
TEXTS |= {
    "shapes-manifold": (
        "The second generation of the ten categories: base field, learned linear manifold of "
        "adapters, ε = ε₀ + P z with 128 coordinates, and encoder.",
        "python -m wsdemo.train.shapes.manifold shapes --data MESHES",
        "On one thread and a second one that makes the batches, from the base, the encoder and the "
        "principal directions of the first generation, whose hours come before these. The first "
        "three minutes had a β of 2e-4, the rest 5e-5, so a new run will not give the same bytes. "
        "Each training shape has posteriors of its own: as it is, mirrored, and stretched. Errors: "
        "absolute, inside and outside counting alike, in units of the truncation, of validation "
        "shapes; proposed by the encoder, and fitted by 100 gradient steps on z, at points that "
        "these did not see. P is stored in half precision, the encoder's large matrix in a byte an "
        "entry.",
    ),
    "shapes-manifold-base": (
        "The base field (W, b) of shapes-manifold as a file of its own: what its instances adapt.",
        "python -m wsdemo.train.shapes.manifold_fit shapes --data MESHES",
        "",
    ),
    "shapes-manifold-diffusion": (
        "Draws the weights of shapes of the second generation: a mixture of Gaussians of all "
        "coordinates of the manifold, some for each category, whose denoiser is known in closed "
        "form.",
        "python -m wsdemo.train.shapes.manifold_diffusion shapes",
        "Estimated from the posteriors that the manifold was trained with.",
    ),
    "shapes-manifold-neighbours": (
        "As shapes-neighbours, of the second generation: the training instances are the points of "
        "the manifold that their posteriors have in the middle.",
        "python -m wsdemo.train.shapes.release shapes-manifold",
        "",
    ),
    "shapes-manifold-examples": (
        TEXTS["shapes-examples"][0].replace("shapes-diffusion", "shapes-manifold-diffusion"),
        "python -m wsdemo.train.shapes.release shapes-manifold",
        TEXTS["shapes-examples"][2],
    ),
    "shapes-manifold-map": (
        "As shapes-map, of the second generation, without other representations.",
        "python -m wsdemo.train.maps shapes-manifold",
        "t-SNE at perplexity 30 on 64 principal coordinates.",
    ),
}


def show(value: Any) -> str:
    """A measured value for people."""
    if isinstance(value, dict):
        return ", ".join(f"{k} {show(v)}" for k, v in value.items())
    if isinstance(value, str | None):
        return value or "not known"
    return f"{value:,.3f}".rstrip("0").rstrip(".") if isinstance(value, float) else f"{value:,}"


def on_unseen(figures: dict[str, Any]) -> str:
    """How good a predictor is on LoRAs of sources that no LoRA before had; means over labels."""
    rows = [
        f"- {task}: "
        + ", ".join(f"{k.replace('_', ' ')} {show(fmean(v[k] for v in labels.values()))}"
                    for k in ("spearman_rho", "r2", "coverage"))
        for task, labels in figures.items() if isinstance(labels, dict)
    ]  # fmt: skip
    return (
        f"**On unseen sources**: {figures['loras']} LoRAs, of which {figures['within']:.0%} are"
        " answered:\n\n" + "\n".join(rows)
    )


def card(name: str, folder: Path) -> str:
    """The text of one card."""
    summary, command, remarks = TEXTS[name]
    data = {"airplane": AIRPLANES, "shapes": TEN}.get(name.split("-")[0], FACES)
    data = TEXTS_OF_LORAS if name == "lol-smollm2" else data
    files = [folder / f"{name}.safetensors", *sorted(folder.glob(f"{name}-[0-9].safetensors"))]
    numbers, meta = 0, dict[str, Any]()
    for path in files:
        tensors, meta = load_checkpoint(path)
        numbers += sum(t.numel() for t in tensors.values())
    size = sum(p.stat().st_size for p in files)
    measured = meta.get("measured", {})
    for entry in meta.get("tasks", []):  # of a predictor
        values = {k: v for k, v in entry["measured"].items() if k != "reliability"}
        measured |= {f"{entry['task']['name']}: {k}": v for k, v in values.items()}
    if len(meta.get("stages", [])) > 1:
        command += f" --stage {meta['stages'][-1]['stage']}"
    if "minutes" in measured:
        command += f" --minutes {measured['minutes']:.0f}"
    lines = [
        f"# {name}", summary, f"**Data**: {data}",
        f"**Recipe**: `{command}`, seed {meta.get('seed', 0)}, on {MACHINE}. {remarks}".strip(),
    ]  # fmt: skip
    for stage in meta.get("stages", []):
        hours = f"{stage['minutes'] / 60:.2f} hours"
        figures = [f"{k} {show(v)}" for k, v in stage.items() if k not in ("stage", "minutes")]
        lines.append(f"- stage *{stage['stage']}*: {hours}; {', '.join(figures)}")
    if measured and "stages" not in meta:
        rows = [f"- {key.replace('_', ' ')}: {show(value)}" for key, value in measured.items()]
        lines.append("**Measured** by the recipe:\n\n" + "\n".join(rows))
    if "unseen" in meta:
        lines.append(on_unseen(meta["unseen"]))
    if "tasks" in meta and (drawn := draw_reliability(files[0])):
        lines.append(drawn)
    if name.endswith("-diffusion"):
        lines.append("Sample quality: [docs/results.md](../docs/results.md).")
    count = f" in {len(files)} files" if len(files) > 1 else ""
    lines += [
        f"**Size**: {numbers:,} numbers, {size / 1e6:.1f} MB{count}.",
        f"**Licence**: {LICENCES.get(data, MESHES)}",
    ]
    return "\n\n".join(lines) + "\n"


def main() -> None:
    for path in sorted(DIRECTORY.glob("*.safetensors")):
        name = re.sub(r"-\d+$", "", path.stem)  # of a part: the card of all
        write_whole(DIRECTORY / f"{name}.md", card(name, DIRECTORY))


if __name__ == "__main__":
    main()
