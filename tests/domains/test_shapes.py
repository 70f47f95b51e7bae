"""What the app does with shapes, on the shipped checkpoints."""

import numpy as np
import pytest
import torch

from tests.conftest import Clock
from tests.media.shapes import ball, box, torus
from wsdemo.analysis.shapes import compare_meshes
from wsdemo.domains import fitting, shape_fitting, shapes
from wsdemo.domains.domain import FitOptions, Original
from wsdemo.domains.faces import FACES
from wsdemo.domains.fitting import fit_original
from wsdemo.domains.instances import (
    between,
    decode_one,
    drawn_instance,
    make_instance,
    open_instance,
)
from wsdemo.domains.models import adapter_of, diffusion_of, nearest_training
from wsdemo.domains.registry import domain_named
from wsdemo.domains.sampling import sample
from wsdemo.domains.shapes import AIRPLANE, SHAPES
from wsdemo.errors import WsdemoError
from wsdemo.fields import fit
from wsdemo.maps.walk import walk
from wsdemo.media.mesh_files import mesh_bytes
from wsdemo.media.meshes import Mesh, statistics


@pytest.fixture(scope="module")
def examples():
    from wsdemo.checkpoints import DIRECTORY, load_checkpoint

    tensors, _ = load_checkpoint(DIRECTORY / "shapes-examples.safetensors")
    return tensors["instances"].float()


@pytest.fixture(scope="module")
def adapter():
    return diffusion_of(SHAPES).adapter


def source(tmp_path, mesh: Mesh, name: str = "m.ply") -> Original:
    path = tmp_path / name
    path.write_bytes(mesh_bytes(mesh, name.rsplit(".")[-1]))
    return SHAPES.open(SHAPES, path)


@pytest.mark.parametrize("domain", [SHAPES, AIRPLANE])
def test_samples_decode_to_surfaces_and_seeds_repeat(domain):
    first, again = (list(sample(domain, 2, 5, 8))[-1].instances for _ in range(2))
    assert torch.equal(first, again)
    meshes = [shapes.decode_shape(w, diffusion_of(domain).adapter, 64) for w in first]
    assert all(len(m.faces) > 200 for m in meshes)
    assert meshes[0].hash != meshes[1].hash


def test_without_a_wish_categories_differ_and_do_not_depend_on_company():
    drawn = list(sample(SHAPES, 3, 5, 8))[-1].instances
    alone = list(sample(SHAPES, 1, 5, 8))[-1].instances
    torch.testing.assert_close(alone, drawn[:1], rtol=1e-3, atol=1e-3)
    own = {
        name: list(sample(SHAPES, 3, 5, 8, wishes={name: True}))[-1].instances
        for name in diffusion_of(SHAPES).attribute_names
    }
    nearest = [min(own, key=lambda n, i=i: float((own[n][i] - drawn[i]).norm())) for i in range(3)]
    assert len(set(nearest)) > 1


def test_the_category_changes_the_sample():
    chair, car = (
        list(sample(SHAPES, 1, 3, 8, wishes={c: True}))[-1].instances for c in ("chair", "car")
    )
    assert float((chair - car).abs().max()) > 0.01


def test_samples_differ_the_less_the_lower_the_temperature():
    def apart(temperature: float) -> float:
        options = (AIRPLANE, 2, 5, 8, 1.0, None, temperature)
        one, other = list(sample(*options))[-1].instances
        return float((one - other).norm())

    assert apart(0.0) == 0.0
    assert apart(0.3) < apart(1.0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("ships", 1, 0), "expected faces, faces-manifold, shapes, shapes-manifold or airplane"),
        (("shapes", 0, 0), "count is 0"),
        (("shapes", 1, -1), "seed is -1"),
        (("shapes", 1, 0, 50, 1.0, {"spoon": True}), "this model knows"),
        (("airplane", 1, 0, 50, 1.0, {"chair": True}), "airplanes only"),
        (("airplane", 1, 0, 50, 1.0, None, 9.0), "temperature is 9"),
    ],
)
def test_unusable_wishes_are_refused(arguments, message):
    with pytest.raises(WsdemoError, match=message):
        list(sample(domain_named(arguments[0]), *arguments[1:]))


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
    drawn = drawn_instance(SHAPES, adapter, examples[0], 0.75)
    drawn.save(tmp_path / "x.safetensors")
    again = open_instance(tmp_path / "x.safetensors", "sdf")
    fitted = make_instance(SHAPES, adapter, examples[0])
    for instance, level in ((again, 0.005), (fitted, 0.0)):
        mesh = decode_one(instance)
        values = shapes.field_of(examples[0], adapter)(mesh.vertices.astype(np.float32))
        assert np.median(values) == pytest.approx(level, abs=5e-4)
    middle = decode_one(between(again, fitted, 0.5), resolution=64)
    half = shapes.decode_shape(examples[0], adapter, 64, level=0.0025)
    np.testing.assert_allclose(middle.vertices, half.vertices, atol=1e-5)


def test_only_what_is_drawn_cool_has_its_surface_further_out():
    assert [shapes.drawn_level("shapes", t) for t in (1.5, 1.0, 0.5)] == [0, 0, 0.01]


def test_weights_that_are_not_finite_are_refused(adapter):
    with pytest.raises(WsdemoError, match="not finite"):
        shapes.decode_shape(torch.full((adapter.size,), float("nan")), adapter, 32)


def test_a_sample_has_a_nearest_training_shape_and_a_training_shape_is_its_own(examples, adapter):
    near = nearest_training(SHAPES, examples[0], adapter)
    assert near.distance > 0
    assert "/" in near.name
    own = nearest_training(SHAPES, near.weights, adapter)
    assert (own.index, own.percentile) == (near.index, 0)


@pytest.mark.usefixtures("coarse_surfaces")
def test_a_fit_shows_the_mesh_and_lands_where_it_stood(tmp_path):
    mesh = Mesh(box(8, 4, 3).vertices + np.array([100, -7, 3]), box().faces)
    given = source(tmp_path, mesh)
    reports = list(fit_original(SHAPES, given, FitOptions(steps=80)))
    assert [r.is_last for r in reports] == [False] * (len(reports) - 1) + [True]
    last = reports[-1]
    assert last.instance.measured["iou"] > 0.7
    path = tmp_path / "x.safetensors"
    last.instance.save(path)
    again = open_instance(path, "sdf")
    decoded = shapes.decode_shape(again.weights, again.adapter)
    assert decoded.hash == last.shown.hash
    placed = shapes.pose_of(again).undo(decoded)
    np.testing.assert_allclose(placed.vertices.mean(0), [100, -7, 3], atol=0.9)
    assert statistics(placed)["width"] == pytest.approx(8, rel=0.12)
    with pytest.raises(WsdemoError, match="holds a shape; expected a picture"):
        open_instance(path, "image")


@pytest.mark.usefixtures("coarse_surfaces")
def test_a_fit_leaves_no_specks_far_from_the_surface(tmp_path):
    given = source(tmp_path, ball())
    options = FitOptions(steps=160)
    *_, before, last = fit_original(SHAPES, given, options)
    assert (before.is_measuring, before.is_last) == (True, False)
    assert statistics(last.shown)["parts"] == 1
    assert np.abs(last.shown.vertices).max() < 0.95
    assert last.reference is given.value.mesh
    assert last.instance.measured["steps"] == 160
    assert 0 < last.measuring_seconds < last.seconds


@pytest.mark.usefixtures("coarse_surfaces")
def test_a_fit_of_a_mesh_keeps_its_time_or_its_steps(tmp_path, monkeypatch):
    given, files = source(tmp_path, ball()), []
    for tick in (0.01, 0.5):
        clock = Clock(tick)
        monkeypatch.setattr(fitting, "time", clock)
        monkeypatch.setattr(fit, "time", clock)
        last = list(fit_original(SHAPES, given, FitOptions(steps=5)))[-1]
        assert not last.notes
        files.append(last.instance.to_bytes())
    assert files[0] == files[1]
    *_, last = fit_original(SHAPES, given, FitOptions(seconds=20))
    assert last.instance.measured["seconds"] == pytest.approx(20, rel=0.1)
    assert f"Only {last.instance.measured['steps']:.0f} steps" in last.notes[0]


@pytest.mark.usefixtures("coarse_surfaces")
def test_the_largest_piece_of_a_fit_can_be_kept(tmp_path):
    apart = Mesh(
        np.concatenate([ball(0.6).vertices, ball(0.2).vertices + np.array([1.2, 0, 0])]),
        np.concatenate([ball().faces, ball().faces + len(ball().vertices)]),
    )
    options = FitOptions(steps=60, detail={"largest": True})
    last = list(fit_original(SHAPES, source(tmp_path, apart), options))[-1]
    assert statistics(last.shown)["parts"] == 1
    assert last.instance.measured["iou"] < 0.99


@pytest.mark.usefixtures("coarse_surfaces")
def test_holes_and_flipped_faces_do_not_ruin_a_fit(tmp_path):
    mesh, rng = torus(0.6, 0.25), np.random.default_rng(0)
    faces = mesh.faces[rng.random(len(mesh.faces)) > 0.1]
    flip = rng.random(len(faces)) < 0.1
    faces[flip] = faces[flip][:, ::-1]
    given = source(tmp_path, Mesh(mesh.vertices, faces))
    assert any("winding number" in line for line in given.notes)
    last = list(fit_original(SHAPES, given, FitOptions(steps=100)))[-1]
    whole = source(tmp_path, mesh, "w.ply").value.mesh
    assert compare_meshes(whole, last.shown)["iou"] > 0.75


@pytest.mark.usefixtures("coarse_surfaces")
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
    assert any("shell" in line for line in given.notes)
    assert statistics(shape_fitting.reference_surface(given.value))["volume"] > 0.02


def test_a_walk_begins_and_ends_at_its_ends(examples, adapter):
    a, b = (make_instance(SHAPES, adapter, w) for w in examples[:2])
    steps = list(walk(a, b, 3))
    assert [s.share for s in steps] == [0, 0.5, 1]
    assert steps[0].measured["to_first"] < 0.002 < steps[0].measured["to_second"]
    assert steps[2].measured["to_second"] < 0.002 < steps[2].measured["to_first"]


def test_instances_of_two_bases_do_not_mix(examples, adapter):
    a = make_instance(SHAPES, adapter, examples[0])
    other = adapter_of(AIRPLANE, "mlora-asym", 8, 0)
    b = make_instance(AIRPLANE, other, other.start)
    with pytest.raises(WsdemoError, match="do not mix"):
        between(a, b, 0.5)


def test_the_overlay_reddens_what_is_off():
    near = shape_fitting.overlay(ball(0.6), ball(0.6), 64).astype(int)
    far = shape_fitting.overlay(ball(0.6), ball(0.5), 64).astype(int)
    redness = [(p[..., 0] - p[..., 1])[(p != 245).any(-1)].mean() for p in (near, far)]
    assert redness[0] < 12
    assert redness[1] > 60


def test_pictures_and_shapes_are_told_apart_on_dropping(tmp_path):
    face = adapter_of(FACES, "mlora-asym", 8, 0)
    path = tmp_path / "f.safetensors"
    make_instance(FACES, face, face.start).save(path)
    with pytest.raises(WsdemoError, match="holds a picture; expected a shape"):
        open_instance(path, "sdf")
