"""Every table of Paper A that applies, in its layout, with its numbers beside ours.

    python -m benchmarks.paper_a --faces celeba.zip --meshes MESHES
    python -m benchmarks.paper_a --quick

Fits, trains and measures what is not there yet (docs/results/*.json; delete one to measure it
again); stopped, the same command continues. Then prints Table 1 (reconstruction), the generation
table, Table 4 (telling classes apart) and Fig. 3 (connectivity), each with what is to be said where
the order is not the paper's. Fig. 5, the weights' t-SNE, is docs/tsne.png (benchmarks/figures.py).
What could not be measured is named, and the exit status is then 1. ``--quick`` runs the same
programs on made-up data with tiny numbers, to see that they run: its figures mean nothing and are
kept nowhere.
"""

import argparse
import importlib
import io
import os
import sys
import tempfile
import zipfile
from functools import partial
from pathlib import Path
from typing import Any

from wsdemo.errors import WsdemoError

STEPS: dict[str, tuple[str, list[str]]] = {
    "faces-reconstruction": ("faces_reconstruction", ["--data=FACES"]),
    "faces-reconstruction-6700": (
        "faces_reconstruction", ["--data=FACES", "--weights=6700", "--faces=32", "--seeds=1"]),
    "airplane-reconstruction": (
        "shapes_reconstruction", ["airplane", "--data=MESHES", "--count=29"]),
    "shapes-reconstruction": ("shapes_reconstruction", ["shapes", "--data=MESHES", "--count=20"]),
    "faces models": ("generation_models", ["faces", "--data=FACES"]),
    "faces-representations": (
        "generation", ["faces", "--data=FACES", "--models=MODELS", "--count=500"]),
    "airplane models": ("generation_models", ["airplane", "--data=MESHES"]),
    "airplane-representations": (
        "generation", ["airplane", "--data=MESHES", "--models=MODELS", "--count=34"]),
    "shapes models": ("generation_models", ["shapes", "--data=MESHES"]),
    "shapes-representations": (
        "generation", ["shapes", "--data=MESHES", "--models=MODELS", "--count=50"]),
    "clusters fits": ("clusters", []),
    "clusters": ("clusters", []),
    "connectivity": ("connectivity", ["--data=FACES", "--faces=30", "--steps=100"]),
}  # fmt: skip
"""Result → the program that writes it, and its options; a name with a space writes no result."""
QUICK = {
    "faces-reconstruction": ["--faces=2", "--seeds=1", "--only", "mlp", "mlora-asym"],
    "faces-reconstruction-6700": ["--faces=2", "--only", "mlora-asym"],
    "airplane-reconstruction": ["--count=2", "--only", "mlora-asym"],
    "shapes-reconstruction": ["--count=2", "--only", "mlora-asym"],
    "faces models": ["--only", "mlora-asym", "--methods", "prior"],
    "airplane models": ["--only", "mlora", "--methods", "prior"],
    "shapes models": ["--only", "mlp", "--methods", "plain"],
    "faces-representations": ["--count=4", "--steps=2"],
    "airplane-representations": ["--count=2", "--steps=2"],
    "shapes-representations": ["--count=4", "--steps=2"],
    "connectivity": ["--faces=2", "--steps=3"],
}
ROWS = {"reconstruction": 9, "representations": 12, "clusters": 6, "connectivity": 6}
"""Of a complete result of each kind."""
PAPER = ("mlp", "mlp-asym", "lora", "lora-asym", "mlora", "mlora-asym")
SETS = ("faces", "airplane", "shapes")
PAPER_FD = {
    "faces": {"mlp": 0.241, "lora-asym": 0.269, "mlora": 0.100, "mlora-asym": 0.073},
    "airplane": {"mlp": 0.027, "mlora-asym": 0.011},
    "shapes": {"mlp": 0.117, "mlora-asym": 0.026},
}
"""FFHQ, ShapeNet's airplanes and ten classes; mlp: HyperDiffusion."""


def made_up(folder: Path) -> tuple[Path, Path]:
    """Writes made-up faces and meshes in the layouts of the real ones; returns both places.

    The splits of faces are small from then on, in this process.
    """
    import trimesh
    from PIL import Image

    from wsdemo.analysis.features import shipped_features
    from wsdemo.train.faces.data import SPLITS, toy_faces
    from wsdemo.train.shapes.data import _training_split

    SPLITS.update(
        {"train": (0, 20), "train-mirrored": (0, 20), "validation": (20, 26), "test": (26, 34)}
    )
    names = shipped_features()[1]
    pictures = []
    for image in toy_faces(12, 32).images:
        out = io.BytesIO()
        Image.fromarray(image.permute(1, 2, 0).numpy()).save(out, "JPEG")
        pictures.append(out.getvalue())
    rows = ["image," + ",".join(names)]
    with zipfile.ZipFile(folder / "faces.zip", "w") as archive:
        for i in range(SPLITS["test"][1]):
            archive.writestr(f"{i:06d}.jpg", pictures[i % 12])
            rows.append(f"{i:06d}.jpg," + ",".join(str((i >> k) & 1) for k in range(len(names))))
        archive.writestr("attributes.csv", "\n".join(rows))
    import zlib

    meshes = folder / "meshes"
    for category, extents in (("airplane", (1.8, 1.5, 0.4)), ("chair", (0.8, 0.8, 1.6))):
        (meshes / category).mkdir(parents=True)
        wanted, i = {"train": 5, "validation": 1, "test": 2}, 0
        while any(wanted.values()):
            name = f"{category}/{i:03d}"
            is_test = zlib.crc32(name.encode()) % 10 == 0
            split = "test" if is_test else _training_split(name)
            if wanted[split]:
                wanted[split] -= 1
                box = trimesh.creation.box([e * (1 + 0.03 * (i % 7)) for e in extents])
                box.export(meshes / f"{name}.obj")
            i += 1
    return folder / "faces.zip", meshes


def fits(meshes: Path | None, runs: Path) -> list[list[str]]:
    """Options of ``wsdemo.train.shapes.fit``, a call each, for the table of classes."""
    from benchmarks.common import scaled
    from wsdemo.train.maps import COMPARED

    return [
        ["shapes", f"--data={meshes or 'MESHES'}", f"--representation={name}", f"--rank={rank}",
         f"--rate={0.03 if name.startswith('mlora') else 0.01}", f"--split={split}",
         "--shared-start", "--count=970", f"--steps={scaled(100, 2)}", f"--runs={runs}",
         "--threads=1"]
        for name, rank in COMPARED.items() for split in ("train", "test")
    ]  # fmt: skip


def unfitted(runs: Path) -> list[str]:
    """The commands whose fits the table of classes lacks."""
    from wsdemo.train.maps import COMPARED

    folders = [
        runs / "shapes-fit" / f"{name}-r{rank}" / split
        for name, rank in COMPARED.items() for split in ("train", "test")
    ]  # fmt: skip
    return [
        "python -m wsdemo.train.shapes.fit " + " ".join(options)
        for folder, options in zip(folders, fits(None, runs), strict=True)
        if not any(folder.glob("shard-*.safetensors"))
    ]


def rows_of(name: str) -> dict[str, Any]:
    """What is stored of a result: a row each."""
    from benchmarks.common import load_result

    values = load_result(name).get("values", {})
    rows: dict[str, Any] = values.get("rows", values)
    return rows


def is_whole(name: str) -> bool:
    """Whether a result has all its rows; the programs themselves continue after the last."""
    kind = next(kind for kind in ROWS if kind in name)
    return len(rows_of(name)) >= ROWS[kind]


def measure(faces: Path | None, meshes: Path | None, is_quick: bool, runs: Path) -> list[str]:
    """Runs what has no whole result yet and whose data was given; returns what is still missing."""
    places = {"FACES": faces, "MESHES": meshes, "MODELS": runs / "models"}
    for name, (program, options) in STEPS.items():
        key = name.replace(" models", "-representations").removesuffix(" fits")
        if is_whole(key) and not is_quick:
            continue
        if name.endswith(" fits") and meshes is None:
            if commands := unfitted(runs):
                print(
                    f"{key}: fits are missing. Give --meshes, or run first:", *commands, sep="\n  "
                )
            continue
        if key == "clusters" and name == key and unfitted(runs):
            continue
        needed = [word for word in places if f"--data={word}" in options]
        if absent := [f"--{word.lower()}" for word in needed if places[word] is None]:
            print(f"{name}: not measured whole yet; give {' and '.join(absent)}.")
            continue
        given = [*options, *([*QUICK.get(name, []), "--threads=1"] if is_quick else [])]
        for word, place in places.items():
            given = [o.replace(f"={word}", f"={place}") for o in given]
        if program not in ("faces_reconstruction", "connectivity"):
            given.append(f"--runs={runs}")
        try:
            if name.endswith(" fits"):
                for call in fits(meshes, runs):
                    importlib.import_module("wsdemo.train.shapes.fit").main(call)
                continue
            print(f"{name}: python -m benchmarks.{program} {' '.join(given)}", flush=True)
            importlib.import_module(f"benchmarks.{program}").main(given)
        except (WsdemoError, OSError) as error:
            print(f"{name}: not measured. {error} {getattr(error, 'hint', '')}", flush=True)
    results = [name for name in STEPS if " " not in name]
    return [n for n in results if not (rows_of(n) if is_quick else is_whole(n))]


def reasons(name: str) -> str:
    """What is to be said of a stored table where its order is not the paper's."""
    from benchmarks import report_faces, report_representations, report_weights
    from benchmarks.common import load_result

    if not is_whole(name):
        return "Not measured whole yet."
    values = load_result(name)["values"]
    which, _, kind = name.partition("-")
    if kind == "representations":
        return f"{which}: {report_representations.REPRESENTATIONS[which]}"
    if name == "clusters":
        return report_weights.clusters_against_paper(values)
    if name == "connectivity":
        return report_weights.connectivity_against_paper(values)
    rows = values["rows"]
    if which == "faces":
        return report_faces.face_order(rows)
    order = sorted(PAPER, key=lambda n: rows[n]["chamfer"])
    (best, _), (own, spread) = rows[order[0]]["chamfer"], rows["mlora-asym"]["chamfer"]
    far = "within" if own - best <= spread else "beyond"
    return (
        f"{which}: order here {', '.join(order)}; the paper's best is mlora-asym, which lies {far}"
        f" one standard deviation over {values['meshes']} meshes of our best; seeds:"
        f" {values.get('seeds', 1)}."
    )


def tables(is_quick: bool = False) -> str:
    """Ours, with the paper's number in brackets, and reasons unless the data are made up."""
    from benchmarks.common import load_result
    from benchmarks.report_faces import PAPER_PSNR
    from benchmarks.report_shapes import PAPER_CHAMFER
    from benchmarks.report_table import table
    from benchmarks.report_weights import PAPER_CLUSTERS

    def cell(value: float | None, paper: object, digits: int) -> str:
        ours = "–" if value is None else f"{value:.{digits}f}"
        return f"{ours} ({paper if paper is not None else '–'})"

    faces, planes, shapes = (
        rows_of(f"{n}-reconstruction") for n in ("faces", "airplane", "shapes")
    )
    one = [
        [name, cell(faces.get(name, {}).get("psnr"), PAPER_PSNR[name], 2),
         cell(_chamfer(planes, name), PAPER_CHAMFER["airplane"][name], 2),
         cell(_chamfer(shapes, name), PAPER_CHAMFER["shapes"][name], 2)]
        for name in PAPER
    ]  # fmt: skip
    two = []
    for name in ("mlp", "lora-asym", "mlora", "mlora-asym"):
        row = [f"{name} (HyperDiffusion)" if name == "mlp" else name]
        for which in SETS:
            rows = rows_of(f"{which}-representations")
            for method in ("plain", "prior"):
                found = rows.get(f"{name}-{method}", {}).get("fd")
                paper = PAPER_FD[which].get(name) if method == "plain" else None
                row.append(cell(found, paper, 1))
        two.append(row)
    classes = rows_of("clusters")
    four = []
    for name in ("mlp", "lora", "mlora", "mlora-asym"):
        raw = classes.get(name, {}).get("forms", {}).get("raw", {})
        keys = ("ari", "knn_accuracy", "logistic_accuracy")
        four.append([name, *(
            cell(100 * raw[k] if k in raw else None, p, 1)
            for k, p in zip(keys, PAPER_CLUSTERS[name], strict=True)
        )])  # fmt: skip
    found = load_result("connectivity").get("values", {"rows": {}, "lambdas": []})
    three = [
        [name, key, *(
            f"{factor * m:.{digits}f} ± {factor * sd:.{digits}f}"
            for m, sd in zip(row[key], row[f"{key}_sd"], strict=True)
        )]
        for key, factor, digits in (("barrier", 1000, 1), ("cosine", 1, 2))
        for name, row in found["rows"].items()
    ]  # fmt: skip
    small = rows_of("faces-reconstruction-6700")
    one_b = [[n, cell(small.get(n, {}).get("psnr"), PAPER_PSNR[n], 2)] for n in PAPER]

    def said(*names: str) -> str:
        return "" if is_quick else "\n\n" + "\n".join(reasons(n) for n in names)

    parts = [
        "Ours, and the paper's number in brackets.",
        "Table 1, reconstruction: PSNR of faces in dB (64x64; paper FFHQ-128), Chamfer · 10³ of"
        " airplanes and of ten classes (units differ)\n"
        + table(["", "faces ↑", "airplane ↓", "ten classes ↓"], one)
        + said(*(f"{n}-reconstruction" for n in SETS)),
        "Table 1 at the paper's ratio of weights to values: faces, 6,700 weights, PSNR in dB\n"
        + table(["", "faces ↑"], one_b) + said("faces-reconstruction-6700"),
        "Generation, Fréchet distance ↓ in features of our own (only ratios compare)\n"
        + table(["", *(f"{which}, {m}" for which in SETS for m in ("plain", "prior"))], two)
        + said(*(f"{n}-representations" for n in SETS)),
        "Table 4, ten classes told apart, %\n"
        + table(["", "k-means ARI", "1-NN", "logistic"], four) + said("clusters"),
        "Fig. 3 against λ, mean ± sd over faces: barrier x 1,000, and cosine of the weights (the"
        " paper gives a picture: mLoRA-Asym's barrier lowest)\n"
        + table(["", "", *(f"λ = {v:g}" for v in found["lambdas"])], three) + said("connectivity"),
        "Fig. 5, t-SNE of the weights: docs/tsne.png, drawn by `python -m benchmarks.figures`.",
    ]  # fmt: skip
    return "\n\n".join(parts)


def _chamfer(rows: dict[str, Any], name: str) -> float | None:
    return 1000 * rows[name]["chamfer"][0] if name in rows else None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--faces", type=Path, help="CelebA folder or zip with attributes.csv")
    parser.add_argument("--meshes", type=Path, help="folder of meshes")
    parser.add_argument("--runs", type=Path, default=Path("runs/compare"))
    parser.add_argument("--quick", action="store_true", help="made-up data, tiny numbers")
    args = parser.parse_args()
    if not args.quick:
        try:
            missing = measure(args.faces, args.meshes, False, args.runs)
        except KeyboardInterrupt:
            sys.exit("\nStopped. The same command continues.")
        print(tables())
        sys.exit(f"\nNot measured whole: {', '.join(missing)}." if missing else 0)
    with tempfile.TemporaryDirectory() as folder:
        # Before the benchmarks are imported: they read their settings then.
        os.environ |= {"WSDEMO_QUICK": "1", "WSDEMO_RESULTS": f"{folder}/results"}
        from wsdemo.train import population

        population.warm_start = partial(population.warm_start, steps=2)
        missing = measure(*made_up(Path(folder)), True, Path(folder) / "runs")
        print("MADE-UP DATA, TINY NUMBERS: these figures mean nothing.\n")
        print(tables(is_quick=True))
        sys.exit(f"\nNot measured: {', '.join(missing)}." if missing else 0)


if __name__ == "__main__":
    main()
