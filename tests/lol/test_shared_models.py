"""GL-net with shared maps, W2T and the spectral baseline: what they see, what they ignore."""

import dataclasses
import math

import pytest
import torch
from torch import Tensor

from wsdemo.lol.data.canonical import canonical
from wsdemo.lol.data.pairs import Pairs, Signature, regauge_pairs
from wsdemo.lol.data.tasks import LabelledLoras, Task
from wsdemo.lol.models.fitting import Budget, train_model
from wsdemo.lol.models.networks import build_model
from wsdemo.lol.models.parts import ModelConfig
from wsdemo.lol.models.spectral import spectral_statistics

SHAPES = {"q_proj": (12, 10), "v_proj": (6, 10), "down_proj": (10, 16)}
LAYERS = 5
SIGNATURE = Signature({f"layers.{i}.{k}": s for i in range(LAYERS) for k, s in SHAPES.items()})
TASK = Task("label", ("label",), "regression")
MODELS = ("gl-net-shared", "w2t")


def updates(count, seed, rank=4):
    """LoRAs along a direction of each kind, by a label, of ranks up to ``rank``, with modules
    missing."""
    g = torch.Generator().manual_seed(seed)
    fixed = torch.Generator().manual_seed(99)
    label = 2 * torch.rand(count, generator=g) - 1
    groups = []
    for (n, m), names in SIGNATURE.groups:
        U = 0.3 * torch.randn(count, len(names), n, rank, generator=g)
        V = 0.3 * torch.randn(count, len(names), m, rank, generator=g)
        u, v = torch.randn(n, generator=fixed), torch.randn(m, generator=fixed)
        U[..., 0], V[..., 0] = label[:, None, None] * u, v.expand(count, len(names), m)
        used = (
            torch.rand(count, 1, 1, 1, generator=g) < 0.7 if n != 12 else torch.ones(count, 1, 1, 1)
        )
        ranks = torch.randint(1, rank + 1, (count, 1, 1, 1), generator=g)
        U = U * used * (torch.arange(rank) < ranks)
        groups.append((U, V))
    return LabelledLoras(
        Pairs(tuple(groups)), {"label": label}, tuple(f"{seed}-{i}" for i in range(count))
    )


def trained(name):
    config = ModelConfig(name, rank=4, width=8, hidden=32)
    budget = Budget(epochs=30, learning_rate=4e-3)
    return train_model(SIGNATURE, config, TASK, updates(160, 0), updates(40, 1), 0, budget)


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_labels_are_learnt_from_any_modules_and_ranks_and_read_from_every_equal(name):
    fitted, test = trained(name), updates(60, 2)
    found, true = fitted.predict(test.pairs)[:, 0], test.labels["label"]
    assert float((found - true).square().mean() / true.var()) < 0.15
    turned = regauge_pairs(test.pairs, torch.Generator().manual_seed(0), condition=10.0)
    for equal in (turned, test.pairs.padded(9), canonical(test.pairs)):
        torch.testing.assert_close(fitted.predict(equal)[:, 0], found, atol=2e-3, rtol=0)


def test_the_same_seed_gives_the_same_model():
    for name in MODELS:
        budget = Budget(epochs=2)
        one, other = (
            train_model(
                SIGNATURE, ModelConfig(name), TASK, updates(40, 0), updates(20, 1), 3, budget
            )
            for _ in range(2)
        )
        for key, value in one.model.state_dict().items():
            assert torch.equal(value, other.model.state_dict()[key]), key


def built(name, **more):
    torch.manual_seed(0)
    model = build_model(SIGNATURE, ModelConfig(name, 2, rank=4, **more)).double().eval()
    model.scale.fit(updates(20, 3).pairs.to(torch.float64))
    return model


def test_the_maps_are_shared_by_layers_and_a_layer_is_told_from_another():
    model = built("gl-net-shared")
    large = build_model(SIGNATURE, ModelConfig("gl-net", 2))
    sizes = [sum(p.numel() for p in m.maps.parameters()) for m in (large,)]
    assert sum(p.numel() for p in (*model.left, *model.right)) == sizes[0] // LAYERS
    batch = updates(3, 4).pairs.to(torch.float64)
    moved = Pairs(tuple((U.roll(1, 1), V.roll(1, 1)) for U, V in batch.groups))
    with torch.no_grad():
        assert (model.tokens(batch) - model.tokens(moved)).abs().max() > 1e-3


def test_the_first_maps_are_the_directions_of_the_training_loras_however_factored():
    batch = updates(40, 5).pairs
    turned = regauge_pairs(batch, torch.Generator().manual_seed(0), condition=10.0)
    one, other = (build_model(SIGNATURE, ModelConfig("gl-net-shared", width=4)) for _ in range(2))
    one.fit(batch)
    other.fit(turned)
    fixed = torch.Generator().manual_seed(99)
    u = torch.nn.functional.normalize(torch.randn(12, generator=fixed), dim=0)
    for a, b in zip(one.left, other.left, strict=True):
        torch.testing.assert_close(a.mT @ a, b.mT @ b, atol=2e-3, rtol=0)
    assert float((one.left[0][0] @ u).detach().abs()) > 1.95  # rows have length two


@pytest.mark.parametrize("name", [*MODELS, "spectral"])
def test_a_module_that_is_missing_is_one_that_is_zero_and_none_at_all_is_finite(name):
    model, batch = built(name), updates(3, 6).pairs.to(torch.float64)
    zero_u = Pairs(tuple((U * 0, V) if i else (U, V) for i, (U, V) in enumerate(batch.groups)))
    zero_v = Pairs(tuple((U, V * 0) if i else (U, V) for i, (U, V) in enumerate(batch.groups)))
    nothing = Pairs(tuple((U * 0, V * 0) for U, V in batch.groups))
    with torch.no_grad():
        torch.testing.assert_close(model(zero_u), model(zero_v))
        assert (model(zero_u) - model(batch)).abs().max() > 1e-4 or name == "spectral"
        assert torch.isfinite(model(nothing)).all()


def test_the_tokens_of_w2t_do_not_depend_on_signs_once_it_is_trained():
    model, batch = built("w2t"), canonical(updates(3, 7).pairs.to(torch.float64))
    flips = [
        torch.where(torch.rand(1, 1, 1, U.shape[-1]) < 0.5, -1.0, 1.0) for U, _ in batch.groups
    ]
    flipped = dataclasses.replace(
        batch, groups=tuple((U * f, V * f) for (U, V), f in zip(batch.groups, flips, strict=True))
    )
    with torch.no_grad():
        torch.testing.assert_close(model.embedding(batch), model.embedding(flipped))
        model.train()
        torch.manual_seed(0)
        assert (model.embedding(batch) - model.embedding(batch)).abs().max() > 1e-6


def kurtosis(s: Tensor) -> float:
    off = s - s.mean()
    return float((off**4).mean() / (off**2).mean() ** 2)


def test_the_five_statistics_are_what_they_are_called():
    s = torch.tensor([3.0, 2.0, 1.0, 1.0, 0.0, 0.0], dtype=torch.float64)
    lead, norm, concentration, entropy, k = spectral_statistics(s).tolist()
    share = s[:4].square() / 15
    assert lead == pytest.approx(math.log(1 + 3 / 1e-6))
    assert norm == pytest.approx(math.log(1 + 15**0.5 / 1e-6))
    assert concentration == pytest.approx(9 / 15)
    assert entropy == pytest.approx(float(-(share * share.log()).sum()))
    assert k == pytest.approx(kurtosis(s[:4]))
    assert spectral_statistics(torch.zeros(6)).tolist() == [0.0] * 5


def of_random_inputs(count, seed):
    """Updates B A whose A is random and whose B says the label, by its directions."""
    g, fixed = torch.Generator().manual_seed(seed), torch.Generator().manual_seed(7)
    label = (torch.rand(count, generator=g) < 0.5).float()
    groups = []
    for (n, m), names in SIGNATURE.groups:
        directions = torch.randn(2, len(names), n, 2, generator=fixed)
        B = directions[label.long()] @ torch.randn(count, len(names), 2, 3, generator=g)
        B = B + torch.randn(count, len(names), n, 3, generator=g)
        groups.append((B, torch.randn(count, len(names), m, 3, generator=g)))
    return LabelledLoras(
        Pairs(tuple(groups)), {"label": label}, tuple(f"{seed}-{i}" for i in range(count))
    )


def test_outputs_are_read_where_inputs_are_random():
    task = Task("label", ("label",), "binary")
    config = ModelConfig("gl-net-shared", rank=3, width=4, hidden=32)
    budget = Budget(epochs=12, learning_rate=4e-3)
    data = of_random_inputs(120, 0), of_random_inputs(40, 1)
    fitted, test = train_model(SIGNATURE, config, task, *data, 0, budget), of_random_inputs(80, 2)
    right = ((fitted.predict(test.pairs)[:, 0] > 0) == (test.labels["label"] > 0.5)).float().mean()
    assert right > 0.9
    turned = regauge_pairs(test.pairs, torch.Generator().manual_seed(0), condition=10.0)
    torch.testing.assert_close(
        fitted.predict(turned), fitted.predict(test.pairs), atol=5e-3, rtol=0
    )


def test_gram_matrices_are_those_of_the_product_over_its_norm():
    model, batch = built("gl-net-shared").grams, updates(3, 8).pairs.to(torch.float64)
    for (U, V), maps, (entries, _) in zip(
        batch.groups, model.maps, model.grams(batch), strict=True
    ):
        product = U @ V.mT
        mapped = maps @ product
        norm = product.square().sum((-1, -2)).clamp(min=1e-20)
        G = mapped @ mapped.mT / norm[..., None, None]
        rows, columns = torch.triu_indices(*G.shape[-2:])
        torch.testing.assert_close(entries, G[..., rows, columns])
    with torch.no_grad():
        torch.testing.assert_close(model(batch), model(batch.scaled(-3.0)))
