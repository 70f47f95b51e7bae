"""What each model is invariant to: Proposition 1, Theorems 1 and 2 of Paper B."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.lol.synthetic import SIGNATURE, pairs
from wsdemo.lol.data.pairs import Pairs, regauge_pairs
from wsdemo.lol.models.networks import MODELS, EquivariantLinear, build_model, gl_gate
from wsdemo.lol.models.parts import ModelConfig

INVARIANT = (
    "gl-net", "gl-net-norms", "gl-net-shared", "w2t", "mlp-svd", "mlp-dense", "spectral"
)  # fmt: skip


def built(name, rank=3, **options):
    torch.manual_seed(0)
    config = ModelConfig(name, outputs=2, rank=rank, dropout=0.0, **options)
    model = build_model(SIGNATURE, config).double().eval()
    model.scale.fit(pairs(20, rank, 3, torch.float64))
    if hasattr(model, "fit"):
        model.fit(pairs(20, rank, 3, torch.float64))
    return model


def orthogonal(batch, seed):
    """Re-factors by an orthogonal R only."""
    return regauge_pairs(batch, torch.Generator().manual_seed(seed), condition=1.0)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("seed", range(3))
def test_only_invariant_models_keep_their_prediction_under_a_random_factorisation(name, seed):
    model, batch = built(name), pairs(6, seed=seed, dtype=torch.float64)
    turned = regauge_pairs(batch, torch.Generator().manual_seed(seed), condition=10.0)
    for (U, V), (P, Q) in zip(batch.groups, turned.groups, strict=True):
        torch.testing.assert_close(U @ V.mT, P @ Q.mT)
    with torch.no_grad():
        change = (model(batch) - model(turned)).abs().max()
    assert (change < 1e-9) == (name in INVARIANT), float(change)


@pytest.mark.parametrize("layers", [1, 2, 3])
@pytest.mark.parametrize("head", ["full", "mean"])
@pytest.mark.parametrize("standardise", [False, True])
def test_gl_net_is_invariant_at_every_depth_and_head(layers, head, standardise):
    model = built("gl-net", layers=layers, head=head, standardise=standardise)
    batch = pairs(5, dtype=torch.float64)
    turned = regauge_pairs(batch, torch.Generator().manual_seed(1), condition=10.0)
    with torch.no_grad():
        torch.testing.assert_close(model(batch), model(turned), atol=1e-9, rtol=0)


def test_standardised_products_are_those_of_training_and_not_of_the_batch():
    model, batch = built("gl-net", standardise=True), pairs(40)
    model = model.float().train()
    for _ in range(200):
        model(batch)
    products = model.invariants(batch).flatten(1)
    model.eval()
    seen = model.moments(products)
    torch.testing.assert_close(seen.mean(0), torch.zeros_like(seen[0]), atol=0.02, rtol=0)
    torch.testing.assert_close(seen.std(0), torch.ones_like(seen[0]), atol=0.1, rtol=0)
    alone = torch.cat([model(batch.pick(slice(i, i + 1))) for i in range(40)])
    torch.testing.assert_close(alone, model(batch), atol=1e-5, rtol=1e-4)
    model.train()(batch.pick(slice(0, 1)))  # a last batch of one has no moments of its own


def test_procrustes_alignment_is_invariant_to_rotations_of_the_rank_but_not_to_stretching():
    model, batch = built("mlp-o-align"), pairs(5, dtype=torch.float64)
    stretched = regauge_pairs(batch, torch.Generator().manual_seed(1), condition=10.0)
    with torch.no_grad():
        torch.testing.assert_close(model(batch), model(orthogonal(batch, 1)), atol=1e-9, rtol=0)
        assert (model(batch) - model(stretched)).abs().max() > 1e-3


def flipped(batch):
    """U → −U: another update with the same singular values."""
    return Pairs(tuple((-U, V) for U, V in batch.groups))


@pytest.mark.parametrize("name", MODELS)
def test_only_singular_values_cannot_see_the_sign_of_an_update(name):
    model, batch = built(name), pairs(4, dtype=torch.float64)
    with torch.no_grad():
        difference = (model(batch) - model(flipped(batch))).abs().max()
    assert (difference < 1e-9) == (name in ("mlp-svd", "spectral"))


@pytest.mark.parametrize("name", ["gl-net", "gl-net-shared", "mlp-dense", "w2t", "spectral"])
def test_invariant_models_accept_any_rank_and_padding_changes_nothing(name):
    model = built(name)
    with torch.no_grad():
        for rank in (1, 2, 5, 8):
            batch = pairs(3, rank, dtype=torch.float64)
            torch.testing.assert_close(model(batch), model(batch.padded(12)))


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 6))
def test_the_gate_and_the_maps_are_equivariant(seed, rank):
    batch = pairs(2, rank, seed, torch.float64)
    torch.manual_seed(seed)
    shapes = [(len(names), n, m) for (n, m), names in SIGNATURE.groups]
    layer = EquivariantLinear(shapes, 5).double()
    for act in (gl_gate, layer, lambda p: layer(gl_gate(p))):
        one = regauge_pairs(act(batch), torch.Generator().manual_seed(seed))
        other = act(regauge_pairs(batch, torch.Generator().manual_seed(seed)))
        for (U, V), (P, Q) in zip(one.groups, other.groups, strict=True):
            torch.testing.assert_close(U, P, atol=1e-8, rtol=1e-8)
            torch.testing.assert_close(V, Q, atol=1e-8, rtol=1e-8)


def test_a_linear_map_that_mixes_ranks_is_not_equivariant():
    """Proposition 1 from the other side: no other linear map commutes with every R."""
    batch = pairs(1, 3, dtype=torch.float64)
    mix = torch.randn(3, 3, generator=torch.Generator().manual_seed(2)).double()

    def act(p):
        return Pairs(tuple((U @ mix, V @ mix) for U, V in p.groups))

    one = regauge_pairs(act(batch), torch.Generator().manual_seed(0))
    other = act(regauge_pairs(batch, torch.Generator().manual_seed(0)))
    assert (one.groups[0][0] - other.groups[0][0]).abs().max() > 1e-2


def test_the_gate_is_the_sign_of_the_sums_of_the_product():
    (U, V), *_ = pairs(2, dtype=torch.float64).groups
    (P, Q), *_ = gl_gate(Pairs(((U, V),))).groups
    product = U @ V.mT
    torch.testing.assert_close(P, U * (product.sum(-1, keepdim=True) > 0))
    torch.testing.assert_close(Q, V * (product.sum(-2)[..., None] > 0))


def test_a_dead_input_does_not_make_nan():
    batch = Pairs(tuple((U * 0, V) for U, V in pairs(3).groups))
    for name in MODELS:
        model = build_model(SIGNATURE, ModelConfig(name, rank=3)).eval()
        model.scale.fit(batch)
        with torch.no_grad():
            assert torch.isfinite(model(batch)).all(), name
