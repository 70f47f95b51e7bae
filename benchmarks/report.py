"""Writes docs/results.md from the stored results: ``python -m benchmarks.report``.

Each table names the command that measured it, the machine, data and seeds. Figures of
the papers stand beside ours where both measured the same thing.
"""

from typing import Any

from benchmarks.common import RESULTS, load_result

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


def table(head: list[str], rows: list[list[str]]) -> str:
    """A Markdown table."""
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])


def measured_by(result: dict[str, Any]) -> str:
    return f"`{result['command']}` · {result['machine']}"


def reconstruction(result: dict[str, Any]) -> str:
    v = result["values"]
    order = sorted(v["rows"], key=lambda n: -v["rows"][n]["psnr"])
    rows = [
        [name, str(r["rank"]), f"{r['weights']:,}", f"{r['rate']:g}",
         f"**{r['psnr']:.2f}** ± {r['psnr_sd']:.2f}", f"{r['ssim']:.3f} ± {r['ssim_sd']:.3f}",
         f"{PAPER_PSNR[name]:.2f}" if name in PAPER_PSNR else "–"]
        for name in order for r in [v["rows"][name]]
    ]  # fmt: skip
    head = ["representation", "rank (MLP: width)", "weights", "rate", "PSNR dB", "SSIM", "paper"]
    return f"""## Reconstruction of unseen faces

{measured_by(result)}

{v["faces"]} faces of CelebA's test range at 64x64, which no model has seen; {v["seeds"]} seeds
(mask, start, points); {v["steps"]} steps of {v["points"]} points; mean ± sd over faces and
seeds. The paper's column is FFHQ at 128x128 with a base trained for far longer: compare the
order, not the decibels.

{table(head, rows)}

**Where the order differs from the paper's.** A picture of 64x64 has 12,288 values, fewer than the
27,000 weights, so every representation can nearly memorise it and the freest one, an MLP of its
own, does best; the paper's pictures have almost twice as many values as weights. mLoRA, bound to
multiply what the base already has, stays behind LoRA. A base trained for 18 minutes on two CPU
cores is the first suspect; we have not shown that it is the reason. The comparison at the paper's
ratio of weights to values (about 6,700 weights here) is still to be made.
"""


def generation(result: dict[str, Any]) -> str:
    v = result["values"]
    rows = [
        [GENERATION_ROWS[name], str(r["count"]), f"{r['fd']:.3f}", f"{r['mmd_gaussian']:.4f}",
         f"{r['mmd_polynomial']:.4f}", f"{r['precision']:.2f}", f"{r['coverage']:.2f}",
         f"{r['nearest_train']:.2f}"]
        for name, r in v["rows"].items()
    ]  # fmt: skip
    head = ["pictures", "n", "FD ↓", "MMD-G ↓", "MMD-P ↓", "precision", "coverage", "nearest train"]
    return f"""## Generation of faces

{measured_by(result)}

Against {v["references"]} unseen faces (CelebA's test range) in the features of FaceAttr-64, a
small network of ours: these distances compare with nothing outside this page. Sampled
unconditionally with {v["steps"]} DDIM steps. *Nearest train* is the median distance to the
nearest training face in the same features; a model that copies would be far below real faces.
FD depends on n: rows of different n compare only roughly.

{table(head, rows)}

The network adds the wishes (docs/wishes.png), but its unconditional samples are no better than the
Gaussian prior's: 2,600 steps on one CPU thread are too few to learn more than covariance. Both lie
well above what the weights allow.

Not measured yet: the same with mLoRA, LoRA-Asym and the HyperDiffusion baseline at equal budget.
"""


def speed(result: dict[str, Any]) -> str:
    v = result["values"]
    rows = [
        [f"faces per minute fitted to {v['target_psnr']:.0f} dB one at a time",
         f"{v['single_per_minute']:.0f}"],
        *[[f"in batches of {b} instead", f"{ratio:.2f} times as many"]
          for b, ratio in v["ratios"].items()],
        ["one unseen face in 5 s, rank 8 (mean of 8 faces)", f"{v['psnr_5s_rank8']:.1f} dB"],
        ["one unseen face in 5 s, rank 18 (mean of 8 faces)", f"{v['psnr_5s_rank18']:.1f} dB"],
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


SECTIONS = {
    "faces-reconstruction": reconstruction,
    "faces-generation": generation,
    "faces-speed": speed,
}


def main() -> None:
    parts = [
        "# Results\n\nWritten by `python -m benchmarks.report` from docs/results/*.json; "
        "each table stands below the command that measured it.\n"
    ]
    for name, section in SECTIONS.items():
        result = load_result(name)
        if result:
            parts.append(section(result))
    (RESULTS.parent / "results.md").write_text("\n".join(parts))


if __name__ == "__main__":
    main()
