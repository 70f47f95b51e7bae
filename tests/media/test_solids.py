"""Meshes as boundaries of solids: parts, sheets, hidden faces, long thin triangles, upward axes."""

import numpy as np
import pytest
import trimesh

from tests.media.shapes import ball, box, from_trimesh
from wsdemo.domains.shape_fitting import load_mesh, reference_surface
from wsdemo.errors import WsdemoError
from wsdemo.limits import MAX_NEAR_FACES
from wsdemo.media.mesh_files import check_mesh, mesh_bytes
from wsdemo.media.meshes import STAND, Mesh, Pose, is_watertight, normalise, statistics
from wsdemo.media.remesh import eased, split_long_edges
from wsdemo.media.sdf import is_inside, near_faces
from wsdemo.media.solids import as_solid
from wsdemo.media.upright import upright


def moved(mesh: Mesh, x: float, scale: float = 1.0, is_flipped: bool = False) -> Mesh:
    faces = mesh.faces[:, ::-1].copy() if is_flipped else mesh.faces
    return Mesh(mesh.vertices * scale + np.array([x, 0, 0]), faces)


def joined(*parts: Mesh) -> Mesh:
    starts = np.cumsum([0] + [len(p.vertices) for p in parts])
    faces = [p.faces + s for p, s in zip(parts, starts[:-1], strict=True)]
    vertices = np.concatenate([p.vertices for p in parts])
    return check_mesh(vertices, np.concatenate(faces), "ply")[0]


def inside_share(mesh: Mesh, true, count: int = 20_000) -> float:
    points = np.random.default_rng(0).uniform(-1, 1, (count, 3))
    found, wanted = is_inside(mesh, points), true(points)
    return float((found & wanted).sum() / (found | wanted).sum())


def in_ball(points, x: float = 0.0, radius: float = 0.4):
    return np.linalg.norm(points - [x, 0, 0], axis=1) < radius


def test_a_part_inside_out_carves_no_void():
    mesh, shell, notes = as_solid(joined(moved(ball(0.4), -0.25), moved(ball(0.4), 0.25, 1, True)))
    assert shell == 0
    assert any("inside out" in note for note in notes)
    assert inside_share(mesh, lambda p: in_ball(p, -0.25) | in_ball(p, 0.25)) > 0.97


@pytest.mark.parametrize("outer_is_flipped", [False, True])
def test_a_hollow_stays_hollow_whichever_way_the_whole_is_turned(outer_is_flipped):
    both = joined(
        moved(ball(0.8), 0, 1, outer_is_flipped), moved(ball(0.4), 0, 1, not outer_is_flipped)
    )
    mesh, _, notes = as_solid(both)
    assert any("hollows: 1" in note for note in notes)
    assert inside_share(mesh, lambda p: in_ball(p, 0, 0.8) & ~in_ball(p)) > 0.96


def sheet(z: float, side: float = 0.9) -> Mesh:
    corners = np.array([[-side, -side, z], [side, -side, z], [side, side, z], [-side, side, z]])
    return Mesh(corners, np.array([[0, 1, 2], [0, 2, 3]]))


def test_a_sheet_beside_a_body_does_not_hollow_it():
    mesh, shell, notes = as_solid(joined(ball(0.4), sheet(-0.7)))
    assert shell == 0
    assert any("made plates" in note for note in notes)
    assert inside_share(mesh, lambda p: in_ball(p) | (np.abs(p[:, 2] + 0.7) < 0.015)
                        & (np.abs(p[:, :2]).max(1) < 0.9)) > 0.9  # fmt: skip


def test_sheets_alone_stay_as_they_are_and_get_a_thickness():
    flat = sheet(0.0)
    mesh, shell, _ = as_solid(flat)
    assert shell > 0
    assert mesh is flat


def test_a_clean_solid_is_returned_as_it_is():
    mesh = ball()
    assert as_solid(mesh)[0].hash == mesh.hash


def test_turned_faces_are_turned_back():
    mesh, rng = ball(0.6), np.random.default_rng(0)
    faces = mesh.faces.copy()
    hit = rng.random(len(faces)) < 0.2
    faces[hit] = faces[hit][:, ::-1]
    again, _, notes = as_solid(Mesh(mesh.vertices, faces))
    assert statistics(again)["volume"] == pytest.approx(statistics(mesh)["volume"])
    assert f"{int(hit.sum())}" in notes[0]


def voxels(count: int = 3) -> tuple[Mesh, list]:
    places = [(i, j, k) for i in range(count) for j in range(count) for k in range(count)
              if (i + j + k) % 4 != 3]  # fmt: skip
    cubes = [trimesh.creation.box((1, 1, 1)).apply_translation(p) for p in places]
    return from_trimesh(trimesh.util.concatenate(cubes)), places


def test_faces_hidden_inside_are_gone_and_touching_cubes_stay_closed():
    raw, places = voxels()
    read, report = check_mesh(raw.vertices, raw.faces, "ply")
    assert (report.parts, report.is_watertight) == (len(places), True)
    mesh, _, notes = as_solid(normalise(read)[0])
    steps = np.concatenate([np.eye(3, dtype=int), -np.eye(3, dtype=int)])
    wanted = sum(tuple(np.add(p, step)) not in places for p in places for step in steps)
    assert len(mesh.faces) == 2 * wanted
    assert any("Faces inside the solid" in note for note in notes)


def test_a_part_that_is_there_twice_counts_once():
    both = joined(ball(), moved(ball(), 0, 1, True))
    assert len(both.faces) == len(ball().faces)


# ---- long thin triangles -------------------------------------------------------------


def test_splitting_keeps_a_closed_mesh_closed_and_its_volume():
    mesh = normalise(from_trimesh(trimesh.creation.box((1, 2, 3))))[0]
    split = split_long_edges(mesh, 0.3)
    corners = split.vertices[split.faces]
    assert is_watertight(split)
    assert np.linalg.norm(corners - np.roll(corners, 1, axis=1), axis=2).max() <= 0.3
    assert statistics(split)["volume"] == pytest.approx(statistics(mesh)["volume"])
    assert statistics(split)["area"] == pytest.approx(statistics(mesh)["area"])


@pytest.mark.parametrize(("radius", "height"), [(5, 100), (50, 5)])
def test_a_cylinder_of_a_thousand_sides_is_no_tangle(radius, height):
    made = trimesh.creation.cylinder(radius=radius, height=height, sections=1000)
    mesh = normalise(from_trimesh(made))[0]
    easy, note = eased(mesh)
    assert note
    assert near_faces(easy) < min(near_faces(mesh) / 2, MAX_NEAR_FACES)
    assert is_watertight(easy)
    assert statistics(easy)["volume"] == pytest.approx(statistics(mesh)["volume"], rel=0.01)


# ---- axes ----------------------------------------------------------------------------


def test_z_up_meshes_stand_and_go_back_to_where_they_lay(tmp_path):
    tall = from_trimesh(trimesh.creation.box((1, 2, 6)).apply_translation([3, 4, 5]))
    path = tmp_path / "a.stl"
    path.write_bytes(mesh_bytes(tall, "stl"))
    source = load_mesh(path)
    assert np.ptp(source.mesh.vertices, axis=0).argmax() == 1
    assert any("z-up" in line for line in source.describe())
    back = source.pose.undo(source.mesh)
    np.testing.assert_allclose(back.vertices.min(0), [2.5, 3, 2], atol=1e-6)
    assert statistics(back)["volume"] == pytest.approx(12)
    lying = load_mesh(path, "y")
    assert np.ptp(lying.mesh.vertices, axis=0).argmax() == 2
    assert reference_surface(lying) is lying.mesh


def test_upward_axes_by_format_and_by_wish():
    mesh = ball()
    assert [upright(mesh, "auto", kind)[1] for kind in ("stl", "3mf", "obj", "glb")] == list("zzyy")
    assert upright(mesh, "y", "stl")[1:] == ("y", ())
    assert Pose().up == "y"
    with pytest.raises(WsdemoError, match="Unknown axis"):
        upright(mesh, "x", "stl")


def test_a_sheet_through_a_body_is_a_plate_and_said():
    corners = np.array([[-2, -2, 0], [2, -2, 0], [2, 2, 0], [-2, 2, 0]], dtype=float) * 0.4
    whole = ball(0.4)
    faces = np.array([[0, 1, 2], [0, 2, 3]]) + len(whole.vertices)
    both = Mesh(np.concatenate([whole.vertices, corners]), np.concatenate([whole.faces, faces]))
    solid, _, notes = as_solid(both)
    assert any("were made plates" in note for note in notes)
    outside = np.array([[0.7, 0.7, 0.0], [0.7, 0.7, 0.1], [0.0, 0.0, 0.2]])
    assert is_inside(solid, outside).tolist() == [True, False, True]


def chair(up: str = "y") -> Mesh:
    """A seat, a back and four legs."""
    parts = [((0, 0.45, 0), (0.5, 0.06, 0.5)), ((0, 0.75, -0.22), (0.5, 0.55, 0.06))]
    parts += [((x, 0.2, z), (0.06, 0.42, 0.06)) for x in (-0.2, 0.2) for z in (-0.2, 0.2)]
    joined = trimesh.util.concatenate(
        [trimesh.creation.box(size).apply_translation(place) for place, size in parts]
    )
    standing = from_trimesh(joined)
    return standing if up == "y" else Mesh(standing.vertices @ STAND, standing.faces)


@pytest.mark.parametrize("kind", ["obj", "ply", "off"])
def test_a_chair_that_lies_on_its_back_is_put_on_its_feet_and_that_is_said(kind):
    for up in ("y", "z"):
        turned, axis, notes = upright(chair(up), "auto", kind)
        assert axis == up
        assert f"Taken as {up}-up, " in notes[0]
        assert ("by how it lies" in notes[0]) == (up == "z")
        np.testing.assert_allclose(turned.vertices, chair().vertices, atol=1e-12)
    assert upright(chair("z"), "auto", "glb")[1:] == ("y", ())


def test_what_looks_alike_from_all_sides_keeps_its_axis():
    for mesh in (ball(), box(1, 1, 1), box(0.1, 1, 0.1), box(1, 0.1, 0.3)):
        assert [upright(mesh, "auto", kind)[1] for kind in ("obj", "ply", "off")] == ["y"] * 3
