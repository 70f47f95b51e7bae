"""How well the weights of a map's held-out points tell classes apart."""

from wsdemo.analysis.clusters import check_labels, discriminate
from wsdemo.errors import WsdemoError
from wsdemo.maps.weight_map import WeightMap, check_representation


def cluster_figures(
    map_: WeightMap, representation: str, label: str | None = None
) -> dict[str, object]:
    """Clustering and discrimination of a map's held-out points, computed now.

    Args:
        map_: The map.
        representation: Whose coordinates.
        label: Which one, unless they exclude each other; default: the domain's usual one.

    Returns:
        What ``discriminate`` measures, how many instances it was measured on, and the classes;
        ``without_held_out`` are those that no held-out instance belongs to.

    Raises:
        WsdemoError: Unknown representation or label, a label where they exclude each other, or
            too few of a class.
    """
    check_representation(map_, representation)
    labels = map_.domain.labels
    if not labels.are_exclusive:
        label = label or labels.usual
        if label not in map_.label_names:
            raise WsdemoError(
                "Unknown attribute",
                f"Found {label[:40]!r}; the map knows {', '.join(map_.label_names)}.",
                "Choose one of those.",
            )
        y = map_.labels[:, map_.label_names.index(label)].long()
        classes = [label]
    elif label is not None:
        raise WsdemoError(
            "Unknown attribute",
            f"Found {label[:40]!r}; {map_.domain.many} have {labels.many} and no attributes.",
            "Leave the attribute out.",
        )
    else:
        y, classes = map_.classes, list(map_.label_names)
    covered = map_.covered(representation)
    x, y = map_.coordinates[representation][covered], y[covered]
    out = map_.is_held_out[covered]
    check_labels(x[out], y[out])
    figures = discriminate(x[~out], y[~out], x[out], y[out])
    seen = set(y[out].tolist())
    return {
        "representation": representation,
        **{k: round(v, 4) for k, v in figures.items()},
        "count": int(out.sum()),
        "training_count": int((~out).sum()),
        "classes": classes,
        "without_held_out": [n for k, n in enumerate(classes) if k not in seen]
        if labels.are_exclusive
        else [],
    }
