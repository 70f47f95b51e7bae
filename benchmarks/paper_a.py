"""Every table of Paper A that applies, in its layout, with its numbers beside ours.

    python -m benchmarks.paper_a --faces celeba.zip --meshes MESHES
    python -m benchmarks.paper_a --quick

Measures what is not measured yet (docs/results/*.json; delete one to measure it again), then
prints Table 1 (reconstruction), the generation table, Table 4 (telling classes apart) and
Fig. 3 (connectivity). Fig. 5, the weights' t-SNE, is docs/tsne.png (benchmarks/figures.py).
``--quick`` runs the same programs on made-up data with tiny numbers, to see that they run: its
figures mean nothing and are kept nowhere.
"""

import argparse
import importlib
import io
import os
import tempfile
import zipfile
from pathlib import Path
from typing import Any

STEPS: dict[str, tuple[str, list[str]]] = {
    "faces-reconstruction": ("faces_reconstruction", ["--data=FACES"]),
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
    "fits": ("clusters", []),
    "clusters": ("clusters", []),
    "connectivity": ("connectivity", ["--data=FACES", "--faces=30", "--steps=100"]),
}  # fmt: skip
"""Result → the program that writes it, and its options; a name with a space writes no result."""
QUICK = {
    "faces-reconstruction": ["--faces=2", "--seeds=1", "--only", "mlp", "mlora-asym"],
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
ROWS = 12
"""Of a complete table of representations."""
PAPER = ("mlp", "mlp-asym", "lora", "lora-asym", "mlora", "mlora-asym")
SETS = ("faces", "airplane", "shapes")
PAPER_FD = {
    "faces": {"mlp": 0.241, "lora-asym": 0.269, "mlora": 0.100, "mlora-asym": 0.073},
    "airplane": {"mlp": 0.027, "mlora-asym": 0.011},
    "shapes": {"mlp": 0.117, "mlora-asym": 0.026},
}
"""FFHQ, ShapeNet's airplanes and ten classes; mlp: HyperDiffusion."""


def made_up(folder: Path) -> tuple[Path, Path]:
    """Writes made-up faces and meshes in the layouts of the real ones; returns both places."""
    import trimesh
    from PIL import Image

    from wsdemo.analysis.features import shipped_features
    from wsdemo.train.faces_data import SPLITS, toy_faces
    from wsdemo.train.shapes_data import _training_split

    names = shipped_features()[1]
    pictures = []
    for image in toy_faces(12, 32).images:
        out = io.BytesIO()
        Image.fromarray(image.permute(1, 2, 0).numpy()).save(out, "JPEG")
        pictures.append(out.getvalue())
    rows = ["image," + ",".join(names)]
    with zipfile.ZipFile(folder / "faces.zip", "w") as archive:
        for i in range(SPLITS["test"][0] + 12):
            archive.writestr(f"{i:06d}.jpg", pictures[i % 12])
            rows.append(f"{i:06d}.jpg," + ",".join(str((i >> k) & 1) for k in range(len(names))))
        archive.writestr("attributes.csv", "\n".join(rows))
    import zlib

    meshes = folder / "meshes"
    for category, extents in (("airplane", (1.8, 1.5, 0.4)), ("chair", (0.8, 0.8, 1.6))):
        (meshes / category).mkdir(parents=True)
        wanted, i = {"train": 7, "validation": 1, "test": 2}, 0
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


def quick_fits(meshes: Path, runs: str) -> None:
    """The fits that the table of classes reads."""
    from wsdemo.train import shapes_fit
    from wsdemo.train.maps import COMPARED

    for name, rank in COMPARED.items():
        for split in ("train", "test"):
            shapes_fit.main(
                ["shapes", f"--data={meshes}", f"--representation={name}", f"--rank={rank}",
                 f"--split={split}", f"--runs={runs}", "--steps=2", "--shared-start", "--threads=1"]
            )  # fmt: skip


def measure(faces: Path | None, meshes: Path | None, is_quick: bool, runs: Path) -> None:
    """Runs what has no result yet and whose data was given."""
    from benchmarks.common import load_result

    places = {"FACES": faces, "MESHES": meshes, "MODELS": runs / "models"}
    for name, (program, options) in STEPS.items():
        if name == "fits":
            if is_quick and meshes:
                quick_fits(meshes, str(runs))
            continue
        key = name.replace(" models", "-representations")
        known = load_result(key)
        is_whole = (
            "representations" not in key or len(known.get("values", {}).get("rows", ())) >= ROWS
        )
        if known and is_whole and not is_quick:
            continue
        needed = [word for word in places if f"--data={word}" in options]
        if any(places[word] is None for word in needed):
            print(f"{name}: not measured yet, and no data given.")
            continue
        given = [*options, *([*QUICK.get(name, []), "--threads=1"] if is_quick else [])]
        for word, place in places.items():
            given = [o.replace(f"={word}", f"={place}") for o in given]
        if program not in ("faces_reconstruction", "connectivity"):
            given.append(f"--runs={runs}")
        print(f"{name}: python -m benchmarks.{program} {' '.join(given)}", flush=True)
        importlib.import_module(f"benchmarks.{program}").main(given)


def tables() -> str:
    """Ours, with the paper's number in brackets."""
    from benchmarks.common import load_result
    from benchmarks.report import PAPER_CHAMFER, PAPER_PSNR
    from benchmarks.report_table import table
    from benchmarks.report_weights import PAPER_CLUSTERS

    def rows_of(name: str) -> dict[str, Any]:
        values = load_result(name).get("values", {})
        return values.get("rows", values)

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
    three = [[n, *(f"{1000 * b:.1f}" for b in r["barrier"])] for n, r in found["rows"].items()]
    parts = [
        "Ours, and the paper's number in brackets; reasons for differences: docs/results.md.",
        "Table 1, reconstruction: PSNR of faces in dB (64x64; paper FFHQ-128), Chamfer · 10³ of"
        " airplanes and of ten classes (units differ)\n"
        + table(["", "faces ↑", "airplane ↓", "ten classes ↓"], one),
        "Generation, Fréchet distance ↓ in features of our own (only ratios compare)\n"
        + table(
            ["", *(f"{which}, {m}" for which in SETS for m in ("plain", "prior"))],
            two,
        ),
        "Table 4, ten classes told apart, %\n"
        + table(["", "k-means ARI", "1-NN", "logistic"], four),
        "Fig. 3, barrier x 1,000 against λ (the paper gives a picture: mLoRA-Asym lowest)\n"
        + table(["λ", *(f"{v:g}" for v in found["lambdas"])], three),
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
        measure(args.faces, args.meshes, False, args.runs)
        print(tables())
        return
    with tempfile.TemporaryDirectory() as folder:
        # Before the benchmarks are imported: they read their settings then.
        os.environ |= {"WSDEMO_QUICK": "1", "WSDEMO_RESULTS": f"{folder}/results"}
        measure(*made_up(Path(folder)), True, Path(folder) / "runs")
        print("MADE-UP DATA, TINY NUMBERS: these figures mean nothing.\n")
        print(tables())


if __name__ == "__main__":
    main()
