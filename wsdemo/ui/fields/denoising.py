"""Denoising for the page: on the CPU, and on a Space with ZeroGPU what is worth its start there."""

import math
from collections.abc import Iterator
from functools import partial
from typing import Any

import gradio as gr
import torch

from wsdemo.domains.domain import Domain
from wsdemo.domains.registry import DOMAINS
from wsdemo.domains.sampling import SampleStep, sample
from wsdemo.runtime import default_device
from wsdemo.ui.shared.gpu import is_zero_gpu, on_gpu

WORTH = 960
"""Instances times steps (16 × 60). With fewer a CPU is done within seconds, which the GPU's process
takes to start, and the visitor's quota stays for what needs it."""
START_SECONDS = 10
"""Forking, CUDA, and loading the model there: an upper bound, not measured."""
PER_STEP_SECONDS = 0.02
"""Of a batch of 16, an upper bound: a CPU takes less than three times this."""


def gpu_seconds(name: str, count: int, seed: int, steps: int, *others: Any) -> int:
    """Seconds to ask of ZeroGPU, which refuses a visitor who has fewer left."""
    return START_SECONDS + math.ceil(PER_STEP_SECONDS * steps * math.ceil(count / 16))


@on_gpu(gpu_seconds)
def denoised_on_gpu(
    name: str, count: int, seed: int, steps: int, *others: Any
) -> Iterator[tuple[int, int, Any]]:
    """Yields (steps done, of how many, (n, D) float32 array): nothing that lies on a GPU."""
    arguments = (count, seed, steps, *others)
    for moment in sample(DOMAINS[name], *arguments, device=default_device()):
        yield moment.step, moment.steps, moment.instances.cpu().numpy()


def denoised(domain: Domain, arguments: tuple[Any, ...]) -> Iterator[SampleStep]:
    """``sample(domain, *asked)``, where it is done fastest; a GPU that is refused is done without.

    Args:
        domain: Whose model.
        asked: Arguments of ``sample`` after the domain, the first three count, seed and steps.
    """
    if is_zero_gpu() and domain.name in DOMAINS and arguments[0] * arguments[2] >= WORTH:
        try:
            for step, steps, instances in denoised_on_gpu(domain.name, *arguments):
                yield SampleStep(step, steps, partial(torch.from_numpy, instances))
            return
        except gr.Error as error:  # no quota left, or no GPU free
            gr.Info(f"Drawn on the CPU. {error.message}"[:300])
    yield from sample(domain, *arguments)
