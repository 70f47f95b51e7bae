"""The six representations and the symmetry facts of the mLoRA parametrisation (spec A4)."""

import math

import pytest
import torch

from tests.conftest import SMALL, make_base
from wsdemo.errors import WsdemoError
from wsdemo.fields.adapters import (
    REPRESENTATIONS,
    STARTS,
    Adapter,
    AdapterConfig,
    equal_budget,
    frozen_per_row,
    row_mask,
)
from wsdemo.fields.base import FieldConfig, pixel_grid

POINTS = pixel_grid(6, 6)


def random_instances(adapter: Adapter, count: int = 2, seed: int = 1) -> torch.Tensor:
    g = torch.Generator().manual_seed(seed)
    noise = torch.randn(count, adapter.size, generator=g, dtype=torch.float64)
    return adapter.start + 0.3 * noise * adapter.trainable


def decode(adapter: Adapter, instances: torch.Tensor) -> torch.Tensor:
    return adapter.decode(instances, adapter.features(POINTS))


def close(a: torch.Tensor, b: torch.Tensor) -> None:
    torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-10)


# ---- definitions ---------------------------------------------------------------


def test_mlora_multiplies_and_lora_adds(base):
    for name, combine in (("mlora", torch.mul), ("lora", torch.add)):
        adapter = Adapter(base, AdapterConfig(name, 3))
        instances = random_instances(adapter)
        tensors = adapter.tensors(instances)
        effective, _ = adapter.effective(instances)
        for (layer, _, _), W, W_new in zip(
            SMALL.layer_shapes(), base.weights, effective, strict=True
        ):
            close(W_new, combine(W, tensors[f"{layer}.B"] @ tensors[f"{layer}.A"]))


def test_mlora_is_a_sum_of_rescaled_bases():
    """W ⊙ (B A) = Σ_k diag(b_k) W diag(a_k)."""
    g = torch.Generator().manual_seed(0)
    W, A, B = (torch.randn(*s, generator=g).double() for s in ((5, 7), (3, 7), (5, 3)))
    close(W * (B @ A), sum(torch.diag(B[:, k]) @ W @ torch.diag(A[k]) for k in range(3)))


def test_literal_mlora_with_zero_B_shows_a_constant(base):
    adapter = Adapter(base, AdapterConfig("mlora", 4))
    tensors = dict(adapter.tensors(random_instances(adapter)))
    for name in tensors:
        if name.endswith(".B"):
            tensors[name] = torch.zeros_like(tensors[name])
    shown = decode(adapter, adapter.flatten(tensors))
    close(shown, base.biases[-1].expand_as(shown))


@pytest.mark.parametrize("name", ["lora", "lora-asym", "mlora", "mlora-asym"])
@pytest.mark.parametrize("rank", [1, 4, 8])
@pytest.mark.parametrize("start", STARTS)
def test_low_rank_representations_start_at_the_base(name, rank, start):
    base = make_base(FieldConfig(width=32, frequencies=16, blocks=1))
    adapter = Adapter(base, AdapterConfig(name, rank, start=start))
    effective, _ = adapter.effective(adapter.start[None])
    for W, W_new in zip(base.weights, effective, strict=True):
        covered = torch.ones_like(W, dtype=torch.bool)
        if rank == 1 and name == "mlora-asym":  # columns frozen in the only rank show nothing
            covered = W_new[0] != 0
            assert int((~covered[0]).sum()) == math.isqrt(W.shape[0])
        torch.testing.assert_close(W_new[0][covered], W[covered], rtol=1e-6, atol=1e-8)


def test_ranks_of_mlora_start_apart():
    adapter = Adapter(make_base(), AdapterConfig("mlora", 4))
    A = adapter.tensors(adapter.start[None])["input.A"][0]
    assert float(torch.corrcoef(A).fill_diagonal_(0).abs().max()) < 0.9


def test_every_rank_learns_from_the_first_step_of_the_carried_start():
    """At the spread start all ranks get the same gradient for A; at the carried one B's differ."""
    base = make_base()
    adapter = Adapter(base, AdapterConfig("mlora", 4, start="carried"))
    ε = adapter.start[None].clone().requires_grad_(True)
    features = adapter.features(pixel_grid(8, 8))
    target = torch.randn(1, 64, 3, generator=torch.Generator().manual_seed(0))
    (adapter.decode(ε, features) - target).square().mean().backward()
    gradient = adapter.tensors(ε.grad)
    for layer, _, _ in base.config.layer_shapes():
        B = gradient[f"{layer}.B"][0]
        assert int(torch.linalg.matrix_rank(B)) == min(B.shape)
        assert float(gradient[f"{layer}.A"][0, 1:].abs().max()) == 0  # as with LoRA: B = 0


def test_an_unknown_start_is_refused(base):
    with pytest.raises(WsdemoError, match="spread, carried"):
        Adapter(base, AdapterConfig("mlora", 4, start="zero"))


def test_mlora_factors_do_not_add(base):
    """Adding factors, or adding BA to W, is not the combination of two adapters."""
    adapter = Adapter(base, AdapterConfig("mlora", 3))
    a, b = random_instances(adapter, 2)
    Wa, Wb, Wab = (adapter.effective(x[None])[0][0] for x in (a, b, a + b))
    assert not torch.allclose(Wab, Wa + Wb)
    assert not torch.allclose(
        Wab, base.weights[0] + (Wa - base.weights[0]) + (Wb - base.weights[0])
    )


# ---- symmetries -------------------------------------------------------------------


@pytest.mark.parametrize("name", ["lora", "mlora"])
def test_rank_permutation_leaves_the_field_unchanged(base, name):
    """Theorem 1, and for mLoRA too."""
    adapter = Adapter(base, AdapterConfig(name, 5))
    instances = random_instances(adapter)
    order = torch.tensor([3, 0, 4, 1, 2])
    tensors = dict(adapter.tensors(instances))
    for layer, _, _ in SMALL.layer_shapes():
        tensors[f"{layer}.A"] = tensors[f"{layer}.A"][:, order]
        tensors[f"{layer}.B"] = tensors[f"{layer}.B"][:, :, order]
    changed = adapter.flatten(tensors)
    assert not torch.equal(changed, instances)
    close(decode(adapter, changed), decode(adapter, instances))


@pytest.mark.parametrize("name", ["lora", "mlora"])
def test_any_invertible_R_leaves_the_field_unchanged(base, name):
    adapter = Adapter(base, AdapterConfig(name, 4))
    instances = random_instances(adapter)
    g = torch.Generator().manual_seed(3)
    R = torch.randn(4, 4, generator=g).double() + 3 * torch.eye(4).double()
    tensors = dict(adapter.tensors(instances))
    for layer, _, _ in SMALL.layer_shapes():
        tensors[f"{layer}.A"] = torch.linalg.inv(R) @ tensors[f"{layer}.A"]
        tensors[f"{layer}.B"] = tensors[f"{layer}.B"] @ R
    close(decode(adapter, adapter.flatten(tensors)), decode(adapter, instances))


@pytest.mark.parametrize("rank", [2, 4, 6])
@pytest.mark.parametrize("frozen", [0, 1, 3, 5, 7])
@pytest.mark.parametrize("zeros", [True, False])
def test_mask_leaves_the_predicted_gauge_freedom(rank, frozen, zeros):
    """r·max(1, r−k) dimensions remain for zero masks, r·max(0, r−k) for κ masks.

    X generates a gauge move A → A − X A; it keeps row i's frozen entries iff
    x_i · A[:, frozen_i] = 0, so the freedom is Σ_i (r − rank A[:, frozen_i]).
    """
    g = torch.Generator().manual_seed(rank * 10 + frozen)
    A = torch.randn(rank, 40, generator=g).double()
    mask = torch.ones(rank, 40, dtype=torch.bool) if frozen == 0 else row_mask(rank, 40, frozen, g)
    if zeros:
        A = A * mask
    freedom = 0
    for i in range(rank):
        columns = A[:, ~mask[i]]
        freedom += rank - (int(torch.linalg.matrix_rank(columns)) if columns.numel() else 0)
    floor = 1 if zeros else 0
    assert freedom == rank * max(floor, rank - frozen)


def test_masks_freeze_enough_to_end_rank_mixing():
    for rank in (1, 2, 8, 18, 40):
        for d_out in (1, 3, 128):
            k = frozen_per_row(rank, d_out)
            assert k >= rank - 1
            assert k >= math.isqrt(d_out)


def test_bias_free_relu_trunks_gain_neuron_rescaling_and_biases_break_it():
    """Scaling row i of BA in one layer and column i in the next by c and 1/c."""
    g = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=g).double()

    W1, W2, x = draw(6, 5), draw(3, 6), draw(50, 5)
    A1, B1, A2, B2, c = draw(2, 5), draw(6, 2), draw(2, 6), draw(3, 2), draw(6).abs() + 0.5

    def run(B_first: torch.Tensor, A_second: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        h = torch.relu(x @ (W1 * (B_first @ A1)).T + bias)
        return h @ (W2 * (B2 @ A_second)).T

    for bias, is_symmetric in ((torch.zeros(6).double(), True), (draw(6), False)):
        same = torch.allclose(run(B1, A2, bias), run(c[:, None] * B1, A2 / c, bias), atol=1e-9)
        assert same == is_symmetric


# ---- masks and layout ---------------------------------------------------------------


@pytest.mark.parametrize("name", ["mlora-asym", "lora-asym", "mlp-asym"])
def test_same_seed_gives_the_same_mask_and_frozen_values(base, name):
    first, again = (Adapter(base, AdapterConfig(name, 6, seed=4)) for _ in range(2))
    other = Adapter(base, AdapterConfig(name, 6, seed=5))
    assert torch.equal(first.trainable, again.trainable)
    assert torch.equal(first.start, again.start)
    assert not torch.equal(first.trainable, other.trainable)


def test_layers_of_one_shape_share_one_mask(base):
    adapter = Adapter(make_base(FieldConfig(width=16, frequencies=6, blocks=2)),
                      AdapterConfig("mlora-asym", 4))  # fmt: skip
    masks = adapter.tensors(adapter.trainable[None])
    for other in ("block0.1.A", "block1.0.A", "block1.1.A"):
        assert torch.equal(masks["block0.0.A"], masks[other])
    assert bool(masks["block0.0.B"].all())


def test_every_row_of_A_freezes_the_stated_number_of_entries(base):
    adapter = Adapter(base, AdapterConfig("mlora-asym", 6))
    masks = adapter.tensors(adapter.trainable[None])
    for layer, d_out, _ in SMALL.layer_shapes():
        frozen = (~masks[f"{layer}.A"][0]).sum(1)
        assert frozen.tolist() == [frozen_per_row(6, d_out)] * 6
        values = adapter.tensors(adapter.start[None])[f"{layer}.A"][0]
        assert float(values[~masks[f"{layer}.A"][0]].abs().max()) == 0


@pytest.mark.parametrize("name", REPRESENTATIONS)
def test_splitting_and_joining_are_inverse(base, name):
    adapter = Adapter(base, AdapterConfig(name, 5))
    instances = random_instances(adapter, 3)
    assert torch.equal(adapter.flatten(adapter.tensors(instances)), instances)


def test_equal_budgets_are_equal_within_three_percent():
    chosen = equal_budget(FieldConfig(), 27_000)
    base = make_base(FieldConfig())
    for name, config in chosen.items():
        assert abs(Adapter(base, config).size / 27_000 - 1) < 0.03, name


def test_unknown_representation_is_refused(base):
    with pytest.raises(WsdemoError, match="Found 'dora'"):
        Adapter(base, AdapterConfig("dora", 4))


@pytest.mark.parametrize("rank", [0, -1, 17])
def test_rank_out_of_range_is_refused(base, rank):
    with pytest.raises(WsdemoError, match="takes 1 to 16"):
        Adapter(base, AdapterConfig("mlora", rank))
