"""``doctor``: what is installed, which checkpoints are there, and whether they fit together."""

import argparse
import platform
from collections.abc import Callable
from functools import partial
from importlib import metadata
from typing import Any

from wsdemo import __version__
from wsdemo.errors import WsdemoError, mismatch

Result = dict[str, Any]
LIBRARIES = (
    "torch", "gradio", "numpy", "scipy", "pillow", "safetensors", "huggingface_hub",
    "scikit-image", "scikit-learn", "trimesh", "pyrender", "libigl",
)  # fmt: skip
"""What ``doctor`` looks for."""


def mismatches() -> list[str]:
    """Checkpoints that were not made for each other."""
    from wsdemo.domains.models import encoder_of, neighbours_of
    from wsdemo.domains.registry import DOMAINS, mapped_names
    from wsdemo.generate.text_to_face import shipped_generator
    from wsdemo.maps.weight_map import weight_map

    checks: list[Callable[[], Any]] = [
        partial(load, domain) for domain in DOMAINS.values() for load in (encoder_of, neighbours_of)
    ]
    checks += [partial(weight_map, name) for name in mapped_names()]
    checks += [shipped_generator, predictors_fit]
    problems = []
    for check in checks:
        try:
            check()
        except WsdemoError as error:
            problems.append(str(error))
    return problems


def predictors_fit() -> None:
    """Raises WsdemoError if a predictor was made for another version of a base that ships."""
    from wsdemo.checkpoints import tensors_hash
    from wsdemo.domains.registry import DOMAINS
    from wsdemo.generate.text_to_face import shipped_generator
    from wsdemo.lol.predictor.shipped import shipped_predictors

    generator = tensors_hash(shipped_generator().network.state_dict())
    hashes = {domain.base_name: domain.base[1]["hash"] for domain in DOMAINS.values()}
    hashes["faces-generator"] = generator
    for predictor in shipped_predictors():
        name, _, version = predictor.base.removeprefix("wsdemo/").partition("@")
        if name in hashes and version != hashes[name][:12]:
            raise mismatch(
                f"{predictor.name} was trained for another version of {name}.", "train it again"
            )


def run_doctor(args: argparse.Namespace) -> Result:
    """``doctor``: versions, device, checkpoints; ``ok`` if the app can work."""
    from wsdemo.checkpoints import DIRECTORY, load_checkpoint, tensors_hash
    from wsdemo.domains.registry import DOMAINS, mapped_names
    from wsdemo.generate.diffusion import part_paths
    from wsdemo.media.render import choose_renderer

    versions = {"wsdemo": __version__, "python": platform.python_version()}
    for name in LIBRARIES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            versions[name] = "missing"
    checkpoints, problems = {}, [f"{n} is missing" for n, v in versions.items() if v == "missing"]
    kinds = ("base", "diffusion", "neighbours", "examples")
    wanted = {f"{s}-{kind}.safetensors" for s in DOMAINS for kind in kinds}
    for name, domain in DOMAINS.items():  # where fits start: a file of its own, or the manifold
        starts = [f"{name}-encoder"] if domain.start is None else [name, f"{name}-2"]
        wanted |= {f"{start}.safetensors" for start in starts}
    wanted |= {f"{name}-map.safetensors" for name in mapped_names()}
    more = ("faces-clip", "faces-generator", "lol-face-fields", "lol-face-fields-lora",
            "lol-face-generator", "lol-smollm2", "lora-examples")  # fmt: skip
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
        "checkpoints_folder": str(DIRECTORY),
        "checkpoints": checkpoints,
    }
    if problems:
        hint = (
            "Clone the repository whole and run make demo, or let WSDEMO_CHECKPOINTS name a folder"
            " of its checkpoints, or WSDEMO_CHECKPOINTS_REPO a repository of the Hub."
        )
        result["error"] = WsdemoError("Not ready", "; ".join(problems), hint).as_dict()
    return result
