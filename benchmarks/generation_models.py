"""Fits and trains what benchmarks/generation.py compares; a later call continues.

    python -m benchmarks.generation_models faces --data celeba.zip
    python -m benchmarks.generation_models shapes --data MESHES

Every representation gets the same instances, steps and start of its fits, and then the same
training steps with each method: ``prior``, our Gaussian prior and a network over its principal
coordinates, and ``plain``, a transformer over standardised weights as in the papers (for MLP:
flat tokens, after HyperDiffusion).
"""

from pathlib import Path

from benchmarks.common import benchmark_parser, scaled
from wsdemo.train.faces import diffusion as faces_diffusion
from wsdemo.train.faces import fit as faces_fit
from wsdemo.train.shapes import diffusion as shapes_diffusion
from wsdemo.train.shapes import fit as shapes_fit
from wsdemo.train.shapes.data import SETS

SPECS = {
    "mlora-asym": (8, 0.03, 0.03),
    "mlora": (8, 0.03, 0.03),
    "lora-asym": (8, 0.005, 0.003),
    "mlp": (39, 0.01, 0.01),
}
"""Rank (MLP: width) that gives about 11,000 weights, and the rate of its fits to faces, shapes."""
METHODS = {
    "prior": [
        "--directions=128",
        "--summary=128",
        "--coordinates",
        "--width=512",
        "--batch=128",
        f"--steps={scaled(2000, 2)}",
    ],
    "plain": [
        "--directions=0",
        "--summary=0",
        "--no-coordinates",
        f"--width={scaled(128, 32)}",
        "--batch=64",
        f"--steps={scaled(1000, 2)}",
    ],
}
COUNTS = {"faces": scaled(2000, 8), "shapes": 970, "airplane": 153}
"""Instances of the fits, without stretched copies."""


def main(arguments: list[str] | None = None) -> None:
    parser = benchmark_parser(__doc__)
    parser.add_argument("set", choices=["faces", *sorted(SETS)])
    parser.add_argument("--runs", type=Path, default=Path("runs/compare"))
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=METHODS)
    parser.add_argument("--only", nargs="+", default=list(SPECS), choices=SPECS)
    args = parser.parse_args(arguments)
    faces = args.set == "faces"
    fit, diffusion = (faces_fit, faces_diffusion) if faces else (shapes_fit, shapes_diffusion)
    base = f"--base=checkpoints/{args.set}-base.safetensors"
    common = [f"--runs={args.runs}", base, "--threads", str(args.threads or 1)]
    which = [f"--data={args.data}"] if faces else [args.set]
    for name in args.only:
        rank, *rates = SPECS[name]
        own = [*common, f"--representation={name}", f"--rank={rank}"]
        fitting = [f"--data={args.data}", "--shared-start", f"--rate={rates[not faces]}"]
        fitting += (
            [f"--steps={scaled(60, 2)}"] if faces else [args.set, f"--steps={scaled(100, 2)}"]
        )
        for split, count in (("train", COUNTS[args.set]), ("validation", 250)):
            fit.main([*own, *fitting, f"--split={split}", f"--count={count}"])
        for method in args.methods:
            model = f"--name={args.set}-{name}-{method}"
            if (args.runs / "models" / f"{args.set}-{name}-{method}.safetensors").exists():
                continue
            where = f"--out={args.runs / 'models'}"
            count = f"--count={COUNTS[args.set]}"
            diffusion.main([*which, *own, where, model, count, *METHODS[method]])


if __name__ == "__main__":
    main()
