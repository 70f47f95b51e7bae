"""Weight diffusion: the trained model with its prior, the training loss, DDIM sampling."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from wsdemo.checkpoints import (
    config_from,
    load_checkpoint,
    pack,
    save_checkpoint,
    tensors_hash,
    unpack,
)
from wsdemo.errors import WsdemoError, mismatch
from wsdemo.fields.adapters import Adapter, AdapterConfig
from wsdemo.fields.base import FrozenBase
from wsdemo.fields.base_files import base_tensors
from wsdemo.generate.coordinates import CoordinateConfig, CoordinateNetwork
from wsdemo.generate.prior import GaussianPrior, Parts
from wsdemo.generate.schedule import STEPS, add_noise, alphas_bar, ddim_times
from wsdemo.generate.tokens import TokenLayout
from wsdemo.generate.transformer import TransformerConfig, WeightTransformer


class WeightDiffusion:
    """Generates instances (n, D) of one representation on one base.

    Attributes:
        adapter: What the generated vectors mean.
        prior: Standardisation and covariance of the training weights.
        network: Predicts what the Gaussian prior leaves open.
        attribute_names: The names of the condition's entries.
    """

    def __init__(
        self,
        adapter: Adapter,
        prior: GaussianPrior,
        network: WeightTransformer | CoordinateNetwork,
        attribute_names: Sequence[str] = (),
    ) -> None:
        self.adapter, self.network = adapter, network
        self.device = next(network.parameters()).device
        self.prior = prior.to(self.device)
        self.layout = TokenLayout(adapter)
        self.attribute_names = tuple(attribute_names)
        self.alphas_bar = alphas_bar().to(self.device)

    @cached_property
    def prior_hash(self) -> str:
        """See ``prior_hash``; once a model, as it reads some ten megabytes."""
        return prior_hash(self.prior)

    # ---- the denoiser --------------------------------------------------------

    def predict_noise(self, x_t: Tensor, t: Tensor, attributes: Tensor) -> Tensor:
        """ε̂(x_t, t, c) = E_Gauss[ε | x_t] + R F(x_t, t, c).

        Args:
            x_t: (n, D) noisy standardised weights.
            t: (n,) long, times 0 … 999.
            attributes: (n, a) float in {−1, 0, 1}; 0 is unknown.
        """
        x = self.prior.split(x_t)
        return self.prior.noise(x, self.alphas_bar[t], self.output(x, t, attributes))

    def output(self, x: Parts, t: Tensor, attributes: Tensor) -> Parts:
        """F(x_t, t, c): what the network says, of x_t in parts."""
        a = self.alphas_bar[t]
        known = self.prior.whitened(x.along, a)[:, : self.network.config.summary]
        if isinstance(self.network, CoordinateNetwork):
            return self.prior.split(None, self.network(known, t, attributes))
        assert x.full is not None
        tokens = self.layout.to_tokens(self.prior.estimate(x.full, x.along, a))
        output, summary = self.network(tokens, known, t, attributes)
        return self.prior.split(self.layout.from_tokens(output), summary)

    def loss(self, x: Tensor, attributes: Tensor, generator: torch.Generator) -> Tensor:
        """(n,) ‖ε − ε̂‖² of standardised weights (n, D), as a share of what the prior leaves.

        With a prior of coordinates, ``x`` are (n, S) coordinates.

        The prior alone scores 1 at every time. Undivided, the late times, where the few
        directions that hold the face are decided, would not count among 10⁴ others.
        """
        t = torch.randint(STEPS, (len(x),), generator=generator).to(self.device)
        # Frozen entries carry neither signal nor noise, here and in sampling.
        noise = torch.randn(x.shape, generator=generator).to(self.device) * (self.prior.std > 0)
        a = self.alphas_bar[t]
        x_t = add_noise(x, noise, a)
        error = (self.predict_noise(x_t, t, attributes) - noise).square()
        return error.sum(1) / self.prior.expected_error(a)

    # ---- sampling --------------------------------------------------------------

    def condition(self, attributes: Mapping[str, bool], count: int) -> Tensor:
        """(count, a) condition from wished attributes; those not named stay unknown.

        Raises:
            WsdemoError: An attribute is not one that the model was trained with.
        """
        unknown = sorted(set(attributes) - set(self.attribute_names))
        if unknown:
            raise WsdemoError(
                "Unknown attribute",
                f"Found {', '.join(unknown)}; this model knows {', '.join(self.attribute_names)}.",
                "Choose among the known ones.",
            )
        row = [
            0.0 if name not in attributes else (1.0 if attributes[name] else -1.0)
            for name in self.attribute_names
        ]
        return torch.tensor([row] * count, device=self.device).view(count, len(row))

    @torch.no_grad()
    def sample(
        self,
        count: int,
        seed: int,
        steps: int = 50,
        guidance: float = 1.0,
        attributes: Tensor | None = None,
        start: Tensor | None = None,
        strength: float = 1.0,
        temperature: float = 1.0,
    ) -> Iterator[tuple[int, Callable[[], Tensor]]]:
        """DDIM (η = 0) with classifier-free guidance; yields after each step.

        The Gaussian part is integrated exactly, the network's to second order: prior.py.

        Sample i of a seed does not depend, up to rounding, on how many are drawn with it.

        Args:
            count: Instances to draw.
            seed: Of the initial noise.
            steps: Denoising steps.
            guidance: w in F = F(∅) + w (F(c) − F(∅)); 1 is plain conditioning.
            attributes: (count, a) condition; None draws unconditionally.
            start: (D,) weights to vary: noise of the share ``strength`` of all times is put on
                them and taken away again (SDEdit, Meng et al., 2022).
            strength: In (0, 1]; 1 forgets the start.
            temperature: Standard deviation of the initial noise. Below 1 samples are more typical
                and less various; of a Gaussian, they have so much of its standard deviations.

        Yields:
            (step, a function that gives the (count, D) weights x̂_0 so far); the last are the
            sample. To know them takes as long as a step, and few are looked at.
        """
        noise = [
            torch.randn(self.adapter.size, generator=torch.Generator().manual_seed(seed * 4096 + i))
            for i in range(count)
        ]
        x = temperature * torch.stack(noise).to(self.device) * (self.prior.std > 0)
        empty = torch.zeros(count, len(self.attribute_names), device=self.device)
        conditional = attributes is not None and bool(attributes.any())
        times = ddim_times(steps)
        if start is not None:
            times = [t for t in times if t <= strength * (STEPS - 1)] or times[-1:]
            kept = self.prior.standardise(start[None].to(self.device))
            x = add_noise(kept, x, self.alphas_bar[times[0]][None])
        noisy, earlier = self.prior.split(x), None
        for step, t in enumerate(times):
            time = torch.full((count,), t, device=self.device)
            F = self.output(noisy, time, empty if attributes is None else attributes)
            if conditional and guidance != 1.0:
                F = self.output(noisy, time, empty).towards(F, guidance)
            a = self.alphas_bar[time]
            if step + 1 == len(times):
                ends = self.prior.step(noisy, a, torch.ones_like(a), F, earlier).full
                assert ends is not None
                yield step + 1, partial(self.prior.restore, ends)
                return
            yield step + 1, partial(self._estimate, noisy, a, F)
            after = self.alphas_bar[times[step + 1]].expand_as(a)
            noisy, earlier = self.prior.step(noisy, a, after, F, earlier), (F, a)

    @torch.no_grad()
    def _estimate(self, noisy: Parts, a: Tensor, F: Parts) -> Tensor:
        """(n, D) weights x̂_0 of x_t at (n,) ᾱ, given the network's output."""
        assert noisy.full is not None
        eps = self.prior.noise(noisy, a, F)
        return self.prior.restore((noisy.full - (1 - a)[:, None].sqrt() * eps) / a[:, None].sqrt())

    def draw(self, count: int, seed: int, **options: Any) -> Tensor:
        """Runs ``sample`` to its end: (count, D) weights."""
        *_, (_, weights) = self.sample(count, seed, **options)
        return weights()


# ---- files -------------------------------------------------------------------


def part_paths(path: Path, count: int) -> list[Path]:
    """The ``count`` files of a model, each below what plain git hosts take: ``NAME.safetensors``,
    then ``NAME-2.safetensors`` and on."""
    names = [path.stem] + [f"{path.stem}-{i}" for i in range(2, count + 1)]
    return [path.with_name(f"{name}.safetensors") for name in names]


def prior_hash(prior: GaussianPrior) -> str:
    """Identity of a prior as it is stored: principal coordinates mean nothing with another."""
    tensors = {"mean": prior.mean, "std": prior.std, "variances": prior.variances}
    return tensors_hash({**tensors, "basis": prior.basis.half()})


_PART_BYTES = 9_000_000


def save_diffusion(path: Path, model: WeightDiffusion, meta: Mapping[str, Any]) -> list[Path]:
    """Writes the packed network and the prior, in as many parts as needed."""
    prior = model.prior
    tensors: dict[str, Tensor] = {}
    for name, value in model.network.state_dict().items():
        key = f"network.{name}"  # a byte an entry would lose a mixture's small directions
        tensors |= {key: value.half()} if name.startswith("mixture.") else pack(key, value)
    # Columns in blocks, so that parts can be packed; a byte an entry is as good as two.
    for i, block in enumerate(prior.basis.split(128, dim=1)):
        scale = block.abs().amax(0).clamp(min=1e-12) / 127
        tensors[f"prior.basis.{i:03d}"] = (block / scale).round().to(torch.int8)
        tensors[f"prior.scale.{i:03d}"] = scale
    tensors |= {
        "prior.mean": prior.mean,
        "prior.std": prior.std,
        "prior.variances": prior.variances,
        "start": model.adapter.start,
    }
    parts: list[dict[str, Tensor]] = [{}]
    used = 0
    for name, tensor in tensors.items():
        size = tensor.numel() * tensor.element_size()
        if used + size > _PART_BYTES and parts[-1]:
            parts.append({})
            used = 0
        parts[-1][name] = tensor
        used += size
    paths = part_paths(path, len(parts))
    full = {
        **meta,
        "kind": "diffusion",
        "parts": len(parts),
        "adapter": dataclasses.asdict(model.adapter.config),
        "network": dataclasses.asdict(model.network.config),
        "attributes": list(model.attribute_names),
        "rest": prior.rest,
    }
    for part, part_path in zip(parts, paths, strict=True):
        save_checkpoint(part_path, part, full)
    return paths


def load_diffusion(
    path: Path, base: FrozenBase, device: torch.device | str = "cpu"
) -> tuple[WeightDiffusion, dict[str, Any]]:
    """Reads what save_diffusion wrote."""
    tensors, meta = load_checkpoint(path)
    if meta["base"]["hash"] != tensors_hash(base_tensors(base)):
        raise mismatch(
            f"{path.name} was trained on another version of {meta['base']['name']}.",
            "train it again",
        )
    for extra in part_paths(path, meta["parts"])[1:]:
        tensors |= load_checkpoint(extra)[0]
    tensors = unpack(tensors)
    adapter = Adapter(base, config_from(AdapterConfig, meta["adapter"]))
    adapter.start = tensors["start"]
    network: WeightTransformer | CoordinateNetwork
    if "coordinates" in meta["network"]:
        network = CoordinateNetwork(config_from(CoordinateConfig, meta["network"]))
    else:
        network = WeightTransformer(config_from(TransformerConfig, meta["network"]))
    prefix = "network."
    network.load_state_dict(
        {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
    )
    blocks = [
        tensors[k] * tensors[k.replace("basis", "scale")]
        for k in sorted(tensors)
        if k.startswith("prior.basis.")
    ]
    prior = GaussianPrior(
        tensors["prior.mean"],
        tensors["prior.std"],
        torch.cat(blocks, dim=1),
        tensors["prior.variances"],
        meta["rest"],
    )
    network = network.to(device).eval().requires_grad_(False)
    return WeightDiffusion(adapter, prior, network, meta["attributes"]), meta
