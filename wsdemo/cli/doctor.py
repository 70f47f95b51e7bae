"""``doctor``: what is installed, which checkpoints are there, and whether they fit together."""

import argparse
import platform
from collections.abc import Callable
from functools import partial
from importlib import metadata
from typing import Any

from wsdemo import __version__
from wsdemo.errors import WsdemoError

Result = dict[str, Any]
LIBRARIES = (
    "torch", "gradio", "numpy", "scipy", "pillow", "safetensors", "huggingface_hub",
    "scikit-image", "scikit-learn", "trimesh", "pyrender", "libigl",
)  # fmt: skip
"""What ``doctor`` looks for."""


def mismatches() -> list[str]:
    """Checkpoints that were not made for each other."""
    from wsdemo.domains import pipelines
    from wsdemo.domains import shape_pipelines as shapes
    from wsdemo.generate.text_to_face import shipped_generator
    from wsdemo.maps import weight_map as maps

    checks: list[Callable[[], Any]] = [
        pipelines.face_start,
        lambda: pipelines.neighbours_of(pipelines.face_diffusion(), pipelines.NEIGHBOURS),
    ]
    checks += [partial(maps.weight_map, name) for name in maps.MAPS]
    checks += [shipped_generator, predictors_fit]
    for name in shapes.SETS:
        checks.append(partial(shapes.shape_start, name))
        checks.append(partial(shapes.neighbours_of, name))
    found = []
    for check in checks:
        try:
            check()
        except WsdemoError as error:
            found.append(str(error))
    return found


def predictors_fit() -> None:
    """Raises WsdemoError if a predictor was made for another version of a base that ships."""
    from wsdemo.checkpoints import tensors_hash
    from wsdemo.domains import pipelines
    from wsdemo.fields.base_files import shipped_base
    from wsdemo.generate.text_to_face import shipped_generator
    from wsdemo.lol.predictor.shipped import shipped_predictors

    generator = tensors_hash(shipped_generator().network.state_dict())
    own = {"faces-base": shipped_base(pipelines.BASE)[1]["hash"], "faces-generator": generator}
    for predictor in shipped_predictors():
        name, _, version = predictor.base.removeprefix("wsdemo/").partition("@")
        if name in own and version != own[name][:12]:
            raise WsdemoError(
                "Checkpoints do not match",
                f"{predictor.name} was trained for another version of {name}.",
                "Take both from the same revision, or train it again.",
            )


def run_doctor(args: argparse.Namespace) -> Result:
    """``doctor``: versions, device, checkpoints; ``ok`` if the app can work."""
    from wsdemo.checkpoints import DIRECTORY, load_checkpoint, tensors_hash
    from wsdemo.domains import shape_pipelines as shapes
    from wsdemo.generate.diffusion import part_paths
    from wsdemo.media.render import choose_renderer

    versions = {"wsdemo": __version__, "python": platform.python_version()}
    for name in LIBRARIES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            versions[name] = "missing"
    checkpoints, problems = {}, [f"{n} is missing" for n, v in versions.items() if v == "missing"]
    kinds = ("base", "encoder", "diffusion", "neighbours", "examples")
    wanted = {f"{s}-{kind}.safetensors" for s in ("faces", *shapes.SETS) for kind in kinds}
    wanted |= {f"{name}-map.safetensors" for name in ("faces", "shapes")}
    more = ("faces-clip", "faces-generator", "lol-face-fields", "lol-face-fields-lora",
            "lol-face-generator", "lol-smollm", "lora-examples")  # fmt: skip
    wanted |= {f"{name}.safetensors" for name in more}
    for path in sorted(DIRECTORY.glob("*.safetensors")):
        try:
            tensors, meta = load_checkpoint(path)
        except WsdemoError as error:
            problems.append(str(error))
            continue
        if path.stem.endswith("-diffusion"):
            wanted |= {part.name for part in part_paths(path, int(meta["parts"]))}
        file = {"bytes": path.stat().st_size, "hash": tensors_hash(tensors)[:16]}
        checkpoints[path.name] = file
    missing = sorted(wanted - set(checkpoints))
    problems += [f"{name} is missing" for name in missing]
    if not missing:
        problems += mismatches()
    renderer, reason = choose_renderer()
    result: Result = {
        "ok": not problems,
        "problems": problems,
        "versions": versions,
        "device": "cpu",
        "renderer": {"name": renderer, "reason": reason},
        "checkpoints": checkpoints,
    }
    if problems:
        hint = "Clone the repository whole and run make demo."
        result["error"] = WsdemoError("Not ready", "; ".join(problems), hint).as_dict()
    return result
