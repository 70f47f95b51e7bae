"""The recipes of CelebA-CLIP, the face generator, its LoRAs and the predictors, on made-up data."""

import csv
import itertools

import pytest
import torch

from wsdemo.checkpoints import load_checkpoint
from wsdemo.fields.adapters import Adapter, AdapterConfig
from wsdemo.fields.base_files import load_base
from wsdemo.fields.instance import Instance
from wsdemo.lol.data.pairs import pack
from wsdemo.lol.predictor.files import load_predictor
from wsdemo.lora.reader import read_lora
from wsdemo.train.faces import base as faces_base
from wsdemo.train.faces import clip as faces_clip
from wsdemo.train.faces import fit as faces_fit
from wsdemo.train.faces import generator as faces_generator
from wsdemo.train.faces.data import Faces, toy_faces
from wsdemo.train.loras import face_loras
from wsdemo.train.loras import families as lol_families
from wsdemo.train.population import load_fits


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("lol")
    common = ["--toy", "--runs", str(root / "runs"), "--out", str(root / "out")]
    faces_clip.main([*common, "--steps", "6"])
    faces_generator.main([*common, "--steps", "40"])
    face_loras.main(common)
    return root, common


def test_clip_and_generator_recipes_write_their_checkpoints(folders):
    root, _ = folders
    tensors, meta = load_checkpoint(root / "out/faces-clip.safetensors")
    assert meta["toy"]
    assert "log_scale" in tensors
    _, meta = load_checkpoint(root / "out/faces-generator.safetensors")
    assert meta["measured"]["validation_loss"] < 1.3
    assert meta["network"]["coordinates"] == 64


def test_loras_are_trained_labelled_listed_and_not_made_twice(folders):
    root, common = folders
    files = sorted((root / "runs/face-loras").glob("*/*.safetensors"))
    assert len(files) == sum(face_loras.TOY_COUNTS.values())
    rows = list(csv.DictReader((root / "runs/face-loras/manifest.csv").open()))
    assert {r["file"] for r in rows} == {
        str(f.relative_to(root / "runs/face-loras")) for f in files
    }
    assert all(int(r["data_set_size"]) > 0 for r in rows)
    lora = read_lora(files[-1])
    assert lora.base.name.startswith("wsdemo/faces-generator@")
    assert any(m.U.any() for m in lora.modules)
    before = files[0].stat().st_mtime_ns
    face_loras.main(common)
    assert files[0].stat().st_mtime_ns == before


def test_a_plan_is_drawn_from_its_name_and_splits_share_no_face():
    assert face_loras.make_plan("celeba", "train", 3) == face_loras.make_plan("celeba", "train", 3)
    ranks = {face_loras.make_plan("ranks", "test", i).rank for i in range(10)}
    assert ranks == set(face_loras.RANKS)
    pools = sorted(face_loras.POOLS.values())
    assert all(a[1] <= b[0] for a, b in itertools.pairwise(pools))


def test_groups_are_disjoint_and_every_wished_group_gets_its_faces():
    g = torch.Generator().manual_seed(0)
    names = tuple(sorted({a for want in face_loras.GROUPS.values() for a in want}))
    attributes = (torch.rand(600, len(names), generator=g) < 0.4).to(torch.uint8)
    faces = Faces(torch.zeros(600, 3, 1, 1), attributes, names, tuple(map(str, range(600))))
    groups = face_loras.group_of(faces)
    assert set(groups) - {""} == set(face_loras.GROUPS)
    material = face_loras.Material(torch.zeros(600, 4), torch.zeros(600, 4), faces, 0)
    for i in range(20):
        plan = face_loras.make_plan("groups", "train", i)
        chosen = face_loras.chosen_faces(plan, material)
        assert {groups[c] for c in chosen} == set(plan.groups)


FITS = {"face-fields": (("mlora-asym", 8), ("mlora", 4)), "face-fields-lora": (("lora", 4),)}


@pytest.mark.parametrize(
    "family", ["face-fields", pytest.param("face-fields-lora", marks=pytest.mark.slow)]
)
def test_fits_and_instance_files_are_the_same_pairs(folders, tmp_path, family):
    """What the predictor was trained on is what it is asked about, of every representation."""
    root, common = folders
    faces_base.main([*common, "--steps", "60"])
    base_option = ["--base", str(root / "out/faces-base.safetensors")]
    own = ["--shared-start"]
    for split, count in (("train", 40), ("validation", 24), ("test", 24)):
        for kind, rank in FITS[family]:
            faces_fit.main([*common, *base_option, *own, "--representation", kind, "--rank",
                            str(rank), "--split", split, "--count", str(count), "--first", "2",
                            "--steps", "10"])  # fmt: skip
    base, meta = load_base(root / "out/faces-base.safetensors")
    kind, rank = FITS[family][0]
    adapter = Adapter(base, AdapterConfig(kind, rank, 0))
    weights, files = load_fits(root / f"runs/faces-fit/{kind}-r{rank}/train")
    assert files == list(toy_faces(64).files[2:42])
    workers = "2" if family == "face-fields-lora" else "1"  # both ways
    options = ["--seeds", "1", "--workers", workers, "--models", "gl-net", "mlp"]
    lol_families.main([family, *common, *options])
    path = root / f"out/lol-{family}.safetensors"
    predictor = load_predictor(path)
    assert predictor.ranks == tuple(sorted(r for _, r in FITS[family]))
    measured = load_checkpoint(path)[1]["by_fit"]
    assert {k: v["loras"] for k, v in measured.items()} == {
        f"{k}-r{r}": 24 for k, r in FITS[family]
    }

    path = tmp_path / "x.safetensors"
    Instance(adapter, weights[3].float(), "image", "faces-base", meta["hash"], 64, {}).save(path)
    lora = read_lora(path)
    assert predictor.matches(lora)
    batch = lol_families.pairs_of(adapter, weights[3:4].float(), predictor.signature)
    one = pack(lora, predictor.signature)
    for (U, V), (P, Q) in zip(batch.groups, one.groups, strict=True):
        torch.testing.assert_close(U @ V.mT, P @ Q.mT)
    assert lora.base.name == predictor.base
    assert len(predictor.tasks["attributes"].task.labels) == len(toy_faces(1).attribute_names)
