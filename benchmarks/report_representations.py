"""Sections of docs/results.md on what can be generated from which weights."""

from textwrap import fill
from typing import Any

from benchmarks.report_shapes import SETS
from benchmarks.report_table import measured_by, table

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
By FD of plain models mLoRA-Asym leads as in the paper, whose ratio of 2.4 is far exceeded;
LoRA-Asym lies between mLoRA and MLP (on the paper's faces it is behind HyperDiffusion), and with
the prior beside mLoRA. Of the weights alone, one method for both, the other measures say less:
1-NNA is 1.5 points nearer to 50 % than with MLP weights, by *plain* and by *prior*, and calls plain
samples of both poor. PointNet-10 was trained to tell ten categories, not planes, and these are 34
samples of one seed.""",
    "faces": """With the prior the order is the paper's: mLoRA-Asym, mLoRA, then the rest; without
it the two mLoRA swap places. By the weights alone, one method for both, the paper's ratio of 3.3
is not reached; by whole methods, as the paper compares, it is. Our plain transformers saw 64,000
noisy examples each, on one CPU core, and are far from done: the baseline with them. LoRA-Asym is
before MLP here, not behind it. Rates of the fits: 0.03 for mLoRA, 0.005 for LoRA-Asym, 0.01 for
MLP; 60 steps; 2,000 faces.""",
    "shapes": """The fits are those of the table of categories below; surfaces at 64³. As in the
paper, multiplicative weights are the easiest to generate; LoRA-Asym comes next (on the paper's
faces it is behind HyperDiffusion), MLP weights last. Between mLoRA with and without mask 50 samples
of one seed settle nothing: MLP's FD is 1.9 (plain) and 4.8 (prior) times that with mask, 3.1 and
1.8 times that without. An FD below that of the fits is chance as well. Rates of the fits: 0.03 for
mLoRA, 0.003 for LoRA-Asym, 0.01 for MLP.""",
}
