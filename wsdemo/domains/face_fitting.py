"""Fitting a picture as app, command line and API do; shape_fitting.py does it for meshes."""

import dataclasses
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from wsdemo.analysis.reconstruction import psnr, ssim
from wsdemo.domains.pipelines import (
    SIZE,
    check_range,
    face_adapter,
    face_instance,
    face_start,
    render_faces,
)
from wsdemo.fields.adapters import AdapterConfig
from wsdemo.fields.base import pixel_grid
from wsdemo.fields.fit import FitConfig, budget, fit, too_few
from wsdemo.fields.instance import Instance
from wsdemo.fields.signal import image_to_signal
from wsdemo.limits import MAX_FIT_SECONDS, MAX_FIT_STEPS, MAX_SEED

FIT_RATES = {"mlora": 0.03, "lora": 0.01, "mlp": 0.01}
"""Adam's peak learning rates by kind; chosen on validation faces."""
OWN_RATES = {"lora-asym": 0.003}
"""The same of representations that want another than their kind."""
CARRIED_RATE = 0.1
"""The same of mLoRA from its carried start."""


def fit_rate(config: AdapterConfig) -> float:
    """Adam's peak learning rate for pictures."""
    if config.kind == "mlora" and config.start == "carried":
        return CARRIED_RATE
    return OWN_RATES.get(config.representation, FIT_RATES[config.kind])


COMPARABLE = FitConfig(steps=50, points=512, learning_rate=0.02, pull=1.0)
"""How all training faces were fitted. What is fitted longer shows more of its picture, and lies
outside of where the map, the predictors and the diffusion model know their way."""
ENOUGH_STEPS = 50
"""Fewer than the training faces had, and the picture shown is mostly the start's."""


@dataclass(frozen=True)
class FitOptions:
    """How a picture is fitted; the defaults are the app's fast preset."""

    representation: str = "mlora-asym"
    rank: int = 8
    seed: int = 0
    seconds: float = 5.0
    """Time of the whole fit; an MLP's shared start, made once a process, comes on top."""
    steps: int | None = None
    """Steps to make instead, whatever their time: the same bytes every time."""
    target_psnr: float = float("inf")
    """PSNR in dB of the whole picture at which the fit ends, time left or not."""
    start: str = "spread"
    """mLoRA's start; ``carried`` shows more of the picture, and mixes with its like alone."""
    is_comparable: bool = False
    """Whether to fit as the training faces were, whatever the time: see COMPARABLE."""


@dataclass(frozen=True)
class FitStep:
    """A moment of a fit.

    Attributes:
        step: Steps done.
        seconds: Time used.
        seconds_left: Estimate of the time left.
        psnr: In dB, of the whole picture.
        image: (3, 64, 64) uint8, what the weights show now.
        instance: The weights so far; in the last step with their measures.
        is_last: Whether the fit is over.
        measuring_seconds: Time that it took then to decode and measure the result.
        notes: What a person should know about the result.
    """

    step: int
    seconds: float
    seconds_left: float
    psnr: float
    image: Tensor
    instance: Instance
    is_last: bool
    measuring_seconds: float = 0.0
    notes: tuple[str, ...] = ()


def fit_picture(image: Tensor, options: FitOptions) -> Iterator[FitStep]:
    """Fits one (3, 64, 64) uint8 picture, reporting about five times a second.

    Raises:
        WsdemoError: An option is out of range.
    """
    check_range("seconds", options.seconds, 0.1, MAX_FIT_SECONDS)
    if options.steps is not None:
        check_range("steps", options.steps, 1, MAX_FIT_STEPS)
    check_range("target PSNR", options.target_psnr, 0, float("inf"))
    check_range("seed", options.seed, 0, MAX_SEED)
    start = "spread" if options.is_comparable else options.start
    adapter = face_adapter(options.representation, options.rank, options.seed, start)
    started = time.monotonic()  # an MLP's shared start, which all its fits have, is not counted
    inputs = image_to_signal(image[None])
    target = inputs.flatten(2).transpose(1, 2)
    origin = face_start()(adapter, inputs) if adapter.config.kind == "mlora" else None
    spent = time.monotonic() - started
    steps, seconds = budget(options.steps, options.seconds, spent)
    config = FitConfig(
        steps=steps,
        learning_rate=fit_rate(adapter.config),
        seconds=seconds,
        target_psnr=options.target_psnr,
        report_every=5,
    )
    if options.is_comparable:
        config = dataclasses.replace(COMPARABLE, report_every=2)
    is_timed = config.seconds < math.inf
    generator = torch.Generator().manual_seed(options.seed)

    def is_enough(instances: Tensor) -> bool:
        return psnr(render_faces(instances, adapter)[0], image) >= options.target_psnr

    grid, shown_at = pixel_grid(SIZE, SIZE), -1.0
    for progress in fit(adapter, grid, target, config, generator, origin, is_enough):
        now = time.monotonic() - started
        if not progress.is_last and now - shown_at < 0.2:
            continue
        shown_at = now
        shown = render_faces(progress.instances, adapter)[0]
        value = psnr(shown, image)
        measured = {"psnr": value, "steps": float(progress.step)}
        if is_timed:  # else the same steps give the same bytes
            measured["seconds"] = now
        notes: tuple[str, ...] = ()
        if progress.is_last:
            measured["ssim"] = ssim(shown, image)
            if is_timed and value < options.target_psnr:
                notes = too_few(progress.step, ENOUGH_STEPS)
        left = 0.0 if progress.is_last else max(0.0, options.seconds - now)
        if not is_timed:
            left = now * max(0.0, config.steps / progress.step - 1)
        yield FitStep(
            progress.step,
            now,
            left,
            value,
            shown,
            face_instance(adapter, progress.instances[0], measured),
            progress.is_last,
            time.monotonic() - started - now,
            notes,
        )
