"""The shipped maps: points decode, new instances are placed, edits do what they say."""

import dataclasses
import itertools
import json

import pytest
import torch

from wsdemo.analysis.features import shipped_features
from wsdemo.cli import maps as cli_maps
from wsdemo.cli.main import main
from wsdemo.domains.faces import render_faces
from wsdemo.domains.instances import canonical, decode_one, open_instance
from wsdemo.domains.registry import mapped_names
from wsdemo.errors import WsdemoError
from wsdemo.fields.adapters import Adapter, AdapterConfig
from wsdemo.fields.base_files import shipped_base
from wsdemo.fields.gauges import GAUGES, canonicalise, regauge_by
from wsdemo.fields.instance import Instance
from wsdemo.maps.clusters import cluster_figures
from wsdemo.maps.edit import edit
from wsdemo.maps.place import nearest_points, place
from wsdemo.maps.walk import WalkStep
from wsdemo.maps.weight_map import OWN, point_instance, weight_map
from wsdemo.train.maps import attribute_directions, scaled


@pytest.fixture(scope="module")
def faces():
    return weight_map("faces")


@pytest.fixture(scope="module")
def shapes():
    return weight_map("shapes")


@pytest.mark.parametrize("name", mapped_names())
def test_a_map_is_whole(name):
    found = weight_map(name)
    assert len(found.names) == len(found.labels) == len(found.principal) == len(found)
    assert found.is_held_out.any()
    for representation, kinds in found.positions.items():
        assert found.coordinates[representation].shape[0] == len(found)
        for positions in kinds.values():
            assert positions.shape == (len(found), 2)
            assert positions[found.covered(representation)].abs().max() <= 1.001


def test_a_point_of_a_map_lies_where_it_is(faces):
    for index in (3, len(faces) - 3):
        placed = place(faces, point_instance(faces, index))
        assert placed.neighbours[0][0] == index
        spot = faces.positions[OWN]["t-SNE"][index]
        assert placed.position == pytest.approx(spot.tolist(), abs=0.02)
    training = place(faces, point_instance(faces, 3))
    assert training.percentile < 1


def test_held_out_shapes_are_told_apart_by_their_weights(shapes):
    figures = cluster_figures(shapes, "mlora-asym")
    assert figures["knn_accuracy"] > 0.85
    assert figures["logistic_accuracy"] > 0.85
    assert figures["count"] == int(shapes.is_held_out.sum())


def test_neighbours_by_weights_are_mostly_of_the_same_category(shapes):
    hits = total = 0
    for index in range(0, len(shapes), 50):
        near = nearest_points(shapes, OWN, index, 4)
        assert all(a[1] <= b[1] for a, b in itertools.pairwise(near))
        hits += sum(int(shapes.classes[i] == shapes.classes[index]) for i, _ in near)
        total += len(near)
    assert hits / total > 0.7


def test_other_representations_bases_and_points_are_refused(faces, shapes):
    base, meta = shipped_base("faces-base")
    adapter = Adapter(base, AdapterConfig("lora", 4, 0))
    other = Instance(adapter, adapter.start, "image", "faces-base", meta["hash"], 64, {})
    with pytest.raises(WsdemoError, match="lora of rank 4"):
        place(faces, other)
    with pytest.raises(WsdemoError, match="shapes-base"):
        place(shapes, point_instance(faces, 0))
    with pytest.raises(WsdemoError, match="the map of shapes has"):
        cluster_figures(shapes, "nonsense")
    with pytest.raises(WsdemoError, match="Unknown attribute"):
        cluster_figures(faces, OWN, "Nonsense")
    with pytest.raises(WsdemoError, match="No such point"):
        point_instance(faces, len(faces))
    with pytest.raises(WsdemoError, match="Unknown map"):
        weight_map("cars")


def test_instances_that_were_not_fitted_in_a_representation_are_left_out(faces):
    """Half of the points lack one representation: neighbours, clusters, drawing."""
    half = torch.arange(len(faces)) % 2 == 0
    x = faces.coordinates[OWN].clone()
    spots = {k: v.clone() for k, v in faces.positions[OWN].items()}
    for values in (x, *spots.values()):
        values[~half] = float("nan")
    found = dataclasses.replace(
        faces,
        coordinates={**faces.coordinates, "partly": x},
        positions={**faces.positions, "partly": spots},
    )
    assert torch.equal(found.covered("partly"), half)
    near = nearest_points(found, "partly", 4, 20)
    assert all(half[i] for i, _ in near)
    everyone = [i for i, _ in nearest_points(found, OWN, 4, 100) if half[i]]
    assert [i for i, _ in near] == everyone[:20]
    with pytest.raises(WsdemoError, match="no weights of partly"):
        nearest_points(found, "partly", 5)
    figures = cluster_figures(found, "partly", "Male")
    assert figures["count"] + figures["training_count"] == int(half.sum())
    assert figures["logistic_accuracy"] > 0.8


def test_an_edit_moves_its_attribute_and_nothing_at_strength_zero(faces):
    network, names = shipped_features()
    smiling = names.index("Smiling")
    before, after = [], []
    for index in range(len(faces) - 40, len(faces)):
        instance = point_instance(faces, index)
        moved = edit(faces, instance, "Smiling", 2.0)
        before.append(instance.weights)
        after.append(moved)
    same = edit(faces, instance, "Smiling", 0.0)
    torch.testing.assert_close(same, instance.weights, atol=1e-4, rtol=1e-4)
    with torch.no_grad():
        logits = [
            network(render_faces(torch.stack(w), instance.adapter).float() / 127.5 - 1)
            for w in (before, after)
        ]
    change = (logits[1] - logits[0]).mean(0)
    assert change[smiling] > 1.0
    assert change[names.index("Male")].abs() < change[smiling]


def test_each_symmetry_alone_leaves_the_picture_and_the_canonical_form(faces):
    weights = faces.weights(len(faces) - 1)[None]
    base, _ = shipped_base("faces-base")
    for representation in ("mlora", "mlora-asym"):
        adapter = Adapter(base, AdapterConfig(representation, 8, 0))
        shown, fixed = render_faces(weights, adapter), canonicalise(adapter, weights)
        for gauge in GAUGES:
            if gauge == "order of the ranks" and representation == "mlora-asym":
                with pytest.raises(WsdemoError, match="mask has fixed the order"):
                    regauge_by(adapter, weights, gauge, 1)
                continue
            turned = regauge_by(adapter, weights, gauge, 1)
            assert (turned - weights).norm() > 0.1 * weights.norm()
            assert (render_faces(turned, adapter).int() - shown.int()).abs().max() <= 1
            torch.testing.assert_close(canonicalise(adapter, turned), fixed, atol=2e-3, rtol=1e-2)
    for seed in (-1, 10**30):
        with pytest.raises(WsdemoError, match="seed is"):
            regauge_by(adapter, weights, GAUGES[0], seed)


def test_a_place_does_not_depend_on_how_many_neighbours_are_asked_for(faces):
    instance = point_instance(faces, len(faces) - 1)
    one, many = place(faces, instance, count=1), place(faces, instance, count=50)
    assert one.position == many.position
    assert (len(one.neighbours), len(many.neighbours)) == (1, 50)
    for count in (-1, 0, len(faces) + 1):
        with pytest.raises(WsdemoError, match="count is"):
            place(faces, instance, count=count)


def test_classes_that_cannot_be_measured_are_stated(shapes):
    chosen = shapes.classes != 3  # no gun among the held-out shapes
    kept = chosen | ~shapes.is_held_out
    x = shapes.coordinates[OWN].clone()
    x[~kept] = float("nan")
    found = dataclasses.replace(shapes, coordinates={OWN: x})
    assert cluster_figures(found, OWN)["without_held_out"] == [shapes.label_names[3]]
    with pytest.raises(WsdemoError, match="shapes have categories"):
        cluster_figures(shapes, OWN, "Male")


def test_edits_beyond_what_is_known_are_refused(faces):
    instance = point_instance(faces, 0)
    for attribute, strength in (("Nonsense", 1.0), ("Smiling", 50.0), ("Smiling", float("nan"))):
        with pytest.raises(WsdemoError):
            edit(faces, instance, attribute, strength)
    shape = dataclasses.replace(instance, domain="sdf")
    with pytest.raises(WsdemoError, match="Cannot be edited"):
        edit(faces, shape, "Smiling", 1.0)
    with pytest.raises(WsdemoError, match="expected -5 to 5"):
        edit(faces, instance, "Smiling", -9.0)


def test_directions_hold_other_labels_fixed():
    """A label that always comes with another gets none of the other's effect."""
    g = torch.Generator().manual_seed(0)
    a = (torch.rand(4000, generator=g) < 0.5).float()
    b = torch.where(torch.rand(4000, generator=g) < 0.9, a, 1 - a)
    effect = torch.randn(6, generator=g)
    x = a[:, None] * effect + 0.1 * torch.randn(4000, 6, generator=g)
    found = attribute_directions(x, torch.stack([a, b], 1))
    torch.testing.assert_close(found[0], effect, atol=0.03, rtol=0)
    assert found[1].abs().max() < 0.03
    plain = x[b == 1].mean(0) - x[b == 0].mean(0)
    assert plain.abs().max() > 0.3


def test_positions_are_scaled_to_the_unit_square():
    positions = scaled(torch.tensor([[0.0, 5.0], [10.0, 6.0]]))
    assert positions.abs().max() == 1.0


def test_the_command_line_measures_places_walks_and_edits(tmp_path, capsys, faces):
    a, b = tmp_path / "a.safetensors", tmp_path / "b.safetensors"
    point_instance(faces, 10).save(a)
    point_instance(faces, 20).save(b)
    assert main(["clusters", "shapes", "--representation", "mlora", "--json"]) == 0
    assert set(json.loads(capsys.readouterr().out)) >= {
        "representation", "ari", "nmi", "knn_accuracy", "logistic_accuracy", "count", "classes",
    }  # fmt: skip
    assert main(["neighbours", str(a), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["neighbours"][0]["name"] == faces.names[10]
    out = tmp_path / "walk"
    assert main(["walk", str(a), str(b), "--steps", "3", "--out", str(out), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert len(found["files"]) == len(list(out.iterdir())) == 3
    assert found["steps"][0]["to_first"] == found["steps"][2]["to_second"] == 0
    assert found["steps"][1]["to_first"] > 0
    edited = tmp_path / "c.safetensors"
    command = ["edit", str(a), "--attribute", "Smiling", "--strength", "1.5", "--out", str(edited)]
    assert main([*command, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["identity_change"] > 0
    assert open_instance(edited).weights.shape == faces.weights(0).shape
    assert main(["walk", str(a), str(a), "--steps", "1", "--json"]) == 2


def test_what_the_command_line_refuses_leaves_nothing_behind(tmp_path, capsys, faces):
    a = tmp_path / "a.safetensors"
    point_instance(faces, 10).save(a)
    before = a.read_bytes()
    broken = dataclasses.replace(
        point_instance(faces, 11), weights=torch.full_like(faces.weights(11), 1e30)
    )
    b = tmp_path / "b.safetensors"
    broken.save(b)
    fixed = tmp_path / "c.safetensors"
    canonical(point_instance(faces, 10)).save(fixed)
    command = ["edit", "--attribute", "Smiling", "--json", "--out"]
    refused = [
        ([*command, str(tmp_path / "x.png"), str(a)], "ends in .safetensors"),
        ([*command, str(a), str(a)], "is the input"),
        ([*command, str(tmp_path / "y.safetensors"), str(b)], "not finite"),
        ([*command, str(tmp_path / "z.safetensors"), str(fixed)], "canonical factors"),
        (["neighbours", str(fixed), "--json"], "canonical factors"),
        (["walk", str(a), str(fixed), "--json"], "factors as fitted; the other has factors canon"),
        (["neighbours", str(a), "--count", "-1", "--json"], "expected 1 to 5000"),
        (["neighbours", str(a), "--count", "100000", "--json"], "expected 1 to 5000"),
        (["clusters", "shapes", "--attribute", "Male", "--json"], "no attributes"),
    ]
    for given, reason in refused:
        assert main(given) == 2
        assert reason in json.loads(capsys.readouterr().out)["error"]["message"]
    assert a.read_bytes() == before
    assert sorted(p.name for p in tmp_path.iterdir()) == [a.name, b.name, fixed.name]


def test_a_step_without_surface_is_null_on_the_command_line(tmp_path, capsys, shapes, monkeypatch):
    ends = {"to_first": 0.001, "to_second": 0.5}
    steps = [
        WalkStep(0.0, decode_one(point_instance(shapes, 0), resolution=64), ends),
        WalkStep(0.5, None, {}),
    ]
    monkeypatch.setattr(cli_maps, "walk", lambda *_: iter(steps))
    a = tmp_path / "a.safetensors"
    point_instance(shapes, 0).save(a)
    assert main(["walk", str(a), str(a), "--out", str(tmp_path / "w"), "--json"]) == 0
    printed = capsys.readouterr().out
    found = json.loads(printed, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    assert found["steps"][1] == {"share": 0.5, "file": None, "to_first": None, "to_second": None}
    assert len(found["files"]) == 1
    assert "Chamfer" in found["loss"]
