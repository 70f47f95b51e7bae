"""A learned linear manifold of adapters: ε = ε₀ + P z (ours).

Fitted one by one, adapters carry what each fit left to chance in thousands of directions. Here
the base (W, b), the shared start ε₀ and the directions P are trained together, so that an
instance is K coordinates z and its weights lie on one flat of K dimensions in the space of all
D. The effective weights are mLoRA's, W' = W ⊙ (B A) with ε = (A, B), and so bilinear in z. Entries
that the mask of mLoRA-Asym freezes are zero in ε₀ and in every row of P, at all times: any z
gives a valid instance of that representation on the base (W, b), which the rest of the program
reads, fits further, maps and edits as any other.
"""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from wsdemo.checkpoints import config_from, load_checkpoint, save_checkpoint, tensors_hash
from wsdemo.errors import WsdemoError
from wsdemo.fields.adapters import Adapter, AdapterConfig
from wsdemo.fields.base import BaseField, FieldConfig, FrozenBase, evaluate, fourier_features
from wsdemo.fields.base_files import base_tensors

START_SPREAD = 0.003
"""Standard deviation of P's entries before training: small beside ε₀'s, of about 0.35."""


class Manifold(nn.Module):
    """Base field, ε₀ and P, trained together.

    Args:
        config: Shape of the field; ``latent_dim`` is K, the number of coordinates.
        adapter: mLoRA or mLoRA-Asym, its rank and seed.
        generator: Draws frequencies and initial weights.

    Attributes:
        origin: (D,) float, ε₀.
        directions: (K, D) float, the transpose of P: row k is what coordinate k adds.

    Raises:
        WsdemoError: The representation is none of mLoRA, whose start carries the base.
    """

    frequencies: Tensor
    trainable: Tensor

    def __init__(
        self, config: FieldConfig, adapter: AdapterConfig, generator: torch.Generator
    ) -> None:
        super().__init__()
        if adapter.kind != "mlora":
            raise WsdemoError(
                "No manifold of this representation",
                f"Found {adapter.representation!r}; expected mlora or mlora-asym.",
                "Train with --representation mlora-asym.",
            )
        self.config = config
        field = BaseField(config, generator)
        self.weights, self.biases = field.weights, field.biases
        self.register_buffer("frequencies", field.frequencies)
        self.layout = Adapter(self.base(), adapter)
        """Names and places of the entries of ε; never decodes, as its base is a copy."""
        self.register_buffer("trainable", self.layout.trainable.float())
        self.origin = nn.Parameter(self.layout.start * self.trainable)
        noise = torch.randn(config.latent_dim, self.layout.size, generator=generator)
        self.directions = nn.Parameter(START_SPREAD * noise * self.trainable)

    def instances(self, z: Tensor) -> Tensor:
        """ε = ε₀ + P z: coordinates (n, K) → weights (n, D), frozen entries zero."""
        # The product with the mask also keeps gradients from what it freezes.
        return torch.addmm(self.origin, z, self.directions) * self.trainable

    def effective(self, z: Tensor) -> list[Tensor]:
        """W' = W ⊙ (B A), one (n, d_out, d_in) a layer, of coordinates (n, K)."""
        t = self.layout.tensors(self.instances(z))
        names = [name for name, _, _ in self.config.layer_shapes()]
        products = (t[f"{name}.B"] @ t[f"{name}.A"] for name in names)
        return [W * BA for W, BA in zip(self.weights, products, strict=True)]

    def features(self, points: Tensor) -> Tensor:
        """Fourier features (…, 2F) of points (…, in_dim)."""
        return fourier_features(points, self.frequencies)

    def forward(self, z: Tensor, features: Tensor) -> Tensor:
        """Coordinates (n, K) at features (P, 2F) or (n, P, 2F) → values (n, P, out_dim)."""
        return evaluate(features, self.effective(z), list(self.biases))

    @torch.no_grad()
    def project(self, instances: Tensor) -> Tensor:
        """Least-squares coordinates (n, K) of weights (n, D): the nearest point in weights."""
        P = (self.directions * self.trainable).T.double()
        rest = ((instances - self.origin) * self.trainable).T.double()
        return torch.linalg.lstsq(P, rest).solution.T.to(instances.dtype)

    @torch.no_grad()
    def base(self) -> FrozenBase:
        """A copy of the base (W, b) that the manifold's instances adapt."""
        weights = tuple(W.detach().clone() for W in self.weights)
        biases = tuple(b.detach().clone() for b in self.biases)
        return FrozenBase(self.config, self.frequencies.clone(), weights, biases)

    def adapter(self) -> Adapter:
        """The representation on the present base, whose start is ε₀."""
        adapter = Adapter(self.base(), self.layout.config)
        adapter.start = self.origin.detach() * self.trainable
        return adapter


def save_manifold(path: Path, manifold: Manifold, meta: Mapping[str, Any]) -> None:
    """Writes W, b and ε₀ as they are and P in half precision (wrong by at most 1 in 2,000)."""
    base = base_tensors(manifold.base())
    tensors = {f"base.{name}": value for name, value in base.items()}
    tensors |= {"origin": manifold.origin.detach(), "directions": manifold.directions.half()}
    full = {
        **meta,
        "kind": "manifold",
        "config": dataclasses.asdict(manifold.config),
        "adapter": dataclasses.asdict(manifold.layout.config),
        "hash": tensors_hash(base),
        "decoding": "ε = origin + z @ directions; W' = W ⊙ (B A), per layer A then B, row by row",
    }
    save_checkpoint(path, tensors, full)


def load_manifold(
    path: Path, device: torch.device | str = "cpu"
) -> tuple[Manifold, dict[str, Any]]:
    """Reads what save_manifold wrote, and its metadata.

    Raises:
        WsdemoError: The file is missing, damaged or another kind of checkpoint.
    """
    tensors, meta = load_checkpoint(path)
    if meta.get("kind") != "manifold":
        raise WsdemoError(
            "Not a manifold",
            f"{path.name} holds {meta.get('kind', 'something else')!r}; expected 'manifold'.",
            "Take a file that a recipe NAME_manifold wrote.",
        )
    config = config_from(FieldConfig, meta["config"])
    manifold = Manifold(config, config_from(AdapterConfig, meta["adapter"]), torch.Generator())
    state = {"frequencies": tensors["base.frequencies"], "trainable": manifold.trainable}
    for i, (name, _, _) in enumerate(config.layer_shapes()):
        state[f"weights.{i}"] = tensors[f"base.{name}.weight"]
        state[f"biases.{i}"] = tensors[f"base.{name}.bias"]
    state |= {"origin": tensors["origin"], "directions": tensors["directions"].float()}
    manifold.load_state_dict(state)
    return manifold.to(device), meta
