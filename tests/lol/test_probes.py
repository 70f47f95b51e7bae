"""Gradient probes: what they read, what they ignore, and that a model learns from few LoRAs."""

import pytest
import torch

from wsdemo.errors import WsdemoError
from wsdemo.lol.data.canonical import canonical
from wsdemo.lol.data.pairs import Pairs, Signature, regauge_pairs
from wsdemo.lol.data.probes import Probes, load_probes, probed_spectrum, save_probes
from wsdemo.lol.data.tasks import LabelledLoras, Task
from wsdemo.lol.models.fitting import Budget, train_model
from wsdemo.lol.models.networks import build_model
from wsdemo.lol.models.parts import ModelConfig
from wsdemo.lol.models.probes import PROBED, texts_of
from wsdemo.lol.predictor.answers import weakened
from wsdemo.lol.predictor.envelope import Envelope, log_norm, spectrum_features

SHAPES = {"q_proj": (12, 10), "v_proj": (6, 10), "down_proj": (10, 16)}
LAYERS = 4
SIGNATURE = Signature({f"layers.{i}.{k}": s for i in range(LAYERS) for k, s in SHAPES.items()})
TEXTS = ("maths", "law", "verse", "code")
LOSSES = tuple(f"loss {name}" for name in TEXTS)


def probes(seed: int = 0) -> Probes:
    g = torch.Generator().manual_seed(seed)
    groups = [
        (
            torch.randn(len(names), len(TEXTS), n, generator=g),
            torch.nn.functional.normalize(
                torch.randn(len(names), len(TEXTS), m, generator=g), dim=-1
            ),
        )
        for (n, m), names in SIGNATURE.groups
    ]
    return Probes(TEXTS, tuple(groups))


def loras(count: int, seed: int, rank: int = 3) -> LabelledLoras:
    """Steps down some texts' gradients, seen through a random A, with kinds missing at times."""
    g, own = torch.Generator().manual_seed(seed), probes()
    has = (torch.rand(count, len(TEXTS), generator=g) < 0.5).float()
    strength = 0.1 + torch.rand(count, 1, 1, 1, generator=g)
    groups = []
    for (n, m), names in SIGNATURE.groups:
        V = torch.randn(count, len(names), m, rank, generator=g) / m**0.5
        u, v = own.groups[len(groups)]
        gradient = torch.einsum("nt,ltp,ltq->nlpq", has, u, v)
        there = torch.rand(count, 1, 1, 1, generator=g) < 0.8 if n == 12 else torch.tensor(True)
        groups.append((-strength * there * (gradient @ V), V))
    pairs = Pairs(tuple(groups))
    change = own.changes(pairs).sum(1)
    labels = {f"loss {t}": change[:, i].asinh() for i, t in enumerate(TEXTS)}
    labels |= {f"has {t}": has[:, i] for i, t in enumerate(TEXTS)}
    labels["size"] = has.sum(1) + 0.1 * torch.randn(count, generator=g)
    return LabelledLoras(pairs, labels, tuple(f"{seed}-{i}" for i in range(count)))


def test_a_probe_is_the_product_of_a_gradient_of_rank_one_and_the_update() -> None:
    own, pairs = probes(), loras(3, 1).pairs
    changes, start = own.changes(pairs), 0
    for (U, V), (u, v) in zip(pairs.groups, own.groups, strict=True):
        update, gradient = U @ V.mT, u[..., :, None] * v[..., None, :]
        expected = torch.einsum("nlpq,ltpq->nlt", update, gradient)
        found = changes[:, start : start + U.shape[1]]
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)
        start += U.shape[1]


def test_what_is_read_is_the_same_for_every_factorisation_and_scales_with_the_update() -> None:
    own, pairs = probes(), loras(5, 2).pairs
    read = own.read(pairs).groups[0][0]
    turned = regauge_pairs(pairs, torch.Generator().manual_seed(0), condition=10.0)
    for equal in (turned, pairs.padded(7), canonical(pairs)):
        torch.testing.assert_close(own.read(equal).groups[0][0], read, atol=1e-4, rtol=1e-3)
    weaker = own.read(pairs.scaled(0.3)).groups[0][0]
    torch.testing.assert_close(weaker, 0.3 * read, atol=1e-5, rtol=1e-4)
    one = pairs.pick(slice(0, 1))
    whole, reduced = own.read(weakened(one)), weakened(own.read(one))
    torch.testing.assert_close(whole.groups[0][0], reduced.groups[0][0], atol=1e-5, rtol=1e-4)
    again = own.read(pairs)
    assert own.read(again) is again


def test_what_is_read_keeps_norms_and_effective_ranks() -> None:
    pairs = loras(5, 3).pairs
    norm, rank = probed_spectrum(probes().read(pairs))
    expected = spectrum_features(pairs)
    torch.testing.assert_close(log_norm(norm), expected[:, : norm.shape[1]], atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(rank, expected[:, norm.shape[1] :], atol=1e-3, rtol=1e-3)


def test_probes_are_kept_by_canonical_name_and_missing_ones_are_named(tmp_path) -> None:
    own, path = probes(), tmp_path / "probes.safetensors"
    spelt = {name: canonical for canonical, name in SIGNATURE.spellings.items()}
    modules = {
        spelt[name]: (u[i], v[i])
        for (_, names), (u, v) in zip(SIGNATURE.groups, own.groups, strict=True)
        for i, name in enumerate(names)
    }
    save_probes(path, TEXTS, modules)
    found = load_probes(path, SIGNATURE)
    assert found.names == TEXTS
    torch.testing.assert_close(found.groups, own.groups)
    del modules[spelt["layers.1.v_proj"]]
    save_probes(path, TEXTS, modules)
    with pytest.raises(WsdemoError, match=r"1 of 12 modules.*v_proj"):
        load_probes(path, SIGNATURE)


@pytest.mark.parametrize(
    ("task", "least"),
    [
        (Task("losses", LOSSES, "regression"), 0.8),
        (Task("size", ("size",), "regression"), 0.5),
    ],
)
def test_labels_are_learnt_from_sixty_loras(task: Task, least: float) -> None:
    own = probes()
    config = ModelConfig(PROBED, len(task.labels), hidden=32, texts=texts_of(task.labels, own))
    train, validation, test = loras(60, 10), loras(20, 11), loras(80, 12)
    fitted = train_model(SIGNATURE, config, task, train, validation, 0, Budget(40), own)
    true = test.targets(task)
    error = (fitted.predict(test.pairs) - true).square().mean() / true.var(0).mean()
    assert 1 - float(error) > least
    read = fitted.predict(own.read(test.pairs))
    torch.testing.assert_close(read, fitted.predict(test.pairs), atol=1e-5, rtol=1e-5)


def test_labels_are_matched_to_texts_or_belong_to_the_whole_lora() -> None:
    assert texts_of(("loss code", "loss law"), probes()) == (3, 1)
    assert texts_of(("loss code", "size"), probes()) == ()
    with pytest.raises(ValueError, match="no probes"):
        build_model(SIGNATURE, ModelConfig(PROBED))


def test_the_envelope_compares_what_two_loras_both_change() -> None:
    pairs = loras(40, 20).pairs
    there = pairs.groups[0][0].flatten(1).any(1)
    assert 0 < int(there.sum()) < 40
    envelope = Envelope.fit(pairs, loras(20, 21).pairs, [str(i) for i in range(40)])
    features = spectrum_features(pairs)
    distances = envelope.distances(features)
    assert float(distances.diagonal().max()) < 0.05
    i, j = int(there.nonzero()[0]), int((~there).nonzero()[0])
    count = len(SIGNATURE)
    x = ((features - envelope.mean) / envelope.std).double()
    both = features[j, :count] > float(log_norm(torch.zeros(()))) + 1e-3
    shared = both.repeat(2)
    apart = 2 * int((~both).sum())
    expected = (x[i] - x[j])[shared].square().sum() + 4 * apart
    expected = (expected / (int(shared.sum()) + apart)).sqrt()
    assert float(distances[i, j]) == pytest.approx(float(expected), rel=1e-2)
