"""The recipes of shapes run on made-up data in seconds and write working checkpoints."""

import numpy as np
import pytest
import torch

from tests.media.shapes import ball, box
from wsdemo.checkpoints import load_checkpoint
from wsdemo.errors import WsdemoError
from wsdemo.fields.adapters import Adapter, AdapterConfig
from wsdemo.fields.base_files import load_base
from wsdemo.fields.encoder import load_start
from wsdemo.fields.manifold_start import load_manifold_start
from wsdemo.fields.signal import grid_to_inputs
from wsdemo.generate.diffusion import load_diffusion
from wsdemo.media.mesh_files import mesh_bytes
from wsdemo.media.sdf import GRID
from wsdemo.train.manifold.files import load_stage
from wsdemo.train.manifold.free import manifold_of_fits
from wsdemo.train.population import load_fits
from wsdemo.train.shapes import base as shapes_base
from wsdemo.train.shapes import diffusion as shapes_diffusion
from wsdemo.train.shapes import features as shapes_features
from wsdemo.train.shapes import fit as shapes_fit
from wsdemo.train.shapes import manifold, manifold_diffusion, manifold_fit
from wsdemo.train.shapes import release as shapes_release
from wsdemo.train.shapes.data import (
    CATEGORIES,
    NamedMesh,
    load_meshes,
    load_shapes,
    signals,
    stretched,
    toy_shapes,
)
from wsdemo.train.shapes.manifold import posteriors_file


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """The outputs of all recipes of the set ``shapes`` in their toy form."""
    root = tmp_path_factory.mktemp("shapes")
    common = ["shapes", "--toy", "--runs", str(root / "runs"), "--out", str(root / "out")]
    shapes_base.main([*common, "--steps", "260"])
    shapes_fit.main([*common, "--rank", "4", "--steps", "30"])
    shapes_fit.main([*common, "--rank", "4", "--steps", "30", "--split", "validation"])
    shapes_diffusion.main([*common, "--rank", "4", "--directions", "16", "--steps", "20"])
    shapes_release.main(common)
    return root


def test_base_and_encoder_learn_distances(folders):
    base, meta = load_base(folders / "out/shapes-base.safetensors")
    assert (meta["domain"], meta["toy"], base.config.in_dim) == ("sdf", True, 3)
    start = load_start(folders / "out/shapes-encoder.safetensors", base_hash=meta["hash"])
    with pytest.raises(WsdemoError, match="another version"):
        load_start(folders / "out/shapes-encoder.safetensors", base_hash="0" * 64)
    shapes = toy_shapes(8)  # the training set: does it learn at all?
    adapter = Adapter(base, AdapterConfig("mlora", 4))
    weights = start(adapter, grid_to_inputs(shapes.grids))
    points, targets = signals(shapes, torch.arange(8), 256, 256, torch.Generator().manual_seed(0))
    shown = adapter.decode(weights, adapter.features(points)).clamp(-1, 1)
    guess = float((shown - targets).abs().mean())
    blind = float((targets - targets.median()).abs().mean())
    assert guess < 0.92 * blind


def test_fits_are_stored_by_name(folders):
    weights, names = load_fits(folders / "runs/shapes-fit/mlora-asym-r4/train")
    assert len(weights) == len(names) == 32
    assert names[0] == "airplane/toy0000"


def test_diffusion_model_samples_and_knows_categories(folders):
    base, _ = load_base(folders / "out/shapes-base.safetensors")
    model, meta = load_diffusion(folders / "out/shapes-diffusion.safetensors", base)
    assert meta["domain"] == "sdf"
    assert model.attribute_names == CATEGORIES
    assert bool(torch.isfinite(model.draw(2, seed=1, steps=3)).all())


def test_release_writes_neighbours_and_examples(folders):
    tensors, meta = load_checkpoint(folders / "out/shapes-neighbours.safetensors")
    assert len(tensors["coordinates"]) == len(meta["names"]) == 32
    assert len(tensors["held_out_distances"]) == 32
    tensors, meta = load_checkpoint(folders / "out/shapes-examples.safetensors")
    assert len(tensors["instances"]) == 8


# ---- the second generation -------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(folders, tmp_path_factory):
    """The recipes of the manifold after those of the first generation."""
    root = tmp_path_factory.mktemp("manifold")
    for part in ("base", "encoder", "diffusion"):
        name = f"shapes-{part}.safetensors"
        (root / name).write_bytes((folders / "out" / name).read_bytes())
    given = ["shapes", "--toy", "--runs", str(root), "--out", str(root)]
    sizes = ["--instances", "4", "--points", "96"]
    manifold.main([*given, *sizes, "--steps", "10"])
    manifold.main([*given, *sizes, "--steps", "40"])
    manifold_fit.main(given)
    manifold_diffusion.main([*given, "--components", "2", "--mixed", "8"])
    return root


def test_the_manifold_begins_as_the_span_of_the_fits(folders):
    base, _ = load_base(folders / "out/shapes-base.safetensors")
    first, _ = load_diffusion(folders / "out/shapes-diffusion.safetensors", base)
    made = manifold_of_fits(first, 0).manifold
    weights = first.draw(3, seed=1, steps=5)
    again = made.instances(made.project(weights))
    assert float((again - weights).norm() / weights.std(0).norm()) < 0.02
    points = torch.rand(3, 50, 3, generator=torch.Generator().manual_seed(0)) * 2 - 1
    shown = first.adapter.decode(weights, first.adapter.features(points))
    ours = made(made.project(weights), made.features(points))
    torch.testing.assert_close(ours, shown, atol=0.02, rtol=0.02)


def test_the_recipe_goes_on_and_says_what_it_found(folder):
    model, meta = load_stage(folder / "shapes-manifold.safetensors")
    assert meta["stages"][0]["stage"] == "free"
    assert meta["measured"]["steps"] == 40
    assert meta["measured"]["fitted_error"] < meta["measured"]["proposed_error"]
    known, facts = load_checkpoint(posteriors_file(folder, "shapes"))
    assert len(known["mean"]) == 3 * len(facts["names"]) == 96
    assert bool((known["std"] > 0).all())
    assert known["mean"].shape[1] == model.manifold.config.latent_dim


def test_points_of_the_training_shapes_are_their_posteriors(folder):
    model, meta = load_stage(folder / "shapes-manifold.safetensors")
    known, _ = load_checkpoint(posteriors_file(folder, "shapes"))
    stored, names = load_fits(folder / "shapes-manifold-fit/mlora-asym-r4/train")
    assert len(names) == 32
    again = model.manifold.project(stored.float())
    torch.testing.assert_close(again, known["mean"][:32], atol=0.05, rtol=0.05)
    start = load_manifold_start(folder / "shapes-manifold.safetensors", meta["hash"])
    assert start.manifold.config.in_dim == 3


def test_draws_of_a_category_come_from_its_own_components(folder):
    base, _ = load_base(folder / "shapes-manifold-base.safetensors")
    model, meta = load_diffusion(folder / "shapes-manifold-diffusion.safetensors", base)
    network = model.network
    assert network.config.hears
    assert network.mixture.members.sum(1).tolist() == [1] * 4
    assert meta["measured"]["instances"] == 96
    wish = model.condition({"airplane": True}, 2)
    assert bool(torch.isfinite(model.draw(2, 1, steps=5, attributes=wish)).all())


# ---- data ------------------------------------------------------------------------


@pytest.fixture
def collection(tmp_path):
    """A folder of meshes, one folder a category."""
    for i in range(30):
        mesh = ball(0.3 + 0.01 * i, 1) if i % 2 else box(1, 0.5, 0.02 * i + 0.1)
        category = "chair" if i % 2 else "table"
        (tmp_path / category).mkdir(exist_ok=True)
        (tmp_path / category / f"m{i:02d}.ply").write_bytes(mesh_bytes(mesh, "ply"))
    return tmp_path


def test_a_folder_of_meshes_is_split_by_name_without_overlap(collection):
    parts = {
        split: {m.name for m in load_meshes(collection, ("chair", "table"), split)}
        for split in ("train", "test")
    }
    assert len(parts["train"]) > len(parts["test"]) > 0
    assert not parts["train"] & parts["test"]
    with pytest.raises(WsdemoError, match="holds no train meshes of car"):
        load_meshes(collection, ("car",), "train")


def test_samples_are_the_same_from_one_process_and_two_and_from_the_cache(collection):
    cache = collection / "cache"
    alone = load_shapes(collection, "shapes", "test", cache)
    cached = load_shapes(collection, "shapes", "test", cache)
    pair = load_shapes(collection, "shapes", "test", collection / "other", workers=2)
    for other in (cached, pair):
        assert alone.names == other.names
        assert torch.equal(alone.points, other.points)
        torch.testing.assert_close(alone.distances, other.distances, atol=1e-3, rtol=0)


def test_stretched_copies_belong_to_training_only(collection):
    for path in collection.glob("*/m[12]*"):
        path.unlink()
    train = load_shapes(collection, "shapes", "train", collection / "cache")
    assert sum("+1" in n for n in train.names) == len(train) // 2
    assert not any("+" in n for n in load_shapes(collection, "shapes", "test", collection).names)


def test_a_stretched_copy_changes_proportions_the_same_way_every_time():
    item = NamedMesh("chair/a", "chair", "train", ball())
    first, again, other = stretched(item, 1), stretched(item, 1), stretched(item, 2)
    assert first.name == "chair/a+1"
    np.testing.assert_array_equal(first.mesh.vertices, again.mesh.vertices)
    sizes = [np.ptp(i.mesh.vertices, axis=0) for i in (first, other)]
    assert sizes[0].min() / sizes[0].max() < 0.98
    assert np.abs(sizes[0] - sizes[1]).max() > 0.01


def test_signals_are_the_shapes_own_distances():
    shapes = toy_shapes(4)
    index = torch.tensor([2, 0])
    points, values = signals(shapes, index, 50, 70, torch.Generator().manual_seed(0))
    assert points.shape == (2, 120, 3)
    assert values.shape == (2, 120, 1)
    assert float(values.abs().max()) <= 1
    # The first is an ellipsoid: the sign tells inside from outside.
    nodes = points[0, 50:]
    grid = shapes.grids[2]
    place = ((nodes + 1) / 2 * (GRID - 1)).round().long()
    stored = grid[place[:, 0], place[:, 1], place[:, 2]]
    assert torch.equal(stored < 0, values[0, 50:, 0] < 0)


def test_the_feature_space_is_trained_and_written(tmp_path):
    shapes_features.main(
        ["--toy", "--steps", "40", "--runs", str(tmp_path / "runs"), "--out", str(tmp_path)]
    )
    _, meta = load_checkpoint(tmp_path / "shapes-features.safetensors")
    assert meta["categories"] == list(CATEGORIES)
    assert meta["toy"]
    assert meta["measured"]["validation_accuracy"] > 0.8
