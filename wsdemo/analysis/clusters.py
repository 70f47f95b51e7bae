"""Structure of weight space: clustering and discrimination of instances by their weights.

Paper A's discriminative table: k-means (ARI), 1-NN by cosine, logistic regression; also NMI
and retrieval. Weights are centred on the training mean, and reduced to principal coordinates:
distances are kept, and 1,000 instances span no more than 1,000 directions. scikit-learn is imported
where it measures: the app, which imports this, would take a second longer to start.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from wsdemo.errors import WsdemoError
from wsdemo.generate.principal import principal_directions


@dataclass(frozen=True)
class Principal:
    """Principal coordinates of weights.

    Attributes:
        mean: (D,) of the training weights.
        basis: (D, K) orthonormal directions.
    """

    mean: Tensor
    basis: Tensor

    @classmethod
    def fit(cls, weights: Tensor, count: int) -> "Principal":
        """The leading directions of (n, D) weights, at most n − 1."""
        mean = weights.mean(0)
        _, basis = principal_directions((weights - mean).double(), count)
        return cls(mean, basis.float())

    def __call__(self, weights: Tensor) -> Tensor:
        """(n, D) weights → (n, K)."""
        return (weights - self.mean) @ self.basis


def check_labels(weights: Tensor, labels: Tensor, per_class: int = 2) -> None:
    """Refuses what cannot be measured.

    Raises:
        WsdemoError: Values that are not finite, one class only, or a class that is too small.
    """
    if not bool(torch.isfinite(weights).all()):
        bad = int((~torch.isfinite(weights).all(1)).sum())
        raise WsdemoError(
            "Weights are not finite", f"{bad} of {len(weights)} instances.", "Leave them out."
        )
    classes, counts = labels.unique(return_counts=True)
    smallest = int(counts.min()) if len(counts) else 0
    if len(classes) < 2 or smallest < per_class:
        raise WsdemoError(
            "Too few of a class",
            f"Found {len(classes)} classes, the smallest with {smallest} instances; expected at"
            f" least 2 classes of {per_class}.",
            "Choose another selection.",
        )


def nearest_by_cosine(queries: Tensor, references: Tensor, count: int) -> Tensor:
    """(n, count) indices of the references nearest to queries (n, d) by cosine, best first."""
    q, r = (
        torch.nn.functional.normalize(queries, dim=1),
        torch.nn.functional.normalize(references, dim=1),
    )
    return (q @ r.T).topk(count, dim=1).indices


def retrieval_map(
    queries: Tensor, references: Tensor, of_query: Tensor, of_reference: Tensor
) -> float:
    """Mean average precision of ranking references (m, d) for queries (n, d) by cosine."""
    order = nearest_by_cosine(queries, references, len(references))
    hits = (of_reference[order] == of_query[:, None]).double()
    precision = hits.cumsum(1) / torch.arange(1, hits.shape[1] + 1)
    return float(((precision * hits).sum(1) / hits.sum(1).clamp(min=1)).mean())


def cluster_agreement(x: Tensor, labels: Tensor, seeds: int = 3) -> tuple[float, float]:
    """ARI and NMI of k-means with as many clusters as classes: means over seeds."""
    from sklearn.cluster import KMeans
    from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

    check_labels(x, labels)
    k = len(labels.unique())
    truth = labels.numpy()
    clusterings = [
        KMeans(k, n_init=10, random_state=s).fit_predict(x.numpy().astype(np.float64))
        for s in range(seeds)
    ]
    ari = float(np.mean([adjusted_rand_score(truth, f) for f in clusterings]))
    return ari, float(np.mean([normalized_mutual_info_score(truth, f) for f in clusterings]))


def logistic() -> object:
    """Multinomial logistic regression on standardised coordinates."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return make_pipeline(StandardScaler(), LogisticRegression(C=0.05, max_iter=2000))


def discriminate(
    train: Tensor, train_labels: Tensor, test: Tensor, test_labels: Tensor
) -> dict[str, float]:
    """How well classes can be told apart by weights.

    Args:
        train: (n, d) principal coordinates, with labels (n,).
        test: (m, d) of held-out instances, with labels (m,).

    Returns:
        In [0, 1]: ``ari`` and ``nmi`` of k-means on the held-out instances,
        ``knn_accuracy`` (1-NN by cosine, held-out against training), ``logistic_accuracy``
        (trained on training instances), ``cross_validated`` (5 folds of the training
        instances), ``retrieval_map``.
    """
    from sklearn.model_selection import StratifiedKFold, cross_val_score

    check_labels(train, train_labels, per_class=5)
    ari, nmi = cluster_agreement(test, test_labels)
    nearest = nearest_by_cosine(test, train, 1)[:, 0]
    model = logistic().fit(train.numpy(), train_labels.numpy())  # type: ignore[attr-defined]
    folds = StratifiedKFold(5, shuffle=True, random_state=0)
    crossed = cross_val_score(logistic(), train.numpy(), train_labels.numpy(), cv=folds)
    return {
        "ari": ari,
        "nmi": nmi,
        "knn_accuracy": float((train_labels[nearest] == test_labels).double().mean()),
        "logistic_accuracy": float(model.score(test.numpy(), test_labels.numpy())),
        "cross_validated": float(crossed.mean()),
        "retrieval_map": retrieval_map(test, train, test_labels, train_labels),
    }
