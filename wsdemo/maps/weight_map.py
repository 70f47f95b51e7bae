"""Maps of weight space: where instances lie, their neighbours, new points, clusters, directions.

A map checkpoint (train/maps.py) holds, for fitted faces or shapes that the app's models were
trained on and for held-out ones, two-dimensional positions (t-SNE, PCA) and principal
coordinates of their weights for several representations, and labels. What a point decodes to
comes from the coordinates of the app's own representation.
"""

from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from wsdemo.analysis.clusters import check_labels, discriminate
from wsdemo.checkpoints import DIRECTORY, load_checkpoint
from wsdemo.domains import pipelines, shape_pipelines
from wsdemo.errors import WsdemoError
from wsdemo.fields.adapters import Adapter
from wsdemo.fields.canonical import regauge
from wsdemo.fields.instance import Instance
from wsdemo.generate.diffusion import WeightDiffusion
from wsdemo.limits import MAX_SEED
from wsdemo.media.meshes import Mesh, Pose

MAPS = ("faces", "shapes")
OWN = "mlora-asym"
"""The app's own representation, which new points are placed by and points decoded from."""
PLACED_BY = 5
"""Nearest points whose positions, weighted by their nearness, place a new one."""


@dataclass(frozen=True)
class WeightMap:
    """A map.

    Attributes:
        name: ``faces`` or ``shapes``.
        names: n names of instances.
        is_held_out: (n,) bool, whether no model has seen the instance.
        labels: (n, a) uint8, 0 or 1.
        label_names: The a columns: attributes, or categories.
        positions: Representation → {"t-SNE", "PCA"} → (n, 2) float; NaN for instances that were
            not fitted in it.
        coordinates: Representation → (n, K) principal coordinates of the weights, NaN likewise.
        own: (n, c) whitened principal coordinates of the app's model, which decode.
        model: The weight diffusion model whose prior they belong to.
        directions: (a, c) change of ``own`` per label, the other labels held; faces only.
        spread: Median distance of two held-out instances in FaceAttr-64 features; faces only.
    """

    name: str
    names: tuple[str, ...]
    is_held_out: Tensor
    labels: Tensor
    label_names: tuple[str, ...]
    positions: dict[str, dict[str, Tensor]]
    coordinates: dict[str, Tensor]
    own: Tensor
    model: WeightDiffusion
    directions: Tensor | None
    spread: float

    def __len__(self) -> int:
        return len(self.names)

    @property
    def classes(self) -> Tensor:
        """(n,) the category of every shape."""
        return self.labels.float().argmax(1)

    def covered(self, representation: str) -> Tensor:
        """(n,) bool, which instances were fitted in a representation."""
        return self.coordinates[representation][:, 0].isfinite()

    def weights(self, index: int) -> Tensor:
        """(D,) the weights of a point, within the stored principal directions."""
        return self.model.prior.from_coordinates(self.own[index : index + 1])[0]


@cache
def weight_map(name: str) -> WeightMap:
    """The shipped map of a set.

    Raises:
        WsdemoError: There is none, or it belongs to another version of the model.
    """
    if name not in MAPS:
        raise WsdemoError(
            "Unknown map", f"Found {name[:40]!r}; expected {' or '.join(MAPS)}.", "Choose one."
        )
    is_faces = name == "faces"
    model = pipelines.face_diffusion() if is_faces else shape_pipelines.shape_diffusion(name)
    tensors, meta = load_checkpoint(DIRECTORY / f"{name}-map.safetensors")
    if meta["prior"] != model.prior_hash:
        raise WsdemoError(
            "Checkpoints do not match",
            f"{name}-map belongs to another version of {name}-diffusion.",
            "Take both from the same revision, or run train/maps.py again.",
        )
    stored, _ = pipelines.neighbours_of(model, f"{name}-neighbours")
    trained = stored["coordinates"].float()[tensors["training_index"].long()]
    own = torch.cat([trained, tensors["held_out"].float()])
    representations = meta["representations"]

    def spread_out(representation: str, key: str) -> Tensor:
        values = tensors[f"{representation}.{key}"].float()
        if f"{representation}.index" not in tensors:
            return values
        every = torch.full((len(own), values.shape[1]), float("nan"))
        every[tensors[f"{representation}.index"].long()] = values
        return every

    return WeightMap(
        name,
        tuple(meta["names"]),
        torch.arange(len(own)) >= len(trained),
        tensors["labels"],
        tuple(meta["label_names"]),
        {r: {kind: spread_out(r, kind) for kind in ("t-SNE", "PCA")} for r in representations},
        {r: spread_out(r, "coordinates") for r in representations},
        own,
        model,
        tensors["directions"].float() if "directions" in tensors else None,
        float(meta.get("spread", 1.0)),
    )


def check_representation(found: WeightMap, representation: str) -> None:
    """Raises WsdemoError unless a map knows a representation."""
    if representation not in found.coordinates:
        raise WsdemoError(
            "Not on this map",
            f"Found {representation[:40]!r}; the map of {found.name} has"
            f" {', '.join(found.coordinates)}.",
            "Choose one of those.",
        )


def check_point(found: WeightMap, index: int) -> None:
    """Raises WsdemoError unless a map has a point of that number."""
    if not 0 <= index < len(found):
        raise WsdemoError(
            "No such point", f"Found {index}; the map has {len(found):,}.", "Click a point."
        )


# ---- points ---------------------------------------------------------------------------


def point_instance(found: WeightMap, index: int) -> Instance:
    """A point as an instance, as Fit and Sample use it."""
    check_point(found, index)
    weights = found.weights(index)
    if found.name == "faces":
        return pipelines.face_instance(found.model.adapter, weights, {})
    return shape_pipelines.shape_instance(found.name, found.model.adapter, weights, {}, Pose())


def point_faces(found: WeightMap, index: list[int], size: int = pipelines.SIZE) -> Tensor:
    """Decodes points of the faces' map: (n, 3, size, size) uint8."""
    weights = torch.stack([found.weights(i) for i in index])
    return pipelines.render_faces(weights, found.model.adapter, size)


def point_shape(found: WeightMap, index: int) -> Mesh:
    """Decodes a point of the shapes' map at preview resolution."""
    weights = found.weights(index)
    return shape_pipelines.decode_shape(weights, found.model.adapter, shape_pipelines.PREVIEW)


def nearest_points(
    found: WeightMap, representation: str, index: int, count: int = 8
) -> list[tuple[int, float]]:
    """The points whose weights lie nearest to a point's: (point, distance), nearest first."""
    check_representation(found, representation)
    check_point(found, index)
    x, covered = found.coordinates[representation], found.covered(representation)
    if not covered[index]:
        raise WsdemoError(
            "Not fitted in this representation",
            f"{found.names[index]} has no weights of {representation}; {int(covered.sum()):,} of"
            f" {len(found):,} instances have.",
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


def place(found: WeightMap, instance: Instance, kind: str = "t-SNE", count: int = 8) -> Placed:
    """Places an instance by its nearest points in weight space.

    Raises:
        WsdemoError: It is of another base or representation than the map's points, its factors
            are canonical, or ``count`` is not 1 to the number of points.
    """
    pipelines.check_range("count", count, 1, len(found))
    own, config = found.model.adapter.config, instance.adapter.config
    expected = f"{found.name}-base"
    if instance.base_name != expected or config != own:
        raise WsdemoError(
            "Not on this map",
            f"The instance is {config.representation} of rank {config.rank} (seed {config.seed},"
            f" start {config.start}) on {instance.base_name}; this map shows"
            f" {own.representation} of rank {own.rank} (seed {own.seed}, start {own.start}) on"
            f" {expected}.",
            "Fit it with the default settings, or choose the other map.",
        )
    pipelines.check_fitted(instance)
    x = found.model.prior.coordinates(instance.weights[None], found.own.shape[1])
    # Plain distance of standardised weights, within the stored directions.
    spread = found.model.prior.variances[: found.own.shape[1]].sqrt()
    distance = ((found.own - x) * spread).norm(dim=1)
    best = distance.topk(max(count, PLACED_BY), largest=False)
    nearest = list(zip(best.indices.tolist(), best.values.tolist(), strict=True))[:count]
    weight = 1 / (best.values[:PLACED_BY] + 1e-6)
    spots = found.positions[OWN][kind][best.indices[:PLACED_BY]]
    spot = (spots * (weight / weight.sum())[:, None]).sum(0)
    stored, _ = pipelines.neighbours_of(found.model, f"{found.name}-neighbours")
    trained = distance[~found.is_held_out]
    share = (stored["held_out_distances"] < trained.min()).float().mean()
    return Placed((float(spot[0]), float(spot[1])), tuple(nearest), 100 * float(share))


# ---- clusters ---------------------------------------------------------------------------


def cluster_figures(
    found: WeightMap, representation: str, label: str | None = None
) -> dict[str, object]:
    """Clustering and discrimination of a map's held-out points, computed now.

    Args:
        found: The map.
        representation: Whose coordinates.
        label: An attribute (faces only); shapes are told apart by their categories.

    Returns:
        What ``discriminate`` measures, how many instances it was measured on, and the classes;
        ``without_held_out`` are those that no held-out instance belongs to.

    Raises:
        WsdemoError: Unknown representation or label, a label for shapes, or too few of a class.
    """
    check_representation(found, representation)
    if found.name == "faces":
        label = label or "Male"
        if label not in found.label_names:
            raise WsdemoError(
                "Unknown attribute",
                f"Found {label[:40]!r}; the map knows {', '.join(found.label_names)}.",
                "Choose one of those.",
            )
        y = found.labels[:, found.label_names.index(label)].long()
        classes = [label]
    elif label is not None:
        raise WsdemoError(
            "Unknown attribute",
            f"Found {label[:40]!r}; shapes have categories and no attributes.",
            "Leave the attribute out.",
        )
    else:
        y, classes = found.classes, list(found.label_names)
    covered = found.covered(representation)
    x, y = found.coordinates[representation][covered], y[covered]
    out = found.is_held_out[covered]
    check_labels(x[out], y[out])
    figures = discriminate(x[~out], y[~out], x[out], y[out])
    seen = set(y[out].tolist())
    return {
        "representation": representation,
        **{k: round(v, 4) for k, v in figures.items()},
        "count": int(out.sum()),
        "training_count": int((~out).sum()),
        "classes": classes,
        "without_held_out": []
        if found.name == "faces"
        else [n for k, n in enumerate(classes) if k not in seen],
    }


# ---- directions ---------------------------------------------------------------------------


def edit(
    found: WeightMap, instance: Instance, attribute: str, strength: float, is_debiased: bool = True
) -> Tensor:
    """(D,) weights of a face moved along an attribute's direction in weight space.

    ε′ = ε + s · d, where d is the change of the weights from a face without to one with the
    attribute, the 39 other attributes held fixed (least squares over the training faces).

    Args:
        found: The map of the faces.
        instance: What to edit: the map's representation on the map's base.
        attribute: One of the map's labels.
        strength: s; 1 is the mean difference between faces with and without.
        is_debiased: Whether the other attributes are held fixed; else the plain difference of
            the two means.

    Raises:
        WsdemoError: Unknown attribute, another representation, canonical factors, or a strength
            beyond 5.
    """
    pipelines.check_range("strength", strength, -5, 5)
    if found.directions is None or attribute not in found.label_names:
        raise WsdemoError(
            "Unknown attribute",
            f"Found {attribute[:40]!r}; expected one of {', '.join(found.label_names)}.",
            "Choose one of those.",
        )
    if instance.adapter.config != found.model.adapter.config or instance.domain != "image":
        config, given = found.model.adapter.config, instance.adapter.config
        raise WsdemoError(
            "Cannot be edited",
            f"The instance is {given.representation} of rank {given.rank} (seed {given.seed}, start"
            f" {given.start}) on {instance.base_name}; directions are known for"
            f" {config.representation} of rank {config.rank} (seed {config.seed}, start"
            f" {config.start}) on {found.name}-base.",
            "Fit the face as the training faces were (--comparable, or that preset).",
        )
    pipelines.check_fitted(instance)
    a = found.label_names.index(attribute)
    if is_debiased:
        d = found.directions[a]
    else:
        seen, y = ~found.is_held_out, found.labels[:, a].bool()
        d = found.own[seen & y].mean(0) - found.own[seen & ~y].mean(0)
    prior = found.model.prior
    moved = prior.from_coordinates(strength * d[None])[0] - prior.restore(torch.zeros(1, 1))[0]
    return instance.weights + moved


# ---- symmetries -------------------------------------------------------------------------

GAUGES = ("any R", "order of the ranks", "scale of each rank", "sign of each rank")
"""What can be changed in the factors of an instance without changing its field."""


def regauge_by(adapter: Adapter, instances: Tensor, gauge: str, seed: int) -> Tensor:
    """Re-factors (n, D) instances of mLoRA by one of GAUGES: (B R, R⁻¹ A), R random.

    Any R: what the representation leaves free (``regauge``). Else R is a permutation, or
    diagonal with entries in [0.5, 2] or ±1.

    Raises:
        WsdemoError: Unknown gauge, a seed out of range, or an order that a mask has fixed.
    """
    pipelines.check_range("seed", seed, 0, MAX_SEED)
    g = torch.Generator().manual_seed(seed)
    if gauge not in GAUGES:
        raise WsdemoError(
            "Unknown symmetry", f"Found {gauge[:40]!r}.", f"Choose one of: {', '.join(GAUGES)}."
        )
    if gauge == "any R":
        return regauge(adapter, instances, g)
    if gauge == "order of the ranks" and adapter.config.is_asymmetric:
        raise WsdemoError(
            "The mask has fixed the order",
            "Each rank has its own frozen zeros, and another order would move them.",
            "Choose mlora, or scale or sign.",
        )
    tensors, r = dict(adapter.tensors(instances)), adapter.config.rank
    for name, _, _ in adapter.field_config.layer_shapes():
        A, B = tensors[f"{name}.A"], tensors[f"{name}.B"]  # (n, r, d_in), (n, d_out, r)
        order, s = torch.arange(r), torch.ones(r)
        if gauge == "order of the ranks":
            order = torch.randperm(r, generator=g)
        elif gauge == "scale of each rank":
            s = 2 ** (2 * torch.rand(r, generator=g) - 1)
        else:
            s = torch.where(torch.rand(r, generator=g) < 0.5, -1.0, 1.0)
        tensors[f"{name}.A"] = A[:, order] / s[:, None]
        tensors[f"{name}.B"] = B[:, :, order] * s
    return adapter.flatten(tensors)
