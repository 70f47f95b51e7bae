"""Writes docs/results.md from the stored results: ``python -m benchmarks.report``.

Each table names the command that measured it, the machine, data and seeds. Figures of
the papers stand beside ours where both measured the same thing.
"""

from functools import partial
from textwrap import fill
from typing import Any

from benchmarks import report_weights
from benchmarks.common import RESULTS, load_result
from benchmarks.report_table import measured_by, table

PAPER_PSNR = {
    "mlp": 35.11, "mlp-asym": 33.28, "lora": 35.69,
    "lora-asym": 24.63, "mlora": 35.65, "mlora-asym": 36.91,
}  # fmt: skip
"""Paper A, FFHQ at 128x128, about 27k weights."""

GENERATION_ROWS = {
    "diffusion": "weight diffusion (shipped)",
    "gaussian": "Gaussian prior alone, no network",
    "fits": "fits of training faces: what the weights allow",
    "real": "other real faces: the floor",
}


def reconstruction(result: dict[str, Any], small: bool = False) -> str:
    v = result["values"]
    order = sorted(v["rows"], key=lambda n: -v["rows"][n]["psnr"])
    rows = [
        [name, str(r["rank"]), f"{r['weights']:,}", f"{r['rate']:g}",
         f"**{r['psnr']:.2f}** ± {r['psnr_sd']:.2f}", f"{r['ssim']:.3f} ± {r['ssim_sd']:.3f}",
         f"{PAPER_PSNR[name]:.2f}" if name in PAPER_PSNR else "–"]
        for name in order for r in [v["rows"][name]]
    ]  # fmt: skip
    head = ["representation", "rank (MLP: width)", "weights", "rate", "PSNR dB", "SSIM", "paper"]
    title = "## Reconstruction of unseen faces"
    if small:
        title += " at the paper's ratio of weights to values"
    return f"""{title}

{measured_by(result)}

{v["faces"]} faces of CelebA's test range at 64x64, which no model has seen; {v["seeds"]} seeds
(mask, start, points); {v["steps"]} steps of {v["points"]} points; mean ± sd over faces and
seeds. The paper's column is FFHQ at 128x128 with a base trained for far longer: compare the
order, not the decibels.

{table(head, rows)}

{face_order(v["rows"])}
{"" if small else MEMORY}
"""


MEMORY = """A picture of 64x64 has 12,288 values, fewer than the 27,000 weights, so every
representation can nearly memorise it; the next table has the paper's ratio, almost twice as many
values as weights."""


def face_order(rows: dict[str, Any]) -> str:
    """The order of the six representations, mLoRA-Asym against its rivals, and its two starts."""
    six = sorted((n for n in rows if n in PAPER_PSNR), key=lambda n: -rows[n]["psnr"])
    own = rows["mlora-asym"]["psnr"]
    against = " and ".join(
        f"{abs(own - rows[n]['psnr']):.1f} dB {'above' if own > rows[n]['psnr'] else 'below'} {n}"
        for n in ("lora", "mlp")
    )
    is_met = own > max(rows["lora"]["psnr"], rows["mlp"]["psnr"])
    spread = rows["mlora-asym, spread start"]["psnr"]
    text = (
        f"Order: {', '.join(six)}; the paper's best is mlora-asym. Here it lies {against}: the"
        f" aim, above both, is {'met' if is_met else 'missed'}."
        f" It begins at the carried start; from the spread one it reaches {spread:.2f} dB"
        " (docs/method.md says why)."
    )
    return fill(text, 100)


def generation(result: dict[str, Any]) -> str:
    v = result["values"]
    rows = [
        [GENERATION_ROWS[name], str(r["count"]), f"{r['fd']:.3f}", f"{r['mmd_gaussian']:.4f}",
         f"{r['mmd_polynomial']:.4f}", f"{r['precision']:.2f}", f"{r['coverage']:.2f}",
         f"{r['nearest_train']:.2f}"]
        for name, r in v["rows"].items()
    ]  # fmt: skip
    head = ["pictures", "n", "FD ↓", "MMD-G ↓", "MMD-P ↓", "precision", "coverage", "nearest train"]
    ours, prior = v["rows"]["diffusion"]["fd"], v["rows"]["gaussian"]["fd"]
    return f"""## Generation of faces

{measured_by(result)}

Against {v["references"]} unseen faces (CelebA's test range) in the features of FaceAttr-64, a
small network of ours: these distances compare with nothing outside this page. Sampled
unconditionally with {v["steps"]} DDIM steps. *Nearest train* is the median distance to the
nearest training face in the same features; a model that copies would be far below real faces.
FD depends on n: rows of different n compare only roughly.

{table(head, rows)}

The network lowers the Gaussian's FD by {100 * (1 - ours / prior):.0f} % and adds the wishes
(docs/wishes.png). Both lie well above what the weights allow (150 fits ship, and FD falls with n;
500 fits have an FD of 9.9, see below). 8,000 faces are few: with their mirror images the network
no longer overfits in twelve minutes (its card), which took the FD from 16.4 to 16.0 only.
"""


def speed(result: dict[str, Any]) -> str:
    v = result["values"]
    rows = [
        [f"faces per minute fitted to {v['target_psnr']:.0f} dB one at a time",
         f"{v['single_per_minute']:.0f}"],
        *[[f"in batches of {b} instead", f"{ratio:.2f} times as many"]
          for b, ratio in v["ratios"].items()],
        *[[f"one unseen face in 5 s, rank {rank}, {origin} start (mean of 8 faces)", f"{db:.1f} dB"]
          for origin, row in v["psnr_5s"].items() for rank, db in row.items()],
        ["first sampled face, warm, 30 steps", f"{v['seconds_to_first_face']:.2f} s"],
        ["from `python app.py` to a page that answers", f"{v['seconds_to_page']:.1f} s"],
    ]  # fmt: skip
    return f"""## Speed

{measured_by(result)}

On {v["faces"]} unseen faces (CelebA's test range), in one run. Fits to a target start at the shared
start; the fits of 5 s are the app's.

{table(["what", "measured"], rows)}

Batching does not pay on a CPU: one face of 768 points already keeps both cores at work, larger
batches leave the caches, and a batch runs until its slowest face is done.
"""


PAPER_CHAMFER = {
    "airplane": {"mlp": 2.57, "mlp-asym": 2.64, "lora": 2.44, "lora-asym": 2.46, "mlora": 2.45,
                 "mlora-asym": 2.41},
    "shapes": {"mlp": 3.78, "mlp-asym": 4.00, "lora": 3.39, "lora-asym": 3.44, "mlora": 3.49,
               "mlora-asym": 3.35},
}  # fmt: skip
"""Paper A, ShapeNet airplane and ten classes; the unit of the distance is not stated."""
SETS = {"airplane": "airplanes", "shapes": "shapes of ten categories"}
SHAPE_ROWS = {
    "diffusion": "weight diffusion (shipped)",
    "cool": "the same, cooler, as the app draws",
    "cool_at_zero": "the same, cooler, surfaces at 0",
    "gaussian": "Gaussian prior alone, no network",
    "fits": "fits of training shapes: what the weights allow",
    "real": "those training shapes: the floor",
}


def pair(value: list[float], digits: int, factor: float = 1.0) -> str:
    """mean ± sd."""
    return f"{factor * value[0]:.{digits}f} ± {factor * value[1]:.{digits}f}"


def shape_reconstruction(name: str, result: dict[str, Any]) -> str:
    v = result["values"]
    order = sorted(v["rows"], key=lambda n: v["rows"][n]["chamfer"][0])
    rows = [
        [label, str(r["rank"]), f"{r['weights']:,}", f"{r['rate']:g}",
         pair(r["chamfer"], 2, 1e3), pair(r["chamfer_2048"], 2, 1e3), pair(r["fscore"], 3),
         pair(r["iou"], 3), pair(r["normals"], 3),
         f"{PAPER_CHAMFER[name][label]:.2f}" if label in PAPER_CHAMFER[name] else "–"]
        for label in order for r in [v["rows"][label]]
    ]  # fmt: skip
    head = ["representation", "rank (MLP: width)", "weights", "rate", "CD·10³ ↓ 30k",
            "CD·10³ ↓ 2,048", "F-score ↑", "IoU ↑", "normals ↑", "paper's CD"]  # fmt: skip
    return f"""## Reconstruction of unseen {SETS[name]}

{measured_by(result)}

{v["meshes"]} meshes of the test split, which no model has seen; seeds: {v.get("seeds", 1)};
{v["steps"]} steps of {v["points"]} points from one shared start; surfaces at 128³. Mean ± sd over
meshes and seeds. The longest side of a mesh is 1.8; the F-score counts points within 1 % of it. The
paper's column is ShapeNet in a unit that it does not state: compare the order.

{table(head, rows)}

{shape_order(v["rows"])}{TWIN if name == "airplane" else ""}
"""


TWIN = """

One test plane (Jet_m1167) is nearly the same mesh as a training plane (Jet_m1258)."""


def shape_order(rows: dict[str, Any]) -> str:
    """Who leads by which measure, and where mLoRA-Asym, the paper's best, stands."""
    six = [name for name in rows if name in PAPER_CHAMFER["airplane"]]
    low, high = ("chamfer",), ("fscore", "iou", "normals")
    lead = {m: min(six, key=lambda n: rows[n][m][0]) for m in low}
    lead |= {m: max(six, key=lambda n: rows[n][m][0]) for m in high}
    place = sorted(six, key=lambda n: rows[n]["chamfer"][0]).index("mlora-asym") + 1
    (best, _), (own, spread) = rows[lead["chamfer"]]["chamfer"], rows["mlora-asym"]["chamfer"]
    if place == 1:
        return "As in the paper, mLoRA-Asym comes nearest to the surface."
    text = (
        f"**Where the order differs from the paper's.** The aim, mLoRA-Asym best, is missed: by"
        f" Chamfer distance {lead['chamfer']} leads and mlora-asym is number {place} of {len(six)},"
        f" {'within' if own - best <= spread else 'beyond'} one standard deviation over meshes of"
        f" the first; {lead['fscore']} has the best F-score, {lead['iou']} the best IoU and"
        f" {lead['normals']} the best normals."
    )
    return fill(text, 100)


def shape_generation(name: str, result: dict[str, Any]) -> str:
    v = result["values"]

    def show(r: dict[str, Any], key: str, form: str) -> str:
        spread = f" ± {r[f'{key}_sd']:{form}}" if f"{key}_sd" in r else ""
        return f"{r[key]:{form}}{spread}"

    rows = [
        [SHAPE_ROWS[label], str(r["count"]), f"{r['empty']:.3g}", show(r, "mmd", ".4f"),
         show(r, "cov", ".1%"), show(r, "nna", ".1%"), show(r, "fd", ".1f")]
        for label, r in v["rows"].items()
    ]  # fmt: skip
    seeds = max(r.get("seeds", 1) for r in v["rows"].values())
    drawn = f"; samples: mean ± sd of {seeds} seeds" if seeds > 1 else ""
    asked = v["asked"]
    right, each = asked["right"], asked["each"]
    words = (
        f"Drawn as the app draws (temperature {v['temperature']:g}, 30 steps), {asked['whole']} of"
        f" {asked['count']} are in one piece; at 0, {asked['whole_at_zero']} would be. The table's"
        " distances hardly tell the two apart."
    )
    if right:
        missed = ", ".join(f"{name} {n} of {each}" for name, n in right.items() if n < each)
        words += (
            f" PointNet-10 names the category that was asked for in {sum(right.values())} of"
            f" {each * len(right)} ({missed or 'all'}); it is no person: docs/samples-shapes.png"
            " shows what a person has to name."
        )
    seen = ", chosen on the validation shapes, which are among these" if name == "shapes" else ""
    head = ["shapes", "n", "without surface", "MMD ↓", "COV ↑", "1-NNA (50 % is ideal)", "FD ↓"]
    return f"""## Generation of {SETS[name]}

{measured_by(result)}

HyperDiffusion's protocol against {v["references"]} unseen meshes (validation and test), as
many samples, drawn without condition in {v["steps"]} DDIM steps, surfaces at 96³{drawn}. FD: in the
features of PointNet-10, a small network of ours; it falls with n. *Cooler*: at temperature
{v["temperature"]:g}, surfaces where the field is {v["level"]:g}, not 0 (docs/method.md){seen}.

{table(head, rows)}

{fill(words, 100)}
"""


PAPER_RATIO = {"faces": 3.3, "airplane": 2.4, "shapes": 4.5}
"""Paper A: how many times lower mLoRA-Asym's Fréchet distance is than HyperDiffusion's."""


def representations(which: str, result: dict[str, Any]) -> str:
    """What can be generated from which weights, at equal budgets."""
    v = result["values"]
    faces = which == "faces"
    keys = {"mmd_gaussian": "MMD-G ↓", "mmd_polynomial": "MMD-P ↓", "precision": "precision",
            "coverage": "coverage ↑"} if faces else {
        "mmd": "MMD ↓", "cov": "COV ↑", "nna": "1-NNA (0.5 is ideal)"}  # fmt: skip
    rows = []
    for name, r in sorted(v["rows"].items(), key=lambda row: row[1].get("fd", 1e9)):
        if "fd" not in r:
            rows.append([name, *["–"] * (2 + len(keys)), "no surface"])
            continue
        rows.append([
            name, str(r["count"]), f"{r['fd']:.2f}", *(f"{r[k]:.4g}" for k in keys),
            "" if faces else str(r["empty"]),
        ])  # fmt: skip
    head = ["weights, method", "n", "FD ↓", *keys.values(), "" if faces else "without surface"]
    if faces:
        head, rows = head[:-1], [row[:-1] for row in rows]
    said = []
    for method in ("plain", "prior"):
        ours, others = (v["rows"].get(f"{n}-{method}", {}).get("fd") for n in ("mlora-asym", "mlp"))
        if ours and others:
            paper = f" (the paper's ratio to HyperDiffusion: {PAPER_RATIO[which]})"
            said.append(
                f"{method}: MLP's FD is {others / ours:.2f} times that of mLoRA-Asym"
                + (paper if method == "plain" else "")
            )
    said.append(methods_compared(v["rows"], PAPER_RATIO[which]))
    what, space = ("faces", "FaceAttr-64") if faces else (SETS[which], "PointNet-10")
    return f"""## Generating {what} from different weights

{measured_by(result)}

Every representation has the same instances, start, steps of fitting and, by `python -m
benchmarks.generation_models {which}`, the same steps of training: *plain*, a transformer over
standardised weights as in the papers (MLP weights as flat tokens, after HyperDiffusion;
docs/method.md says how it differs), 1,000 steps of 64;
*prior*, our Gaussian prior and a network over its 128 principal coordinates, 2,000 steps of 128.
One seed. *fits*: the training fits themselves, what the weights allow. {v["count"]} samples of each
without condition, in {v["steps"]} DDIM steps, against unseen {what} in the features of {space}
(ours: only ratios compare).

{table(head, rows)}

{fill(". ".join(said), 100)}

{REPRESENTATIONS[which]}
"""


def methods_compared(rows: dict[str, Any], paper: float) -> str:
    """Ours against HyperDiffusion's, each with its own weights, at the time that each took."""
    ours, base = rows["mlora-asym-prior"], rows["mlp-plain"]
    ratio = base["fd"] / ours["fd"]
    text = (
        f"Whole methods: the FD of HyperDiffusion's (mlp-plain, {base['minutes']:.1f} minutes of"
        f" training) is {ratio:.1f} times that of ours (mlora-asym-prior, {ours['minutes']:.1f}"
        f" minutes), {'above' if ratio >= paper else 'below'} the paper's {paper:g}"
    )
    if "nna" in ours:
        nearer = 100 * (abs(base["nna"] - 0.5) - abs(ours["nna"] - 0.5))
        text += (
            f"; its 1-NNA of {100 * base['nna']:.1f} % is {nearer:.1f} points further from 50 %"
            " (aim: ten)"
        )
    return text + "."


REPRESENTATIONS = {
    "airplane": """153 fits of each, 100 steps at the rates of the ten categories; surfaces at 64³.
By FD the order is the paper's (plain), and its ratio of 2.4 is far exceeded. Of the weights alone,
one method for both, the other measures say less: 1-NNA is 1.5 points nearer to 50 % than with MLP
weights, by *plain* and by *prior*, and calls plain samples of both poor. PointNet-10 was trained to
tell ten categories, not planes, and these are 34 samples of one seed. LoRA-Asym's fits themselves
fail: they were made at a rate of 0.01, ten times the one that reconstruction has since found best
for it.""",
    "faces": """With the prior the order is the paper's: mLoRA-Asym, mLoRA, then the rest; without
it the two mLoRA swap places. By the weights alone, one method for both, the paper's ratio of 3.3
is not reached; by whole methods, as the paper compares, it is. Our plain transformers saw 64,000
noisy examples each, on one CPU core, and are far from done: the baseline with them. LoRA-Asym is
before MLP here, not behind it. Rates of the fits: 0.03 for mLoRA, 0.005 for LoRA-Asym, 0.01 for
MLP; 60 steps; 2,000 faces.""",
    "shapes": """The fits are those of the table of categories below; surfaces at 64³. As in the
paper, multiplicative weights are the easiest to generate; here additive LoRA with a mask by far the
hardest (its fits fail already: at a rate of 0.01, ten times the one that reconstruction has since
found best for it); MLP weights lie in between. Between mLoRA with and without mask 50 samples of
one seed settle nothing: MLP's FD is 1.9 (plain) and 4.8 (prior) times that with mask, 3.1 and 1.8
times that without. An FD below that of the fits is chance as well.""",
}


def shape_speed(result: dict[str, Any]) -> str:
    v = result["values"]
    fit = v["fit_15_seconds"]
    rows = [
        *[[f"dense against coarse-to-fine evaluation at {n}³", f"{r:.1f} times as long"]
          for n, r in v["coarse_to_fine_ratio"].items()],
        *[[f"one at a time against batches of {b}, same steps", f"{r:.2f} times as long"]
          for b, r in v["batched_ratio"].items()],
        ["a sampled shape, warm, 30 steps, picture at 64³",
         f"{v['seconds_to_sampled_preview']:.2f} s"],
        [f"{fit['meshes']} unseen meshes, each fitted for 15 s as in the app: F-score",
         pair(fit["fscore"], 3)],
        ["the same: volume IoU", pair(fit["iou"], 3)],
        ["the same: how many reach an F-score of 95 %", f"{fit['reaching_95']}"],
    ]  # fmt: skip
    return f"""## Speed of shapes

{measured_by(result)}

In one run.

{table(["what", "measured"], rows)}
"""


def loras(result: dict[str, Any]) -> str:
    rows = []
    for label, r in result["values"]["rows"].items():
        if "refused" in r:
            rows.append([label, f"refused: {r['refused']}", "", "", "", "", ""])
            continue
        rows.append([
            label, r["family"], r["base"] or "–", str(r["modules"]),
            ", ".join(map(str, r["ranks"])), "yes" if r["exact"] else "no",
            f"{r['ratio']:.1f}",
        ])  # fmt: skip
    head = ["file", "read as", "base", "modules", "ranks", "exact", "time / load_file"]
    return f"""## Reading real LoRA files

{measured_by(result)}

Public files under Apache-2.0 or MIT (pickles converted first), and key tables of larger files
filled with random values, up to 120 million numbers: the largest have fewer modules here than their
tables. Ranks of LoKr with whole factors are the columns that were kept. The last column is the time
to read and measure a file against `safetensors.torch.load_file` alone, in one run; small files pay
for the singular values. *Exact* is no where the scale is not in the file, the base's weights are
needed (DoRA), or ranks were cut.

{table(head, rows)}
"""


LOADING = {
    "bytes_alone": "reading the bytes alone",
    "load_file": "safetensors' load_file, which only maps the file",
    "load_file_all_used": "the same, every number used once",
    "load_file_float32": "the same, copied to float32",
    "diffusers_load_lora_adapter": "diffusers' load_lora_adapter into a ready UNet",
    "peft_new_model_and_state_dict": "PEFT, new adapter and its weights into a ready UNet",
    "peft_state_dict_into_ready_model": "PEFT, weights into an adapter that is there",
}


def lora_loading(result: dict[str, Any]) -> str:
    """Time and memory of reading a LoRA."""
    v = result["values"]
    rows = [
        [said, f"{v['others'][name]['processor_ms']:.1f} ms", f"{r['processor_ms']:.2f}"]
        for name, said in LOADING.items() if (r := v["wsdemo_divided_by"].get(name))
    ]  # fmt: skip
    large = v["large"]
    peft, diffusers, ready = (
        1 / v["wsdemo_divided_by"][name]["processor_ms"]
        for name in (
            "peft_new_model_and_state_dict",
            "diffusers_load_lora_adapter",
            "peft_state_dict_into_ready_model",
        )
    )
    raw = v["wsdemo_divided_by"]["load_file"]["processor_ms"]
    return f"""## Time and memory of reading a LoRA

{measured_by(result)}

`{v["file"]}`, {v["bytes"] / 2**20:.1f} MB, {v["modules"]} modules. From the file to passport and
geometry wsdemo takes {v["wsdemo"]["processor_ms"]:.1f} ms of processor time, one thread, best of
seven, in one run with:

{table(["what", "takes", "wsdemo takes so many times as long"], rows)}

A file of {large["gigabytes"]:.2f} GB ({LARGE}) is inspected in
{large["peak_gigabytes"]:.2f} GB of memory and {large["seconds"]:.0f} s, start of Python included.

{fill(loading_aims(peft, diffusers, ready, raw), 100)}
"""


def loading_aims(peft: float, diffusers: float, ready: float, raw: float) -> str:
    """What was aimed at, and what came of it."""
    return (
        f"The aim of ten times faster than PEFT is {'met' if peft >= 10 else 'missed'} where PEFT"
        f" has to build its adapter ({peft:.1f} times; diffusers {diffusers:.1f}); where the"
        " adapter is there already, PEFT only copies numbers into place, and the ratio is"
        f" {ready:.1f}. The aim of at most twice the time of load_file is"
        f" {'met' if raw <= 2 else 'missed'} ({raw:.2f} times) on an idle machine; larger ranks"
        " take longer, as their singular values do (the table above)."
    )


LARGE = "SDXL's 986 modules at rank 144, random values"
SECTIONS = {
    "faces-reconstruction": reconstruction,
    "faces-reconstruction-6700": partial(reconstruction, small=True),
    "faces-generation": generation,
    "faces-speed": speed,
    "airplane-reconstruction": partial(shape_reconstruction, "airplane"),
    "shapes-reconstruction": partial(shape_reconstruction, "shapes"),
    "airplane-generation": partial(shape_generation, "airplane"),
    "shapes-generation": partial(shape_generation, "shapes"),
    "faces-representations": partial(representations, "faces"),
    "airplane-representations": partial(representations, "airplane"),
    "shapes-representations": partial(representations, "shapes"),
    "shapes-speed": shape_speed,
    "clusters": report_weights.clusters,
    "connectivity": report_weights.connectivity,
    "map-speed": report_weights.map_speed,
    "loras": loras,
    "lora-loading": lora_loading,
    "lol": report_weights.lol,
    "lol-cost": report_weights.lol_cost,
}
FAMILIES = ("face-generator", "face-fields", "face-fields-lora", "smollm")


def text() -> str:
    """The page, from what is stored."""
    parts = [
        "# Results\n\nWritten by `python -m benchmarks.report` from docs/results/*.json; "
        "each table stands below the command that measured it.\n"
    ]
    for name, section in SECTIONS.items():
        result = load_result(name)
        if result:
            parts.append(section(result))
    parts += [found for name in FAMILIES if (found := report_weights.family(name))]
    return "\n".join(parts)


def main() -> None:
    (RESULTS.parent / "results.md").write_text(text())


if __name__ == "__main__":
    main()
