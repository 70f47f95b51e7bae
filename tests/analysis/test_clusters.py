"""Clustering and discrimination: against their definitions, and on what cannot be measured."""

import pytest
import torch
from sklearn.metrics import average_precision_score

from wsdemo.analysis.clusters import (
    Principal,
    check_labels,
    discriminate,
    nearest_by_cosine,
    retrieval_map,
)
from wsdemo.errors import WsdemoError


def blobs(count, spread, seed=0, classes=3, d=20):
    g = torch.Generator().manual_seed(seed)
    centres = torch.randn(classes, d, generator=torch.Generator().manual_seed(9))
    y = torch.arange(count) % classes
    return 3 * centres[y] + spread * torch.randn(count, d, generator=g), y


def test_classes_that_are_apart_are_found_and_noise_is_not():
    x, y = blobs(90, 0.3)
    z, u = blobs(60, 0.3, seed=1)
    found = discriminate(x, y, z, u)
    assert found["ari"] > 0.99
    assert found["knn_accuracy"] == found["logistic_accuracy"] == 1.0
    assert found["retrieval_map"] > 0.99
    g = torch.Generator().manual_seed(3)
    noise = discriminate(torch.randn(90, 20, generator=g), y, torch.randn(60, 20, generator=g), u)
    assert abs(noise["ari"]) < 0.15
    assert noise["knn_accuracy"] < 0.6


def test_principal_coordinates_keep_distances_and_centre_on_the_training_mean():
    x, _ = blobs(30, 1.0, d=50)
    principal = Principal.fit(x, 100)
    z = principal(x)
    assert z.shape == (30, 29)
    torch.testing.assert_close(torch.pdist(z), torch.pdist(x), atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(z.mean(0), torch.zeros(29), atol=1e-4, rtol=0)
    spread = z.std(0)
    assert bool((spread[:-1] >= spread[1:] - 1e-3).all())


def test_nearest_by_cosine_ignores_length():
    references = torch.tensor([[1.0, 0.0], [0.0, 5.0]])
    assert nearest_by_cosine(torch.tensor([[10.0, 1.0]]), references, 2).tolist() == [[0, 1]]


def test_retrieval_agrees_with_scikit_learn():
    x, y = blobs(40, 3.0)
    z, u = blobs(10, 3.0, seed=1)
    cosine = torch.nn.functional.normalize(z, dim=1) @ torch.nn.functional.normalize(x, dim=1).T
    expected = (
        sum(average_precision_score((y == u[i]).numpy(), cosine[i].numpy()) for i in range(10)) / 10
    )
    assert retrieval_map(z, x, u, y) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(
    ("x", "y", "said"),
    [
        (torch.ones(4, 2), torch.zeros(4), "1 classes"),
        (torch.ones(3, 2), torch.tensor([0, 0, 1]), "smallest with 1"),
        (torch.ones(0, 2), torch.zeros(0), "0 classes"),
        (torch.tensor([[float("nan"), 1.0], [1.0, 1.0]]), torch.tensor([0, 1]), "1 of 2"),
    ],
)
def test_what_cannot_be_measured_is_told(x, y, said):
    with pytest.raises(WsdemoError, match=said):
        check_labels(x, y)
