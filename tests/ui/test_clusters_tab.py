"""What the tab Clusters says and draws, without a browser."""

from pathlib import Path

import pytest
import torch

from wsdemo.domains.instances import canonical, decode_one, open_instance
from wsdemo.errors import WsdemoError
from wsdemo.maps.walk import WalkStep
from wsdemo.maps.weight_map import OWN, point_instance, weight_map
from wsdemo.ui.clusters import map_changes, map_walk, points, vary_tab


@pytest.fixture
def face(tmp_path):
    path = tmp_path / "face.safetensors"
    point_instance(weight_map("faces"), 4800).save(path)
    return str(path)


def test_a_dropped_instance_stays_on_the_map_when_a_control_changes(face):
    dropped = map_changes.drop(face, "faces", "t-SNE", "Male", False)
    chosen, yours = dropped[6:8]
    assert chosen == face
    for kind in ("t-SNE", "PCA"):
        value = map_changes.redraw("faces", OWN, kind, "Smiling", False, chosen, yours)
        spot = weight_map("faces").positions[OWN][kind][4800].tolist()
        (mark,) = value["marks"]
        assert (mark["x"], mark["y"]) == pytest.approx(spot, abs=0.02)
        assert value["selected"] == -1
    trail = [(0.0, 0.0), (0.1, 0.1)]
    fitted = map_changes.placed_in(face, trail, "shapes", "Male", False)
    assert fitted["name"] == "faces"
    assert fitted["first"] is None  # what was walked was of another set
    mine = fitted["chosen"], fitted["yours"]
    value = map_changes.redraw("faces", OWN, "t-SNE", "Male", False, *mine)
    assert value["path"] == [list(p) for p in trail]
    elsewhere = map_changes.redraw("faces", OWN, "PCA", "Male", False, *mine)
    assert elsewhere["path"] == []  # its places are those of t-SNE


def test_the_table_has_the_points_that_are_drawn_where_they_are_drawn():
    faces = weight_map("faces")
    found = points.listed("faces", "lora", "PCA", "Smiling")
    covered = faces.covered("lora").nonzero().flatten().tolist()
    assert found["point"].tolist() == covered
    assert found["x"].iloc[7] == round(float(faces.positions["lora"]["PCA"][covered[7], 0]), 3)
    smiles = faces.labels[covered, faces.label_names.index("Smiling")].tolist()
    assert found["Smiling"].tolist() == ["yes" if s else "no" for s in smiles]
    assert "category" in points.listed("shapes", OWN, "t-SNE", "Male")


def test_the_table_shows_the_first_of_the_points_that_are_looked_for():
    what = ("shapes", OWN, "t-SNE", "Male")
    whole, chairs = points.listed(*what), points.table(*what, True, " Chair ")
    assert chairs.value["data"]
    assert all("chair" in f"{row[1]} {row[2]}".lower() for row in chairs.value["data"])
    count = int(
        ((whole["category"] == "chair") | whole["name"].str.contains("chair", case=False)).sum()
    )
    assert chairs.label == f"{min(points.ROWS, count)} of {count:,} points"
    assert len(points.table(*what, True, "").value["data"]) == points.ROWS
    assert points.table(*what, True, "no such").label == "0 of 0 points"
    assert not points.table(*what, False, "").value["data"]


def test_a_step_without_surface_leaves_a_gap_in_the_curve(monkeypatch):
    shapes = weight_map("shapes")
    mesh = decode_one(point_instance(shapes, 0), resolution=64)
    steps = [
        WalkStep(i / 8, mesh, {"to_first": 0.01 + i / 100, "to_second": 0.01 + i / 100})
        for i in range(9)
    ]
    steps[4] = WalkStep(0.5, None, {})
    monkeypatch.setattr(map_walk, "walk_steps", lambda *_: iter(steps))
    point = point_instance(shapes, 0)
    tiles, curve = map_walk.walk_pictures(point, point)
    assert curve.count("<circle") == 8
    assert "Nothing to show at 50%" in curve
    assert tiles[4][1] == "50%, nothing to show"


def test_variations_are_others_each_time_and_each_has_its_file(face):
    drawn, seed, files = vary_tab.variations(face, 0.5, 1)
    again, third, _ = vary_tab.variations(face, 0.5, seed)
    assert (seed, third) == (2, 3)
    assert drawn.label.endswith("seed 1")
    assert again.label.endswith("seed 2")
    same, _, _ = vary_tab.variations(face, 0.5, 1)
    assert drawn.value == same.value
    assert drawn.value != again.value
    assert len({open_instance(Path(f)).to_bytes() for f in files}) == len(drawn.value) == 8


def test_what_the_model_does_not_draw_is_not_varied(face, tmp_path):
    path = tmp_path / "canonical.safetensors"
    canonical(open_instance(Path(face))).save(path)
    with pytest.raises(WsdemoError, match="canonical"):
        vary_tab.variable(str(path))
    with pytest.raises(WsdemoError, match="No instance"):
        vary_tab.variable(None)


def test_a_place_of_a_walk_can_be_taken_along():
    _, file = map_walk.mix("faces", 4800, 4801, 0.25)
    faces = weight_map("faces")
    ends = [point_instance(faces, i).weights for i in (4800, 4801)]
    found = open_instance(Path(file)).weights
    assert torch.allclose(found, torch.lerp(*ends, 0.25), atol=1e-3)
    assert map_walk.mix("faces", 4800, None, 0.25) == (None, None)


def test_a_walk_begins_at_an_instance_of_any_origin_and_not_at_what_does_not_mix(face, tmp_path):
    found = map_changes.walk_begins_in(face, "faces", "Male", False)
    assert found["first"] == face
    assert "face" in found["begins"]
    path = tmp_path / "canonical.safetensors"
    canonical(open_instance(Path(face))).save(path)
    with pytest.raises(WsdemoError):
        map_changes.walk_begins_in(str(path), "faces", "Male", False)


def test_other_weights_have_other_neighbours_and_none_where_there_was_no_fit():
    faces = weight_map("faces")
    index = int((faces.covered("lora") & faces.is_held_out).nonzero()[0])
    by_own, by_lora = (
        [text for _, text in map_changes.other_weights("faces", r, index, None)]
        for r in (OWN, "lora")
    )
    assert len(by_own) == len(by_lora) == 8
    assert by_own != by_lora
    absent = int((~faces.covered("lora")).nonzero()[0])
    with pytest.warns(UserWarning, match="not fitted as lora"):
        assert map_changes.other_weights("faces", "lora", absent, None) == []
