"""Principal directions are scikit-learn's, from more vectors than entries and from fewer."""

import pytest
import torch
from sklearn.decomposition import PCA

from wsdemo.generate.principal import principal_directions


@pytest.mark.parametrize(("n", "D"), [(12, 40), (60, 9)])
def test_directions_and_sums_of_squares_are_those_of_a_pca(n, D):
    g = torch.Generator().manual_seed(0)
    x = torch.randn(n, D, generator=g, dtype=torch.float64) * torch.linspace(1, 4, D)
    x = x - x.mean(0)
    squares, basis = principal_directions(x, 5)
    known = PCA(5, svd_solver="full").fit(x.numpy())
    assert squares.numpy() == pytest.approx(known.explained_variance_ * (n - 1))
    alike = (basis.T @ torch.from_numpy(known.components_).T).diagonal().abs()
    torch.testing.assert_close(alike, torch.ones(5, dtype=torch.float64))
    torch.testing.assert_close(basis.T @ basis, torch.eye(5, dtype=torch.float64))


def test_there_are_no_more_directions_than_vectors_allow():
    squares, basis = principal_directions(torch.randn(4, 20), 10)
    assert squares.shape == (3,)
    assert basis.shape == (20, 3)
