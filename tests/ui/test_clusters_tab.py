"""What the tab Clusters says and draws, without a browser."""

import pytest

from wsdemo.domains.instances import decode_one
from wsdemo.maps.walk import WalkStep
from wsdemo.maps.weight_map import OWN, point_instance, weight_map
from wsdemo.ui.clusters import clusters_tab, map_walk


@pytest.fixture
def face(tmp_path):
    path = tmp_path / "face.safetensors"
    point_instance(weight_map("faces"), 4800).save(path)
    return str(path)


def test_a_dropped_instance_stays_on_the_map_when_a_control_changes(face):
    dropped = clusters_tab.drop(face, "faces", "t-SNE", "Male", False)
    chosen, yours = dropped[6:8]
    assert chosen == face
    for kind in ("t-SNE", "PCA"):
        value = clusters_tab.redraw("faces", OWN, kind, "Smiling", False, chosen, yours)
        spot = weight_map("faces").positions[OWN][kind][4800].tolist()
        (mark,) = value["marks"]
        assert (mark["x"], mark["y"]) == pytest.approx(spot, abs=0.02)
        assert value["selected"] == -1
    trail = [(0.0, 0.0), (0.1, 0.1)]
    fitted = clusters_tab.own_fit(face, trail, "shapes", "Male", False)
    value = clusters_tab.redraw("faces", OWN, "t-SNE", "Male", False, *fitted[5:7])
    assert value["path"] == [list(p) for p in trail]
    elsewhere = clusters_tab.redraw("faces", OWN, "PCA", "Male", False, *fitted[5:7])
    assert elsewhere["path"] == []  # its places are those of t-SNE


def test_the_table_has_the_points_that_are_drawn_where_they_are_drawn():
    faces = weight_map("faces")
    found = clusters_tab.table("faces", "lora", "PCA", "Smiling")
    covered = faces.covered("lora").nonzero().flatten().tolist()
    assert found["point"].tolist() == covered
    assert found["x"].iloc[7] == round(float(faces.positions["lora"]["PCA"][covered[7], 0]), 3)
    smiles = faces.labels[covered, faces.label_names.index("Smiling")].tolist()
    assert found["Smiling"].tolist() == ["yes" if s else "no" for s in smiles]
    assert "category" in clusters_tab.table("shapes", OWN, "t-SNE", "Male")


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


def test_variations_are_others_each_time():
    drawn, seed = map_walk.variations("faces", 3, 0.5, 1)
    again, third = map_walk.variations("faces", 3, 0.5, seed)
    assert (seed, third) == (2, 3)
    assert drawn.label.endswith("seed 1")
    assert again.label.endswith("seed 2")
    same, _ = map_walk.variations("faces", 3, 0.5, 1)
    assert drawn.value == same.value
    assert drawn.value != again.value


def test_other_weights_have_other_neighbours_and_none_where_there_was_no_fit():
    faces = weight_map("faces")
    index = int((faces.covered("lora") & faces.is_held_out).nonzero()[0])
    by_own, by_lora = (
        [text for _, text in clusters_tab.other_weights("faces", r, index, None)]
        for r in (OWN, "lora")
    )
    assert len(by_own) == len(by_lora) == 8
    assert by_own != by_lora
    absent = int((~faces.covered("lora")).nonzero()[0])
    with pytest.warns(UserWarning, match="not fitted as lora"):
        assert clusters_tab.other_weights("faces", "lora", absent, None) == []
