"""What the app does with shapes, on the shipped checkpoints."""

import numpy as np
import pytest
import torch

from tests.conftest import Clock
from tests.media.shapes import ball, box, torus
from wsdemo.analysis.shapes import compare_meshes
from wsdemo.domains import pipelines, shape_fitting
from wsdemo.domains import shape_pipelines as shapes
from wsdemo.domains.shape_fitting import ShapeFitOptions
from wsdemo.errors import WsdemoError
from wsdemo.fields import fit as fitting
from wsdemo.media.mesh_files import mesh_bytes
from wsdemo.media.meshes import Mesh, Pose, statistics


@pytest.fixture(scope="module")
def examples():
    from wsdemo.checkpoints import DIRECTORY, load_checkpoint

    tensors, _ = load_checkpoint(DIRECTORY / "shapes-examples.safetensors")
    return tensors["instances"].float()


@pytest.fixture(scope="module")
def adapter():
    return shapes.shape_diffusion("shapes").adapter


def source(tmp_path, mesh: Mesh, name: str = "m.ply") -> shape_fitting.MeshInput:
    path = tmp_path / name
    path.write_bytes(mesh_bytes(mesh, name.rsplit(".")[-1]))
    return shape_fitting.load_mesh(path)


@pytest.mark.parametrize("name", shapes.SETS)
def test_samples_decode_to_surfaces_and_seeds_repeat(name):
    first, again = (list(shapes.sample_shapes(name, 2, 5, 8))[-1].instances for _ in range(2))
    assert torch.equal(first, again)
    meshes = [shapes.decode_shape(w, shapes.shape_diffusion(name).adapter, 64) for w in first]
    assert all(len(m.faces) > 200 for m in meshes)
    assert meshes[0].hash != meshes[1].hash


def test_without_a_wish_categories_differ_and_do_not_depend_on_company():
    drawn = list(shapes.sample_shapes("shapes", 3, 5, 8))[-1].instances
    alone = list(shapes.sample_shapes("shapes", 1, 5, 8))[-1].instances
    torch.testing.assert_close(alone, drawn[:1], rtol=1e-3, atol=1e-3)
    own = {
        name: list(shapes.sample_shapes("shapes", 3, 5, 8, category=name))[-1].instances
        for name in shapes.categories_of("shapes")
    }
    nearest = [min(own, key=lambda n, i=i: float((own[n][i] - drawn[i]).norm())) for i in range(3)]
    assert len(set(nearest)) > 1


def test_the_category_changes_the_sample():
    chair, car = (
        list(shapes.sample_shapes("shapes", 1, 3, 8, category=c))[-1].instances
        for c in ("chair", "car")
    )
    assert float((chair - car).abs().max()) > 0.01


def test_samples_differ_the_less_the_lower_the_temperature():
    def apart(temperature: float) -> float:
        options = ("airplane", 2, 5, 8, 1.0, None, temperature)
        one, other = list(shapes.sample_shapes(*options))[-1].instances
        return float((one - other).norm())

    assert apart(0.0) == 0.0
    assert apart(0.3) < apart(1.0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("ships", 1, 0), "expected airplane or shapes"),
        (("shapes", 0, 0), "count is 0"),
        (("shapes", 1, -1), "seed is -1"),
        (("shapes", 1, 0, 50, 1.0, "spoon"), "this model knows"),
        (("airplane", 1, 0, 50, 1.0, "chair"), "airplanes only"),
        (("airplane", 1, 0, 50, 1.0, None, 9.0), "temperature is 9"),
    ],
)
def test_unusable_wishes_are_refused(arguments, message):
    with pytest.raises(WsdemoError, match=message):
        list(shapes.sample_shapes(*arguments))


@pytest.mark.parametrize("level", [0.0, 0.005])
def test_coarse_to_fine_equals_dense_on_a_trained_field(examples, adapter, level):
    from wsdemo.media.surface import dense_grid, extract

    field = shapes.field_of(examples[0], adapter, level)
    dense = extract(dense_grid(field, 64))
    sparse = shapes.decode_shape(examples[0], adapter, 64, level=level)
    assert len(dense.faces) == len(sparse.faces)
    np.testing.assert_allclose(dense.vertices, sparse.vertices, atol=1e-4)


def test_decoding_is_deterministic_and_resolution_refines(examples, adapter):
    first, again = (shapes.decode_shape(examples[0], adapter, 64) for _ in range(2))
    assert first.hash == again.hash
    fine = shapes.decode_shape(examples[0], adapter, 96)
    assert len(fine.faces) > 1.5 * len(first.faces)
    with pytest.raises(WsdemoError, match="expected one of"):
        shapes.decode_shape(examples[0], adapter, 65)


def test_a_drawn_shape_has_its_surface_at_its_level_and_keeps_it_in_its_file(
    examples, adapter, tmp_path
):
    drawn = shapes.drawn_instance("shapes", adapter, examples[0], 0.75)
    drawn.save(tmp_path / "x.safetensors")
    again = pipelines.open_instance(tmp_path / "x.safetensors", "sdf")
    fitted = shapes.shape_instance("shapes", adapter, examples[0], {}, Pose())
    for instance, level in ((again, 0.005), (fitted, 0.0)):
        mesh = shapes.decode_instance(instance, 128)
        values = shapes.field_of(examples[0], adapter)(mesh.vertices.astype(np.float32))
        assert np.median(values) == pytest.approx(level, abs=5e-4)
    between = shapes.decode_between(again, fitted, 0.5, 64)
    half = shapes.decode_shape(examples[0], adapter, 64, level=0.0025)
    np.testing.assert_allclose(between.vertices, half.vertices, atol=1e-5)


def test_only_what_is_drawn_cool_has_its_surface_further_out():
    assert [shapes.drawn_level("shapes", t) for t in (1.5, 1.0, 0.5)] == [0, 0, 0.01]


def test_weights_that_are_not_finite_are_refused(adapter):
    with pytest.raises(WsdemoError, match="not finite"):
        shapes.decode_shape(torch.full((adapter.size,), float("nan")), adapter, 32)


def test_a_sample_has_a_nearest_training_shape_and_a_training_shape_is_its_own(examples, adapter):
    near = shapes.nearest_training_shape("shapes", examples[0], adapter)
    assert near.distance > 0
    assert "/" in near.name
    own = shapes.nearest_training_shape("shapes", near.weights, adapter)
    assert (own.index, own.percentile) == (near.index, 0)


def test_a_fit_shows_the_mesh_and_lands_where_it_stood(tmp_path):
    mesh = Mesh(box(8, 4, 3).vertices + np.array([100, -7, 3]), box().faces)
    given = source(tmp_path, mesh)
    reports = list(shape_fitting.fit_mesh(given, ShapeFitOptions(steps=150)))
    assert [r.is_last for r in reports] == [False] * (len(reports) - 1) + [True]
    last = reports[-1]
    assert last.instance.measured["iou"] > 0.7
    path = tmp_path / "x.safetensors"
    last.instance.save(path)
    again = pipelines.open_instance(path, "sdf")
    decoded = shapes.decode_shape(again.weights, again.adapter)
    assert decoded.hash == last.mesh.hash
    placed = shapes.pose_of(again).undo(decoded)
    np.testing.assert_allclose(placed.vertices.mean(0), [100, -7, 3], atol=0.9)
    assert statistics(placed)["width"] == pytest.approx(8, rel=0.12)
    with pytest.raises(WsdemoError, match="holds a shape; expected a picture"):
        pipelines.open_instance(path, "image")


def test_a_fit_leaves_no_specks_far_from_the_surface(tmp_path):
    given = source(tmp_path, ball())
    options = ShapeFitOptions(steps=200)
    *_, before, last = shape_fitting.fit_mesh(given, options)
    assert (before.is_measuring, before.is_last) == (True, False)
    assert statistics(last.mesh)["parts"] == 1
    assert np.abs(last.mesh.vertices).max() < 0.95
    assert last.reference is given.mesh
    assert last.instance.measured["steps"] == 200
    assert 0 < last.measuring_seconds < last.seconds


def test_a_fit_of_a_mesh_keeps_its_time_or_its_steps(tmp_path, monkeypatch):
    given, files = source(tmp_path, ball()), []
    for tick in (0.01, 0.5):
        clock = Clock(tick)
        monkeypatch.setattr(shape_fitting, "time", clock)
        monkeypatch.setattr(fitting, "time", clock)
        last = list(shape_fitting.fit_mesh(given, ShapeFitOptions(steps=5)))[-1]
        assert not last.notes
        files.append(last.instance.to_bytes())
    assert files[0] == files[1]
    *_, last = shape_fitting.fit_mesh(given, ShapeFitOptions(seconds=20))
    assert last.instance.measured["seconds"] == pytest.approx(20, rel=0.1)
    assert f"Only {last.instance.measured['steps']:.0f} steps" in last.notes[0]


def test_the_largest_piece_of_a_fit_can_be_kept(tmp_path):
    apart = Mesh(
        np.concatenate([ball(0.6).vertices, ball(0.2).vertices + np.array([1.2, 0, 0])]),
        np.concatenate([ball().faces, ball().faces + len(ball().vertices)]),
    )
    options = ShapeFitOptions(steps=100, largest=True)
    last = list(shape_fitting.fit_mesh(source(tmp_path, apart), options))[-1]
    assert statistics(last.mesh)["parts"] == 1
    assert last.instance.measured["iou"] < 0.99


def test_holes_and_flipped_faces_do_not_ruin_a_fit(tmp_path):
    mesh, rng = torus(0.6, 0.25), np.random.default_rng(0)
    faces = mesh.faces[rng.random(len(mesh.faces)) > 0.1]
    flip = rng.random(len(faces)) < 0.1
    faces[flip] = faces[flip][:, ::-1]
    given = source(tmp_path, Mesh(mesh.vertices, faces))
    assert any("winding number" in line for line in given.describe())
    last = list(shape_fitting.fit_mesh(given, ShapeFitOptions(steps=150)))[-1]
    whole = source(tmp_path, mesh, "w.ply").mesh
    assert compare_meshes(whole, last.mesh)["iou"] > 0.75


def test_a_sheet_becomes_a_shell_and_that_is_said(tmp_path):
    corners = np.array([[x, y, 0.1 * x * y] for x in range(4) for y in range(4)], dtype=float)
    faces = [
        f
        for x in range(3)
        for y in range(3)
        for f in ((4 * x + y, 4 * x + y + 1, 4 * x + y + 4),
                  (4 * x + y + 1, 4 * x + y + 5, 4 * x + y + 4))
    ]  # fmt: skip
    given = source(tmp_path, Mesh(corners, np.array(faces)))
    assert any("shell" in line for line in given.describe())
    assert statistics(shape_fitting.reference_surface(given))["volume"] > 0.02


def test_a_walk_begins_and_ends_at_its_ends(examples, adapter):
    a, b = (shapes.shape_instance("shapes", adapter, w, {}, Pose()) for w in examples[:2])
    steps = list(shape_fitting.walk_shapes(a, b, 3))
    assert [s.share for s in steps] == [0, 0.5, 1]
    assert steps[0].to_first < 0.002 < steps[0].to_second
    assert steps[2].to_second < 0.002 < steps[2].to_first


def test_instances_of_two_bases_do_not_mix(examples, adapter):
    a = shapes.shape_instance("shapes", adapter, examples[0], {}, Pose())
    other = shapes.shape_adapter("airplane", "mlora-asym", 8, 0)
    b = shapes.shape_instance("airplane", other, other.start, {}, Pose())
    with pytest.raises(WsdemoError, match="do not mix"):
        pipelines.blend(a, b, 0.5)


def test_the_overlay_reddens_what_is_off():
    near = shape_fitting.overlay(ball(0.6), ball(0.6), 64).astype(int)
    far = shape_fitting.overlay(ball(0.6), ball(0.5), 64).astype(int)
    redness = [(p[..., 0] - p[..., 1])[(p != 245).any(-1)].mean() for p in (near, far)]
    assert redness[0] < 12
    assert redness[1] > 60


def test_pictures_and_shapes_are_told_apart_on_dropping(tmp_path):
    face = pipelines.face_adapter("mlora-asym", 8, 0)
    path = tmp_path / "f.safetensors"
    pipelines.face_instance(face, face.start, {}).save(path)
    with pytest.raises(WsdemoError, match="holds a picture; expected a shape"):
        pipelines.open_instance(path, "sdf")
