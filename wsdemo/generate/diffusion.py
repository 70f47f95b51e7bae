"""Weight diffusion: the trained model with its prior, the training loss, DDIM sampling."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
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
from wsdemo.errors import WsdemoError
from wsdemo.fields.adapters import Adapter, AdapterConfig
from wsdemo.fields.base import FrozenBase
from wsdemo.fields.base_files import base_tensors
from wsdemo.generate.classes import ClassPriors
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
        classes: A prior for every entry of the condition, of which one is true; None: one for all.
    """

    def __init__(
        self,
        adapter: Adapter,
        prior: GaussianPrior,
        network: WeightTransformer | CoordinateNetwork,
        attribute_names: Sequence[str] = (),
        classes: ClassPriors | None = None,
    ) -> None:
        self.adapter, self.network = adapter, network
        self.device = next(network.parameters()).device
        self.prior = prior.to(self.device)
        self.layout = TokenLayout(adapter)
        self.attribute_names = tuple(attribute_names)
        self.classes = None if classes is None else classes.to(self.device)
        self.alphas_bar = alphas_bar().to(self.device)

    # ---- the denoiser --------------------------------------------------------

    def predict_noise(
        self, x_t: Tensor, t: Tensor, attributes: Tensor, prior: GaussianPrior | None = None
    ) -> Tensor:
        """ε̂(x_t, t, c) = E_Gauss[ε | x_t] + R F(x_t, t, c).

        Args:
            x_t: (n, D) noisy standardised weights.
            t: (n,) long, times 0 … 999.
            attributes: (n, a) float in {−1, 0, 1}; 0 is unknown.
            prior: Of the rows, standardised by its mean; default: the model's.
        """
        prior = prior or self.prior
        x = prior.split(x_t)
        return prior.noise(x, self.alphas_bar[t], self.output(x, t, attributes, prior))

    def output(self, x: Parts, t: Tensor, attributes: Tensor, prior: GaussianPrior) -> Parts:
        """F(x_t, t, c): what the network says, of x_t in parts."""
        a = self.alphas_bar[t]
        known = prior.whitened(x.along, a)[:, : self.network.config.summary]
        if isinstance(self.network, CoordinateNetwork):
            return prior.split(None, self.network(known, t, attributes))
        assert x.full is not None
        tokens = self.layout.to_tokens(prior.estimate(x.full, x.along, a))
        output, summary = self.network(tokens, known, t, attributes)
        return prior.split(self.layout.from_tokens(output), summary)

    def loss(
        self,
        x: Tensor,
        attributes: Tensor,
        generator: torch.Generator,
        classes: Tensor | None = None,
    ) -> Tensor:
        """(n,) ‖ε − ε̂‖² of standardised weights (n, D), as a share of what the prior leaves.

        With a prior of coordinates, ``x`` are (n, S) coordinates. A model with priors by class
        needs the rows' true ``classes`` (n,), whatever ``attributes`` tell the network.

        The prior alone scores 1 at every time. Undivided, the late times, where the few
        directions that hold the face are decided, would not count among 10⁴ others.
        """
        t = torch.randint(STEPS, (len(x),), generator=generator).to(self.device)
        # Frozen entries carry neither signal nor noise, here and in sampling.
        noise = torch.randn(x.shape, generator=generator).to(self.device) * (self.prior.std > 0)
        a, prior = self.alphas_bar[t], self.prior
        if self.classes is not None:
            assert classes is not None
            prior = self.classes.prior(prior, classes)
            x = x - self.classes.means[classes] @ prior.basis.T
        x_t = add_noise(x, noise, a)
        error = (self.predict_noise(x_t, t, attributes, prior) - noise).square()
        return error.sum(1) / prior.expected_error(a)

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
    ) -> Iterator[tuple[int, Tensor]]:
        """DDIM (η = 0) with classifier-free guidance; yields the estimate after each step.

        The Gaussian part is integrated exactly, the network's to second order: prior.py.

        Sample i of a seed does not depend on how many are drawn with it.

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
            (step, (count, D) weights x̂_0 so far); the last one is the sample.
        """
        generators = [torch.Generator().manual_seed(seed * 4096 + i) for i in range(count)]
        noise = [torch.randn(self.adapter.size, generator=g) for g in generators]
        x = temperature * torch.stack(noise).to(self.device) * (self.prior.std > 0)
        empty = torch.zeros(count, len(self.attribute_names), device=self.device)
        given, prior = empty if attributes is None else attributes, self.prior
        if self.classes is not None:
            given, prior = self._classified(given, generators, start)
        conditional = bool(given.any())
        times = ddim_times(steps)
        if start is not None:
            times = [t for t in times if t <= strength * (STEPS - 1)] or times[-1:]
            kept = prior.standardise(start[None].to(self.device))
            x = add_noise(kept, x, self.alphas_bar[times[0]][None])
        noisy, earlier = prior.split(x), None
        for step, t in enumerate(times):
            time = torch.full((count,), t, device=self.device)
            F = self.output(noisy, time, given, prior)
            if conditional and guidance != 1.0:
                F = self.output(noisy, time, empty, prior).towards(F, guidance)
            a = self.alphas_bar[time]
            if step + 1 == len(times):
                ends = prior.step(noisy, a, torch.ones_like(a), F, earlier).full
                assert ends is not None
                yield step + 1, prior.restore(ends)
                return
            eps = prior.noise(noisy, a, F)
            assert noisy.full is not None
            yield (
                step + 1,
                prior.restore((noisy.full - (1 - a)[:, None].sqrt() * eps) / a[:, None].sqrt()),
            )
            after = self.alphas_bar[times[step + 1]].expand_as(a)
            noisy, earlier = prior.step(noisy, a, after, F, earlier), (F, a)

    def _classified(
        self, wishes: Tensor, generators: Sequence[torch.Generator], start: Tensor | None
    ) -> tuple[Tensor, GaussianPrior]:
        """One class a row, as wished, drawn, or the start's: its condition (n, a), its prior."""
        assert self.classes is not None
        if start is not None and not bool(wishes.any()):
            y = self.prior.project(self.prior.standardise(start[None].to(self.device)))[0]
            chosen = [self.classes.likeliest(y)] * len(generators)
        else:
            pairs = zip(wishes, generators, strict=True)
            chosen = [self.classes.choose(wish, g) for wish, g in pairs]
        index = torch.tensor(chosen, device=self.device)
        one = torch.nn.functional.one_hot(index, len(self.attribute_names)).to(wishes)
        return one * 2 - 1, self.classes.prior(self.prior, index)

    def draw(self, count: int, seed: int, **options: Any) -> Tensor:
        """Runs ``sample`` to its end: (count, D) weights."""
        instances = torch.empty(0)
        for _, instances in self.sample(count, seed, **options):
            pass
        return instances


# ---- files -------------------------------------------------------------------


def part_paths(path: Path, count: int) -> list[Path]:
    """NAME.safetensors, NAME-2.safetensors …: each below what plain git hosts take."""
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
        tensors |= pack(f"network.{name}", value)
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
    if model.classes is not None:
        tensors |= {f"classes.{name}": tensor for name, tensor in vars(model.classes).items()}
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
        raise WsdemoError(
            "Checkpoints do not match",
            f"{path.name} was trained on another version of {meta['base']['name']}.",
            "Take both from the same revision, or train it again.",
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
    own = ("means", "variances", "shares")
    has_classes = "classes.means" in tensors
    classes = ClassPriors(*(tensors[f"classes.{name}"] for name in own)) if has_classes else None
    return WeightDiffusion(adapter, prior, network, meta["attributes"], classes), meta
