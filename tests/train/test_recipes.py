"""Every recipe runs on made-up data in seconds, resumes, and writes a working checkpoint."""

import shutil

import pytest
import torch
from PIL import Image

from wsdemo.checkpoints import load_checkpoint
from wsdemo.errors import WsdemoError
from wsdemo.fields.adapters import Adapter, AdapterConfig
from wsdemo.fields.base import pixel_grid
from wsdemo.fields.base_files import load_base
from wsdemo.fields.encoder import load_start
from wsdemo.fields.fit import psnr_from_mse
from wsdemo.fields.signal import image_to_signal
from wsdemo.generate.diffusion import load_diffusion, prior_hash
from wsdemo.generate.transformer import WeightTransformer
from wsdemo.train.faces import base as faces_base
from wsdemo.train.faces import diffusion as faces_diffusion
from wsdemo.train.faces import features as faces_features
from wsdemo.train.faces import fit as faces_fit
from wsdemo.train.faces import ranks as faces_ranks
from wsdemo.train.faces import release as faces_release
from wsdemo.train.faces.data import load_faces, to_signal, toy_faces
from wsdemo.train.loop import Run
from wsdemo.train.population import load_fits


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """The outputs of the base, fitting and diffusion recipes in their toy form."""
    root = tmp_path_factory.mktemp("recipes")
    common = ["--toy", "--runs", str(root / "runs"), "--out", str(root / "out")]
    faces_base.main([*common, "--steps", "120"])
    base = ["--base", str(root / "out/faces-base.safetensors"), "--rank", "4"]
    faces_fit.main([*common, *base, "--count", "48"])
    faces_fit.main([*common, *base, "--count", "16", "--split", "validation"])
    faces_diffusion.main([*common, *base, "--steps", "30", "--directions", "32"])
    return root


def test_base_recipe_learns_to_show_faces(folders):
    start = load_start(folders / "out/faces-encoder.safetensors")
    faces = toy_faces(16, seed=1)
    base, meta = load_base(folders / "out/faces-base.safetensors")
    assert meta["toy"] is True
    assert base.config.width == 32
    assert meta["measured"]["autoencoder_validation_psnr"] > 12
    adapter = Adapter(base, AdapterConfig("mlora", 4))
    shown = adapter.decode_points(start(adapter, image_to_signal(faces.images)), pixel_grid(64, 64))
    mse = (shown.clamp(-1, 1) - to_signal(faces.images)).square().mean((1, 2))
    assert float(psnr_from_mse(mse).mean()) > 12  # before training: 6


def test_fits_cover_the_asked_faces_and_are_kept_on_a_second_call(folders):
    weights, files = load_fits(folders / "runs/faces-fit/mlora-asym-r4/train")
    assert len(weights) == len(files) == 48
    assert weights.dtype == torch.float16
    _, meta = load_checkpoint(folders / "runs/faces-fit/mlora-asym-r4/train/shard-0000.safetensors")
    assert meta["files"][0] == "toy00000"
    shard = folders / "runs/faces-fit/mlora-asym-r4/train/shard-0000.safetensors"
    before = shard.stat().st_mtime_ns
    given = ["--toy", "--runs", str(folders / "runs"), "--out", str(folders / "out"), "--rank", "4"]
    given += ["--base", str(folders / "out/faces-base.safetensors")]
    faces_fit.main([*given, "--count", "48"])
    assert shard.stat().st_mtime_ns == before


def test_every_representation_and_rank_gets_its_own_faces(folders, tmp_path):
    base = str(folders / "out/faces-base.safetensors")
    faces_ranks.main(["--toy", "--runs", str(tmp_path), "--base", base, "--steps", "1"])
    kinds = {p.name for p in (tmp_path / "faces-fit").iterdir()}
    assert len(kinds) == 14
    assert "mlora-asym-r8" not in kinds
    seen = set()
    for rank in (1, 2, 4, 8, 16):
        weights, files = load_fits(tmp_path / f"faces-fit/lora-r{rank}/train")
        assert bool(weights.isfinite().all())
        assert len(files) == 8
        assert not seen & set(files)
        seen |= set(files)
        tested = load_fits(tmp_path / f"faces-fit/lora-r{rank}/test")[1]
        assert tested == list(toy_faces(4).files)


def test_fits_of_other_faces_are_not_overwritten(folders):
    given = ["--toy", "--runs", str(folders / "runs"), "--rank", "4", "--count", "4"]
    given += ["--base", str(folders / "out/faces-base.safetensors")]
    with pytest.raises(WsdemoError, match="begins with toy00000; these would begin with toy00010"):
        faces_fit.main([*given, "--first", "10"])
    with pytest.raises(WsdemoError, match="leaves none of the 64"):
        faces_fit.main([*given, "--first", "64"])


def test_a_network_of_no_coordinates_is_refused(folders, tmp_path):
    given = ["--toy", "--runs", str(folders / "runs"), "--out", str(tmp_path), "--rank", "4"]
    given += ["--base", str(folders / "out/faces-base.safetensors"), "--name", "none"]
    with pytest.raises(WsdemoError, match="--directions 0"):
        faces_diffusion.main([*given, "--directions", "0"])


def test_diffusion_recipe_writes_a_model_that_samples(folders):
    base, _ = load_base(folders / "out/faces-base.safetensors")
    model, meta = load_diffusion(folders / "out/faces-diffusion.safetensors", base)
    assert meta["measured"]["steps"] == 30
    pictures = model.adapter.decode_points(model.draw(2, seed=1, steps=4), pixel_grid(8, 8))
    assert bool(torch.isfinite(pictures).all())
    assert float((pictures[0] - pictures[1]).abs().mean()) > 0.01


def test_release_recipe_writes_neighbours_weights_and_examples(folders):
    common = ["--toy", "--runs", str(folders / "runs"), "--out", str(folders / "out")]
    faces_release.main(common)
    tensors, _ = load_checkpoint(folders / "out/faces-neighbours.safetensors")
    assert tensors["coordinates"].shape == (48, 32)
    assert tensors["held_out_distances"].shape == (16,)
    tensors, meta = load_checkpoint(folders / "out/faces-weights.safetensors")
    assert len(tensors["instances"]) == len(tensors["attributes"]) == len(meta["files"]) == 48
    assert len(load_checkpoint(folders / "out/faces-examples.safetensors")[0]["instances"]) == 8


def test_diffusion_run_resumes_where_it_stopped(folders, tmp_path, capsys):
    shutil.copytree(folders / "runs", tmp_path / "runs")
    common = ["--toy", "--runs", str(tmp_path / "runs"), "--out", str(tmp_path / "out")]
    base = ["--base", str(folders / "out/faces-base.safetensors"), "--rank", "4"]
    faces_diffusion.main([*common, *base, "--steps", "45", "--directions", "32"])
    assert "resumed" in capsys.readouterr().err
    _, meta = load_checkpoint(tmp_path / "out/faces-diffusion.safetensors")
    assert meta["measured"]["steps"] == 45


def test_mirrored_faces_are_learnt_from_and_kept_as_neighbours_of_the_same_prior(folders, tmp_path):
    shutil.copytree(folders / "runs", tmp_path / "runs")
    shutil.copytree(folders / "out", tmp_path / "out")
    common = ["--toy", "--runs", str(tmp_path / "runs"), "--out", str(tmp_path / "out")]
    faces_fit.main([*common, "--rank", "4", "--count", "24", "--split", "train-mirrored"])
    base, _ = load_base(folders / "out/faces-base.safetensors")
    path = tmp_path / "out/faces-diffusion.safetensors"
    before, _ = load_diffusion(path, base)
    (tmp_path / "runs/faces-diffusion.pt").unlink()
    faces_diffusion.main([*common, "--rank", "4", "--steps", "5", "--keep-prior"])
    after, meta = load_diffusion(path, base)
    assert meta["measured"]["instances"] == 48 + 24
    assert prior_hash(after.prior) == prior_hash(before.prior)
    faces_release.main(common)
    tensors, meta = load_checkpoint(tmp_path / "out/faces-neighbours.safetensors")
    assert len(tensors["coordinates"]) == len(meta["names"]) == 72
    assert meta["names"][48] == f"{meta['names'][0]}, mirrored"


def test_the_mirrored_split_is_the_training_pictures_left_to_right(tmp_path):
    picture = Image.new("RGB", (89, 109))
    picture.paste((255, 255, 255), (0, 0, 44, 109))
    picture.save(tmp_path / "a.png")
    (tmp_path / "attributes.csv").write_text("file,Smiling\na.png,1\n")
    plain, mirrored = (load_faces(tmp_path, split) for split in ("train", "train-mirrored"))
    assert torch.equal(mirrored.images, plain.images.flip(-1))
    assert not torch.equal(mirrored.images, plain.images)


def test_the_papers_transformer_is_trained_on_request(folders, tmp_path):
    given = ["--toy", "--runs", str(folders / "runs"), "--out", str(tmp_path), "--rank", "4"]
    given += ["--base", str(folders / "out/faces-base.safetensors"), "--steps", "3"]
    faces_diffusion.main([*given, "--name", "paper", "--directions", "0", "--no-coordinates"])
    base, _ = load_base(folders / "out/faces-base.safetensors")
    model, _ = load_diffusion(tmp_path / "paper.safetensors", base)
    assert isinstance(model.network, WeightTransformer)
    assert model.prior.basis.shape[1] == 0
    assert bool(torch.isfinite(model.draw(2, seed=1, steps=3)).all())


def test_feature_recipe_learns_the_toy_attributes(tmp_path):
    common = ["--toy", "--runs", str(tmp_path / "runs"), "--out", str(tmp_path)]
    faces_features.main([*common, "--steps", "30"])
    _, meta = load_checkpoint(tmp_path / "faces-features.safetensors")
    assert meta["measured"]["validation_auc"]["Pale_Skin"] > 0.9  # after one step: 0.6


def test_budget_counts_earlier_calls(tmp_path):
    first = Run(tmp_path / "r.pt", minutes=0.002)
    first.attach()
    while first.running():
        pass
    again = Run(tmp_path / "r.pt", minutes=0.002)
    again.attach()
    assert again.step == first.step > 0
    assert not again.running()


def test_missing_faces_are_refused(tmp_path):
    with pytest.raises(WsdemoError, match="does not exist"):
        load_faces(tmp_path / "none.zip", "train")
    with pytest.raises(WsdemoError, match="holds 0 pictures"):
        load_faces(tmp_path, "train")


def test_toy_faces_show_their_attributes():
    faces = toy_faces(40)
    pale = faces.attributes[:, faces.attribute_names.index("Pale_Skin")].bool()
    cheek = faces.images[:, :, 36, 20].float().mean(1)
    assert float(cheek[pale].mean()) > float(cheek[~pale].mean()) + 20
