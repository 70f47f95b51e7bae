"""Sections of docs/results.md on the structure of weight space."""

from textwrap import fill
from typing import Any

from benchmarks.report_table import measured_by, table

PAPER_CLUSTERS = {
    "mlp": (39.3, 50.0, 78.1), "lora": (56.3, 75.2, 86.1), "mlora": (67.1, 85.1, 90.0),
    "mlora-asym": (56.5, 80.8, 84.5),
}  # fmt: skip
"""Paper A, ShapeNet of ten classes: k-means ARI, 1-NN, logistic regression, in %."""


def clusters_against_paper(values: dict[str, Any]) -> str:
    """How the order, and mLoRA's figures, compare with the paper's, from the figures."""
    columns = (("ari", "ARI"), ("knn_accuracy", "1-NN"), ("logistic_accuracy", "logistic"))
    said, reached, missed = [], [], []
    for i, (key, label) in enumerate(columns):
        ours = {n: f"{100 * values[n]['forms']['raw'][key]:.1f}" for n in PAPER_CLUSTERS}
        m, lora, mlp = (ours[n] for n in ("mlora", "lora", "mlp"))
        signs = [
            ">" if float(a) > float(b) else "=" if a == b else "<"
            for a, b in ((m, lora), (lora, mlp))
        ]
        verdict = "the paper's order" if signs == [">", ">"] else "not the paper's order"
        said.append(f"{label} {m} {signs[0]} {lora} {signs[1]} {mlp}, {verdict}")
        paper = PAPER_CLUSTERS["mlora"][i]
        (reached if float(m) >= paper else missed).append(f"{label} ({m}, paper {paper:.1f})")
    text = f"mLoRA, LoRA, MLP: {'; '.join(said)}. Of the paper's figures of mLoRA, reached: "
    text += f"{', '.join(reached) or 'none'}; missed: {', '.join(missed) or 'none'}."
    return fill(text, 100)


def clusters(result: dict[str, Any]) -> str:
    """Paper A's discriminative table."""
    rows = []
    for name, row in sorted(
        result["values"].items(), key=lambda r: -r[1]["forms"]["raw"]["logistic_accuracy"]
    ):
        raw = row["forms"]["raw"]
        paper = PAPER_CLUSTERS.get(name)
        rows.append([
            name, f"{row['weights']:,}", *(f"{100 * raw[k]:.1f}" for k in (
                "ari", "nmi", "knn_accuracy", "logistic_accuracy", "cross_validated",
                "retrieval_map")),
            " / ".join(f"{v:.1f}" for v in paper) if paper else "–",
        ])  # fmt: skip
    head = ["weights of", "count", "ARI", "NMI", "1-NN", "logistic", "5 folds", "mAP",
            "paper: ARI / 1-NN / logistic"]  # fmt: skip
    forms = []
    for name, row in result["values"].items():
        forms += [
            [name, form, *(f"{100 * f[k]:.1f}" for k in ("ari", "knn_accuracy",
                                                         "logistic_accuracy"))]
            for form, f in row["forms"].items() if form != "raw"
        ]  # fmt: skip
    first = next(iter(result["values"].values()))
    return f"""## Telling ten categories apart by weights

{measured_by(result)}

{first["training"]} training and {first["held_out"]} held-out shapes, each fitted for 100 steps of
768 points from one shared start (`shapes_fit --shared-start`). In %. ARI and NMI: k-means with ten
clusters on the held-out shapes, mean of three seeds. 1-NN (cosine) and logistic regression: trained
on the training shapes, tested on the held-out ones; 5 folds: within the training shapes. One set of
fits; with 130 held-out shapes, an accuracy of 90 % is uncertain by ± 2.6.

{table(head, rows)}

{clusters_against_paper(result["values"])}
Our shapes are a fifth as many as the paper's and differ, so compare the order. Rates of the fits:
0.03 for mLoRA, 0.003 for LoRA-Asym, 0.01 for the others.

These are other measurements than those of the app's map and of `wsdemo clusters`: there
*mlora-asym* are the app's own fits, which begin at the encoder's guess, and every row has 64
principal directions; here all fits begin at the shared start and have 128.

In other forms of the same weights, in %:

{table(["weights of", "form", "ARI", "1-NN", "logistic"], forms)}

*canonical*: unique factors (docs/method.md); *product*: B A of every layer. Factors of LoRA and
mLoRA made unique by a singular value decomposition are worse than raw ones: the shared start has
aligned those already, and a decomposition swaps directions of similar size.

![t-SNE of the weights of 1,100 shapes in four representations](tsne.png)

*t-SNE of the same weights (Fig. 5), by `python -m benchmarks.figures`.*
"""


def connectivity_against_paper(v: dict[str, Any]) -> str:
    """Where whose barrier is lowest, from the figures."""
    rows, λs = v["rows"], v["lambdas"]
    lowest: dict[str, list[str]] = {}
    for i, λ in enumerate(λs):
        best = min(rows, key=lambda n: rows[n]["barrier"][i])
        lowest.setdefault(best, []).append(f"{λ:g}")
    own = lowest.get("mlora-asym", [])
    reached = len(own) == len(λs)

    def beyond(other: str, key: str, sign: int) -> str:
        """The λ at which both mLoRA kinds are beyond another by two standard errors."""
        clear = [
            f"{λ:g}" for i, λ in enumerate(λs)
            if all(
                sign * (rows[other][key][i] - rows[mine][key][i])
                > 2 * ((rows[other][f"{key}_sd"][i] ** 2 + rows[mine][f"{key}_sd"][i] ** 2)
                       / v["faces"]) ** 0.5
                for mine in ("mlora", "mlora-asym")
            )
        ]  # fmt: skip
        return "every λ" if len(clear) == len(λs) else ", ".join(clear) or "none"

    others = [name for name in rows if not name.startswith("mlora")]
    clear = "; ".join(f"{n}: {beyond(n, 'barrier', 1)}" for n in others)
    alike = "; ".join(f"{n}: {beyond(n, 'cosine', -1)}" for n in others)
    growth = ", ".join(
        f"{n} {r['barrier'][-1] / max(r['barrier'][0], 1e-9):.0f}" for n, r in rows.items()
    )
    psnr = ", ".join(f"{n} {sum(r['psnr']) / len(λs):.1f}" for n, r in rows.items())
    where = "; ".join(f"{n} at λ = {', '.join(at)}" for n, at in lowest.items())
    return fill(
        f"Lowest barrier: {where}. That mLoRA-Asym's is lowest at every λ, as in the paper, is"
        f" {'' if reached else 'not '}reached. The λ at which the barriers of both mLoRA kinds are"
        f" more than two standard errors over the faces below that of {clear}. The same of weights"
        f" that end more alike than those of {alike}. From"
        f" λ = {λs[0]:g} to {λs[-1]:g} barriers grow by a factor of: {growth}. Not all ends are"
        f" equally good fits: their mean PSNR in dB is {psnr}.",
        100,
    )


def connectivity(result: dict[str, Any]) -> str:
    """Paper A, Fig. 3."""
    v = result["values"]
    head = ["λ", *(f"{λ:g}" for λ in v["lambdas"])]

    def rows(key: str, digits: int, factor: float = 1.0) -> list[list[str]]:
        return [
            [name, *(f"{factor * m:.{digits}f} ± {factor * s:.{digits}f}"
                     for m, s in zip(row[key], row[f"{key}_sd"], strict=True))]
            for name, row in v["rows"].items()
        ]  # fmt: skip

    return f"""## Connectivity of fits from different starts

{measured_by(result)}

{v["faces"]} held-out faces, each fitted twice for {v["steps"]} steps, from ι₁ and from
m + √(1 − λ²) (ι₁ − m) + λ (ε − m), with ε another draw of the start and m the mean of all draws:
zero for MLP and LoRA; for mLoRA the start has B A = 1, and the paper's mixing, without m, would
scale it by up to 2 in between, where its barrier is then above LoRA's (``--zero-mean`` measures
that). mLoRA begins at the spread start. Rates as in the app: 0.03 for mLoRA, 0.003 for LoRA-Asym,
0.01 for the others. Mean ± sd over faces, one draw of ε. The barrier is the squared error of the
midpoint above the mean of its two ends, times 1,000 (values in [-1, 1]; negative: the midpoint is
better than the ends).

Barrier × 1,000:

{table(head, rows("barrier", 2, 1000))}

Cosine of the trained weights:

{table(head, rows("cosine", 3))}

{connectivity_against_paper(v)}
"""


def map_speed(result: dict[str, Any]) -> str:
    """The map in a browser."""
    v = result["values"]
    rows = [
        [
            name,
            f"{row['frame_ms']:.0f} ms",
            f"{row['slowest_frame_ms']:.0f} ms",
            f"{row['open_seconds']:.2f} s",
        ]
        for name in ("faces", "shapes")
        for row in [v[name]]
    ]
    return f"""## The map in a browser

{measured_by(result)}

Headless Chromium without a GPU, the app on the same machine, 5,000 faces and 1,100 shapes. Next
frame: from a turn of the wheel, which redraws all points as hovering and keys do, to the frame
after it, all points rasterised; of 20 turns. A frame alone takes up to 17 ms, and two are waited
for. Open: from a click to the decoded picture on the page, median of five. Other programs ran
meanwhile: a load of {v["load"]:.1f} on {v["processors"]} processors.

{table(["map", "next frame, median", "slowest of 20", "open a point"], rows)}
"""
