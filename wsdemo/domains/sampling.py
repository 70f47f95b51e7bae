"""Drawing instances of any domain from its weight diffusion model."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from random import Random

import torch
from torch import Tensor

from wsdemo.domains.domain import Domain
from wsdemo.domains.models import diffusion_of
from wsdemo.errors import WsdemoError, check_range
from wsdemo.generate.diffusion import WeightDiffusion
from wsdemo.limits import MAX_DIFFUSION_STEPS, MAX_GUIDANCE, MAX_SEED, MAX_TEMPERATURE


@dataclass(frozen=True)
class SampleStep:
    """A moment of sampling.

    Attributes:
        step: Denoising steps done.
        steps: Denoising steps in all.
        weights: Calculates the (n, D) weights so far.
    """

    step: int
    steps: int
    weights: Callable[[], Tensor]

    @property
    def instances(self) -> Tensor:
        """(n, D) weights so far."""
        return self.weights()


def sample(
    domain: Domain,
    count: int,
    seed: int,
    steps: int = 50,
    guidance: float | None = None,
    wishes: Mapping[str, bool] | None = None,
    temperature: float | None = None,
    device: str = "cpu",
) -> Iterator[SampleStep]:
    """Draws instances from the weight diffusion model of a domain, step by step.

    Of labels that exclude each other and none wished, each instance has one drawn at random:
    asked for one, the model draws more clearly. Below a ``temperature`` of 1 instances are more
    typical and less various.

    Args:
        domain: Whose model.
        count: Instances.
        seed: Of the noise.
        steps: Denoising steps.
        guidance: Strength of the wishes; default: the domain's.
        wishes: Labels that the instances shall or shall not have.
        temperature: Of the noise; default: the domain's.
        device: Where the network calculates; the noise is drawn on the CPU, the same for all.

    Raises:
        WsdemoError: A value is out of range or a label unknown.
    """
    guidance = domain.guidance if guidance is None else guidance
    heat = domain.temperature if temperature is None else temperature
    check_range("count", count, 1, domain.most)
    check_range("seed", seed, 0, MAX_SEED)
    check_range("steps", steps, 1, MAX_DIFFUSION_STEPS)
    check_range("guidance", guidance, 0, MAX_GUIDANCE)
    check_range("temperature", heat, 0, MAX_TEMPERATURE)
    model = diffusion_of(domain, device)
    check_wishes(domain, model, wishes or {})
    condition = conditions(domain, model, wishes or {}, count, seed)
    for step, weights in model.sample(count, seed, steps, guidance, condition, temperature=heat):
        yield SampleStep(step, steps, weights)


def check_wishes(domain: Domain, model: WeightDiffusion, wishes: Mapping[str, bool]) -> None:
    """Raises WsdemoError unless a model knows all labels wished."""
    unknown = [name for name in wishes if name not in model.attribute_names]
    if unknown:
        known = ", ".join(model.attribute_names) or domain.labels.no_choice
        raise WsdemoError(
            f"Unknown {domain.labels.one}",
            f"Found {', '.join(name[:40] for name in unknown)}; this model knows {known}.",
            "Choose among the known ones.",
        )


def conditions(
    domain: Domain, model: WeightDiffusion, wishes: Mapping[str, bool], count: int, seed: int
) -> Tensor:
    """(count, a) conditions of what is wished."""
    names = model.attribute_names
    if not domain.labels.are_exclusive:
        return model.condition(wishes, count)
    wished = [name for name, is_wanted in wishes.items() if is_wanted]
    # By seed and place, so that one depends on how many are drawn with it by rounding only.
    chosen = [
        (wished and wished[0]) or (names and Random(f"{seed}/{i}").choice(names))
        for i in range(count)
    ]
    return torch.cat([model.condition({n: n == label for n in names}, 1) for label in chosen])
