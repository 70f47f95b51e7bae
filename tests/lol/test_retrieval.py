"""Neighbours by cosine, and recall against labels."""

import math

import pytest
import torch

from wsdemo.lol.predictor.retrieval import alike_by_sources, nearest, recall_at_k


def test_the_nearest_are_those_of_largest_cosine_whatever_their_length():
    library = torch.tensor([[1.0, 0.0], [0.0, 5.0], [3.0, 3.0]])
    cosines, places = nearest(torch.tensor([[0.1, 0.0]]), library, 2)
    assert places.tolist() == [[0, 2]]
    torch.testing.assert_close(cosines, torch.tensor([[1.0, 0.5**0.5]]))


def test_recall_counts_relevant_others_among_the_nearest():
    angle = torch.tensor([0.0, 0.1, 0.25, 1.5, 1.65])
    embeddings = torch.stack([angle.cos(), angle.sin()], 1)
    group = torch.tensor([0, 0, 1, 1, 2])
    relevant = group[:, None] == group[None]
    # The nearest others are 1, 0, 1, 4 and 3; the last LoRA has none alike and does not count.
    assert recall_at_k(embeddings, relevant, 1) == pytest.approx(0.5)
    assert recall_at_k(embeddings, relevant, 4) == 1.0
    assert math.isnan(recall_at_k(embeddings, torch.zeros(5, 5, dtype=torch.bool), 2))


def test_sets_are_alike_that_share_half_of_their_union():
    has = torch.tensor([[1, 1, 0], [1, 0, 0], [0, 0, 1]])
    assert alike_by_sources(has).tolist() == [
        [True, True, False], [True, True, False], [False, False, True],
    ]  # fmt: skip
