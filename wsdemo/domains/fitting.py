"""Fitting an original of any domain, as app, command line and API do."""

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from wsdemo.domains.domain import Domain, FitOptions, Original, Shown
from wsdemo.domains.instances import decode_one, make_instance, preview
from wsdemo.domains.models import adapter_of, encoder_of
from wsdemo.errors import WsdemoError, check_range
from wsdemo.fields.adapters import Adapter, AdapterConfig
from wsdemo.fields.fit import FitConfig, budget, fit, load_optimizer, psnr_from_mse, too_few
from wsdemo.fields.instance import Instance
from wsdemo.limits import MAX_FIT_SECONDS, MAX_FIT_STEPS, MAX_SEED


@dataclass(frozen=True)
class FitStep:
    """A moment of a fit.

    Attributes:
        step: Steps done.
        seconds: Time used.
        seconds_left: Estimate of the time left.
        psnr: In dB, of what is shown where the domain measures that, else of the field's values
            at the points of this step.
        shown: What the weights show, None while that is nothing; in the last step as asked for.
        instance: The weights so far; in the last step with their measures, of which ``seconds``
            is the time until the weights were ready, without that of measuring. A fit of so many
            steps states none: it gives the same bytes every time.
        is_last: Whether all is over.
        is_measuring: Whether the weights are ready, and about to be decoded and measured.
        reference: What the result was compared with, in the last step.
        measuring_seconds: Time that decoding and measuring took, in the last step.
        notes: What a person should know about the result, in the last step.
    """

    step: int
    seconds: float
    seconds_left: float
    psnr: float
    shown: Shown | None
    instance: Instance
    is_last: bool = False
    is_measuring: bool = False
    reference: Any = None
    measuring_seconds: float = 0.0
    notes: tuple[str, ...] = ()


def fit_config(domain: Domain, options: FitOptions, adapter: Adapter, spent: float) -> FitConfig:
    """How long and how to fit, ``spent`` seconds after the start."""
    if options.is_comparable:
        assert domain.comparable is not None, "refused by check_options"
        return replace(domain.comparable, report_every=2)
    steps, seconds = budget(options.steps, options.seconds, spent)
    return replace(
        domain.fitting,
        steps=steps,
        learning_rate=domain.rate(adapter.config),
        seconds=seconds,
        target_psnr=options.target_psnr,
    )


def check_options(domain: Domain, options: FitOptions) -> None:
    """Refuses options before any work.

    Raises:
        WsdemoError: One is out of range, or the domain's originals are not fitted so.
    """
    if options.is_comparable and domain.comparable is None:
        raise WsdemoError(
            "Not fitted so",
            f"The training {domain.many} of {domain.name} were not fitted: each is what its"
            " encoder proposes.",
            "Leave out --comparable, or fit on another base.",
        )
    check_range("seconds", options.seconds, 0.1, MAX_FIT_SECONDS)
    if options.steps is not None:
        check_range("steps", options.steps, 1, MAX_FIT_STEPS)
    check_range("target PSNR", options.target_psnr, 0, float("inf"))
    check_range("seed", options.seed, 0, MAX_SEED)
    config = AdapterConfig(options.representation, options.rank, options.seed, start_of(options))
    domain.rate(Adapter(domain.base[0], config).config)


def start_of(options: FitOptions) -> str:
    """mLoRA's start: training instances began at the spread one."""
    return "spread" if options.is_comparable else options.start


def fit_original(
    domain: Domain, original: Original, options: FitOptions, cache_folder: Path | None = None
) -> Iterator[FitStep]:
    """Fits one original; reports every ``domain.report_seconds``, before measuring, and at the end.

    Args:
        domain: Of the original.
        original: What ``domain.open`` read.
        options: How.
        cache_folder: Where what was sampled of an original is kept.

    Raises:
        WsdemoError: An option is out of range, or the weights show nothing at the end.
    """
    check_options(domain, options)
    adapter = adapter_of(
        domain, options.representation, options.rank, options.seed, start_of(options)
    )
    is_mlora = adapter.config.kind == "mlora"
    encoder = encoder_of(domain) if is_mlora else None
    load_optimizer()
    # What is loaded once a process, and an MLP's shared start, which all its fits have, is not
    # counted.
    started = time.monotonic()
    signal = domain.signal(original, cache_folder)
    origin = None if encoder is None else encoder(adapter, signal.inputs)
    spent = time.monotonic() - started
    config = fit_config(domain, options, adapter, spent)
    generator = torch.Generator().manual_seed(options.seed)

    def instance_of(weights: Tensor, measured: dict[str, float]) -> Instance:
        return make_instance(domain, adapter, weights, {**measured, **original.facts})

    def is_enough(instances: Tensor) -> bool:
        shown = preview(instance_of(instances[0], {}))
        return shown is not None and seen_psnr(shown) >= options.target_psnr

    def seen_psnr(shown: Shown) -> float:
        assert domain.psnr is not None
        return domain.psnr(original.value, shown)

    judge = None if domain.psnr is None else is_enough
    is_timed, shown_at, drawing = config.seconds < math.inf, -1.0, 0.0
    for progress in fit(adapter, signal.points, signal.targets, config, generator, origin, judge):
        now = time.monotonic() - started
        left = spent + config.seconds - now
        # No preview that may end after the time does: drawing, beside others, takes now more, now
        # less.
        is_near = is_timed and left < max(domain.report_seconds, 2 * drawing)
        if not progress.is_last and (now - shown_at < domain.report_seconds or is_near):
            continue
        weights = progress.instances[0]
        shown = preview(instance_of(weights, {}))
        value = float(psnr_from_mse(progress.mse)[0])
        if domain.psnr is not None and shown is not None:
            value = seen_psnr(shown)
        measured = {"psnr": value, "steps": float(progress.step)}
        if is_timed:
            measured["seconds"] = now
        else:
            left = now * (config.steps / progress.step - 1)
        left = 0.0 if progress.is_last else max(0.0, left)
        instance = instance_of(weights, measured)
        moment = FitStep(progress.step, now, left, value, shown, instance)
        yield replace(moment, is_measuring=progress.is_last)
        shown_at = time.monotonic() - started
        drawing = shown_at - now
    shown = decode_one(instance_of(weights, {}), **options.detail)
    reference = domain.reference(original)
    measured |= domain.measure(reference, shown)
    ended = time.monotonic() - started
    is_reached = measured["psnr"] >= options.target_psnr
    yield replace(
        moment,
        seconds=ended,
        shown=shown,
        instance=instance_of(weights, measured),
        is_last=True,
        reference=reference,
        measuring_seconds=ended - now,
        notes=too_few(moment.step, domain.enough_steps) if is_timed and not is_reached else (),
    )
