"""Probes are the leading directions of the gradients that they say, on a tiny random model."""

import pytest
import torch

from tests.train.loras.conftest import head_of
from wsdemo.train.loras import smollm2_probes
from wsdemo.train.loras.smollm2_bench import token_losses
from wsdemo.train.loras.smollm2_passages import MEASURED, NO_WORD

NAME = "model:model_layers_1_mlp_down_proj"


def test_the_leading_pair_is_the_best_approximation_of_rank_one():
    g = torch.Generator().manual_seed(0)
    gradient = torch.randn(12, 9, generator=g) + 8 * torch.ones(12, 1) @ torch.ones(1, 9)
    U, s, Vt = torch.linalg.svd(gradient)
    u, v = smollm2_probes.leading(gradient)
    best = s[0] * U[:, :1] @ Vt[:1]
    torch.testing.assert_close(u[:, None] @ v[None], best, atol=1e-3, rtol=1e-3)
    assert float(v.norm()) == pytest.approx(1, abs=1e-4)


def test_a_step_down_a_probe_lowers_the_loss_by_what_it_says(model, passages):
    head = head_of(model, passages)
    probes = smollm2_probes.gradient_factors(model, head, passages, "austen")
    assert len(probes) == 4 * 7
    u, v = probes[NAME]
    layer = smollm2_probes.linear_layers(model)[NAME]
    own = passages.tokens["austen"][passages.pool("austen", "train")].long()
    assert len(own) <= smollm2_probes.PASSAGES

    def loss() -> float:
        with torch.no_grad():
            total = token_losses(model.model, head, passages, own).double().sum()
        return float(total) / int((passages.targets(own) != NO_WORD).sum())

    before, step = loss(), 1e-2
    with torch.no_grad():
        layer.weight -= step * (u[:, None] @ v[None]) / u.norm()
    assert loss() - before == pytest.approx(-step * float(u.norm()), rel=0.1)


def test_what_losses_are_measured_on_makes_no_probe(model, passages):
    head = head_of(model, passages)
    probes = smollm2_probes.gradient_factors(model, head, passages, "austen")
    passages.tokens["austen"][:MEASURED] = 1
    again = smollm2_probes.gradient_factors(model, head, passages, "austen")
    for name, (u, v) in probes.items():
        torch.testing.assert_close(
            u[:, None] @ v[None], again[name][0][:, None] @ again[name][1][None],
            atol=1e-6, rtol=1e-3,
        )  # fmt: skip
