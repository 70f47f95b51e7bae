"""The canonical form is the same update, however it was factored."""

import pytest
import torch

from tests.lol.synthetic import SIGNATURE, pairs
from wsdemo.lol.data.canonical import canonical, singular_values, thinned
from wsdemo.lol.data.kinds import kinds_of, layer_count
from wsdemo.lol.data.pairs import Pairs, Signature, regauge_pairs


def products(batch):
    return [U @ V.mT for U, V in batch.groups]


def turned(batch, seed=0):
    return regauge_pairs(batch, torch.Generator().manual_seed(seed), condition=10.0)


@pytest.mark.parametrize("rank", [1, 3, 20])
def test_the_canonical_form_is_the_same_update_with_orthogonal_falling_columns(rank):
    batch = pairs(4, rank, dtype=torch.float64)
    found = canonical(batch)
    assert found.is_canonical
    for before, after in zip(products(batch), products(found), strict=True):
        torch.testing.assert_close(before, after)
    for U, V in found.groups:
        gram = U.mT @ U
        torch.testing.assert_close(gram, V.mT @ V)
        torch.testing.assert_close(gram, torch.diag_embed(torch.diagonal(gram, dim1=-2, dim2=-1)))
        s = torch.diagonal(gram, dim1=-2, dim2=-1)
        assert (s[..., :-1] >= s[..., 1:] - 1e-9).all()


def test_every_factorisation_has_the_same_canonical_form_but_for_signs():
    batch = pairs(4, dtype=torch.float64)
    one, other = canonical(batch), canonical(turned(batch))
    for (U, V), (P, Q) in zip(one.groups, other.groups, strict=True):
        torch.testing.assert_close(U.abs(), P.abs(), atol=1e-7, rtol=1e-7)
        torch.testing.assert_close(V.abs(), Q.abs(), atol=1e-7, rtol=1e-7)


def test_fewer_columns_are_the_best_approximation():
    batch = pairs(2, 6, dtype=torch.float64)
    for whole, cut in zip(products(batch), products(canonical(batch, 2)), strict=True):
        s = torch.linalg.svdvals(whole)
        error = (whole - cut).square().sum((-1, -2))
        torch.testing.assert_close(error, s[..., 2:].square().sum(-1))


def test_singular_values_are_those_of_the_product_and_read_off_the_canonical_form():
    batch = pairs(2, 4, dtype=torch.float64)
    for own in (batch, canonical(batch)):
        for s, product in zip(singular_values(own), products(batch), strict=True):
            torch.testing.assert_close(s, torch.linalg.svdvals(product)[..., : s.shape[-1]])


def test_what_is_canonical_stays_so_where_columns_are_only_picked_padded_or_scaled():
    batch = canonical(pairs(4))
    for same in (
        batch.pick(slice(1, 3)),
        batch.padded(9),
        batch.scaled(2.0),
        batch.to(torch.float64),
    ):
        assert same.is_canonical
    assert Pairs.join([batch, batch]).is_canonical
    assert not Pairs.join([batch, pairs(2)]).is_canonical
    assert not turned(batch).is_canonical
    empty = canonical(Pairs(tuple((U * 0, V) for U, V in batch.groups)))
    assert all(bool(torch.isfinite(U).all()) for U, _ in empty.groups)


def test_thinning_keeps_the_share_of_energy_and_leaves_out_the_share_of_modules():
    torch.manual_seed(0)
    batch = canonical(pairs(400, 6))
    left = thinned(batch, modules=0.25, energy=0.8)
    gone = 0.0
    for before, after in zip(singular_values(batch), singular_values(left), strict=True):
        is_gone = after.sum(-1) == 0
        gone += float(is_gone.double().mean()) / len(batch.groups)
        share = after.square().sum(-1) / before.square().sum(-1)
        assert (share[~is_gone] >= 0.8 - 1e-6).all()
        assert (share[~is_gone] < 0.999).any()
    assert 0.2 < gone < 0.3
    assert left.is_canonical


def test_modules_that_differ_by_layer_alone_are_one_kind():
    shapes = {
        f"model.layers.{i}.{name}": (8, 4)
        for i in (2, 10)
        for name in ("attn1.to_q", "attn2.to_q", "q_proj")
    }
    shapes |= {
        "model.layers.2.down": (4, 8),
        "lora_unet_down_0_q": (8, 4),
        "lora_unet_down_1_q": (8, 4),
    }
    kinds = kinds_of(Signature(dict(sorted(shapes.items()))))
    assert {k.name: len(k.rows) for k in kinds} == {
        "model.layers.#.attn1.to_q": 2, "model.layers.#.attn2.to_q": 2, "model.layers.#.q_proj": 2,
        "model.layers.#.down": 1, "lora_unet_down_#_q": 2,
    }  # fmt: skip
    by_name = {k.name: k for k in kinds}
    assert by_name["model.layers.#.q_proj"].layers == by_name["model.layers.#.attn1.to_q"].layers
    assert by_name["model.layers.#.down"].layers[0] in by_name["model.layers.#.q_proj"].layers
    assert layer_count(kinds) == 4
    assert sum(len(k.rows) for k in kinds_of(SIGNATURE)) == len(SIGNATURE)
