"""Symmetries of the factors: re-gauging, and the canonical form that undoes it.

What leaves a fitted field unchanged (spec A4): (B R, R⁻¹ A) for any R in GL(r), for
LoRA and mLoRA alike, as both see only B A. A mask of k zeros a row with k ≥ r − 1 leaves the
scale and sign of each rank; one of κ leaves r (r − k) dimensions a layer while k < r, so r of
them at k = r − 1, which ranks above ⌊√d_out⌋ have, and none from k = r on.
"""

import torch
from torch import Tensor

from wsdemo.errors import WsdemoError, check_range
from wsdemo.fields.adapters import Adapter
from wsdemo.limits import MAX_SEED
from wsdemo.lora.decomposition import factored
from wsdemo.lora.gauge import rotations, turned

GAUGES = ("any R", "order of the ranks", "scale of each rank", "sign of each rank")
"""What can be changed in the factors of an instance without changing its field."""


def canonicalise(adapter: Adapter, instances: Tensor) -> Tensor:
    """Maps (n, D) instances to one representative of all that decode alike.

    - LoRA, mLoRA: B A = U S Vᵀ, then B = U √S, A = √S Vᵀ, the largest entry of every
      column of B positive.
    - mLoRA-Asym (zeros frozen in A): per rank ‖a_k‖ = ‖b_k‖, and Σ b_k ≥ 0.
    - LoRA-Asym: nothing is left to fix where k ≥ r; where k = r − 1 a mixture of ranks is, and
      stays as it is. MLP-Asym: nothing is left. MLP: hidden units can be permuted; the shared
      start aligns them. All three are returned as they are.
    """
    kind, asym = adapter.config.kind, adapter.config.is_asymmetric
    if kind == "mlp" or (kind == "lora" and asym):
        return instances
    tensors = dict(adapter.tensors(instances))
    for name, _, _ in adapter.field_config.layer_shapes():
        A, B = tensors[f"{name}.A"], tensors[f"{name}.B"]
        fixed = _balance(A, B) if asym else _svd(A, B)
        tensors[f"{name}.A"], tensors[f"{name}.B"] = fixed
    return adapter.flatten(tensors)


def _balance(A: Tensor, B: Tensor) -> tuple[Tensor, Tensor]:
    a, b = A.norm(dim=2), B.norm(dim=1)
    sign = torch.where(B.sum(1) < 0, -1.0, 1.0).to(A)
    factor = sign * (b / a.clamp(min=1e-30)).sqrt()
    factor = torch.where((a > 0) & (b > 0), factor, torch.ones_like(factor))
    return A * factor[:, :, None], B / factor[:, None, :]


def _svd(A: Tensor, B: Tensor) -> tuple[Tensor, Tensor]:
    U, S, V = factored(B, A.mT)
    root = S.sqrt()
    left, right = U * root[:, None, :], root[:, :, None] * V.mT
    largest = left.abs().argmax(dim=1, keepdim=True)
    sign = torch.where(left.gather(1, largest) < 0, -1.0, 1.0).to(A)
    left, right = left * sign, right * sign.transpose(1, 2)
    missing = A.shape[1] - S.shape[1]
    if missing > 0:  # r exceeds a side of the layer: the other ranks are zero
        left = torch.cat([left, left.new_zeros(*left.shape[:2], missing)], dim=2)
        right = torch.cat([right, right.new_zeros(right.shape[0], missing, right.shape[2])], dim=1)
    return right, left


def regauge(adapter: Adapter, instances: Tensor, generator: torch.Generator) -> Tensor:
    """Re-factors (n, D) instances at random within what their representation leaves free.

    LoRA, mLoRA: R = Q₁ diag(s) Q₂ with s in [0.5, 2] (condition ≤ 4). mLoRA-Asym: scale
    in [0.5, 2] and sign per rank, which keep frozen zeros zero. Others: unchanged, although
    LoRA-Asym leaves some freedom where k < r (``canonicalise``).
    """
    kind, asym = adapter.config.kind, adapter.config.is_asymmetric
    if kind == "mlp" or (kind == "lora" and asym):
        return instances
    tensors = dict(adapter.tensors(instances))
    r, n = adapter.config.rank, len(instances)
    for name, _, _ in adapter.field_config.layer_shapes():
        A, B = tensors[f"{name}.A"], tensors[f"{name}.B"]
        scale = 2 ** (2 * torch.rand(n, r, generator=generator).double() - 1)
        if asym:
            sign = torch.where(torch.rand(n, r, generator=generator) < 0.5, -1.0, 1.0).double()
            fixed = (sign / scale).to(A)[..., None] * A, B * (sign * scale).to(B)[:, None]
        else:
            left, right = rotations((n, r, r), generator)
            U, V = turned(B, A.mT, left, scale, right)
            fixed = V.mT, U
        tensors[f"{name}.A"], tensors[f"{name}.B"] = fixed
    return adapter.flatten(tensors)


def regauge_by(adapter: Adapter, instances: Tensor, gauge: str, seed: int) -> Tensor:
    """Re-factors (n, D) instances of mLoRA by one of GAUGES: (B R, R⁻¹ A), R random.

    Any R: what the representation leaves free (``regauge``). Else R is a permutation, or
    diagonal with entries in [0.5, 2] or ±1.

    Raises:
        WsdemoError: Unknown gauge, a seed out of range, or an order that a mask has fixed.
    """
    check_range("seed", seed, 0, MAX_SEED)
    g = torch.Generator().manual_seed(seed)
    if gauge not in GAUGES:
        raise WsdemoError(
            "Unknown symmetry", f"Found {gauge[:40]!r}.", f"Choose one of: {', '.join(GAUGES)}."
        )
    if gauge == "any R":
        return regauge(adapter, instances, g)
    if gauge == "order of the ranks" and adapter.config.is_asymmetric:
        raise WsdemoError(
            "The mask has fixed the order",
            "Each rank has its own frozen zeros, and another order would move them.",
            "Choose mlora, or scale or sign.",
        )
    tensors, r = dict(adapter.tensors(instances)), adapter.config.rank
    for name, _, _ in adapter.field_config.layer_shapes():
        A, B = tensors[f"{name}.A"], tensors[f"{name}.B"]  # (n, r, d_in), (n, d_out, r)
        order, s = torch.arange(r), torch.ones(r)
        if gauge == "order of the ranks":
            order = torch.randperm(r, generator=g)
        elif gauge == "scale of each rank":
            s = 2 ** (2 * torch.rand(r, generator=g) - 1)
        else:
            s = torch.where(torch.rand(r, generator=g) < 0.5, -1.0, 1.0)
        tensors[f"{name}.A"] = A[:, order] / s[:, None]
        tensors[f"{name}.B"] = B[:, :, order] * s
    return adapter.flatten(tensors)
