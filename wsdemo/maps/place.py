"""Where instances lie among the points of a map: a point's neighbours, and a new one's place."""

from dataclasses import dataclass

from wsdemo.domains.instances import check_fitted
from wsdemo.domains.models import neighbours_of
from wsdemo.errors import WsdemoError, check_range
from wsdemo.fields.instance import Instance
from wsdemo.maps.weight_map import OWN, WeightMap, check_point, check_representation

PLACED_BY = 5
"""Nearest points whose positions, weighted by their nearness, place a new one."""


def nearest_points(
    map_: WeightMap, representation: str, index: int, count: int = 8
) -> list[tuple[int, float]]:
    """The points whose weights lie nearest to a point's: (point, distance), nearest first."""
    check_representation(map_, representation)
    check_point(map_, index)
    x, covered = map_.coordinates[representation], map_.covered(representation)
    if not covered[index]:
        raise WsdemoError(
            "Not fitted in this representation",
            f"{map_.names[index]} has no weights of {representation}; {int(covered.sum()):,} of"
            f" {len(map_):,} instances have.",
            f"Choose one of the points drawn, or {OWN}.",
        )
    distance = (x - x[index]).norm(dim=1).nan_to_num(float("inf"))
    distance[index] = float("inf")
    best = distance.topk(min(count, int(covered.sum()) - 1), largest=False)
    return list(zip(best.indices.tolist(), best.values.tolist(), strict=True))


@dataclass(frozen=True)
class Placed:
    """A new instance on a map.

    Attributes:
        position: (x, y) among the map's own positions.
        neighbours: (point, distance) of the nearest points, nearest first.
        percentile: Share of held-out instances that lie nearer to their nearest training
            instance, in %.
    """

    position: tuple[float, float]
    neighbours: tuple[tuple[int, float], ...]
    percentile: float


def place(map_: WeightMap, instance: Instance, kind: str = "t-SNE", count: int = 8) -> Placed:
    """Places an instance by its nearest points in weight space.

    Raises:
        WsdemoError: It is of another base or representation than the map's points, its factors
            are canonical, or ``count`` is not 1 to the number of points.
    """
    check_range("count", count, 1, len(map_))
    fitted_as, config = map_.model.adapter.config, instance.adapter.config
    expected = map_.domain.base_name
    if instance.base_name != expected or config != fitted_as:
        raise WsdemoError(
            "Not on this map",
            f"The instance is {config.representation} of rank {config.rank} (seed {config.seed},"
            f" start {config.start}) on {instance.base_name}; this map shows"
            f" {fitted_as.representation} of rank {fitted_as.rank} (seed {fitted_as.seed}, start"
            f" {fitted_as.start}) on {expected}.",
            "Fit it with the default settings, or choose the other map.",
        )
    check_fitted(instance)
    x = map_.model.prior.coordinates(instance.weights[None], map_.principal.shape[1])
    # Plain distance of standardised weights, within the stored directions.
    spread = map_.model.prior.variances[: map_.principal.shape[1]].sqrt()
    distance = ((map_.principal - x) * spread).norm(dim=1)
    best = distance.topk(max(count, PLACED_BY), largest=False)
    nearest = list(zip(best.indices.tolist(), best.values.tolist(), strict=True))[:count]
    weight = 1 / (best.values[:PLACED_BY] + 1e-6)
    spots = map_.positions[OWN][kind][best.indices[:PLACED_BY]]
    spot = (spots * (weight / weight.sum())[:, None]).sum(0)
    stored, _ = neighbours_of(map_.domain)
    trained = distance[~map_.is_held_out]
    share = (stored["held_out_distances"] < trained.min()).float().mean()
    return Placed((float(spot[0]), float(spot[1])), tuple(nearest), 100 * float(share))
