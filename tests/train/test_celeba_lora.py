"""CelebA-LoRA end to end on a random Stable Diffusion of a few thousand weights, with Ray."""

import csv
import json
import math
from dataclasses import replace

import pytest
import torch

from wsdemo.errors import WsdemoError
from wsdemo.lol.data.collection import load_collection
from wsdemo.lora.reader import read_lora
from wsdemo.train.loras import celeba_lora
from wsdemo.train.loras.celeba_lora import MIN_PICTURES, load_celebrities, make_plan, write_toy
from wsdemo.train.loras.making import needed
from wsdemo.train.loras.stable_diffusion import TARGETS, Settings, Studio

for package in ("diffusers", "peft", "transformers"):
    pytest.importorskip(package)

STEPS = (1, 3)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return tmp_path_factory.mktemp("celeba")


@pytest.fixture(scope="module")
def toy(root):
    return write_toy(root / "runs/celeba-toy")


@pytest.fixture(scope="module")
def studio(toy):
    settings = Settings(
        str(toy / "pipeline"), str(toy / "clip"), 16, 1, STEPS, denoising_steps=2
    )  # fmt: skip
    return Studio(settings, "cpu", 1)


def pictures(toy, person):
    return [(toy / "img_align_celeba" / f).read_bytes() for f in person.files]


@pytest.mark.slow
def test_recipe_makes_labelled_loras_goes_on_after_a_failure_and_then_rests(
    root, toy, studio, monkeypatch, capsys
):
    pytest.importorskip("ray")
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    folder = root / "loras"
    command = ["--toy", "--runs", str(root / "runs"), "--out", str(root / "out"), "--device", "cpu",
               "--threads", "1", "--out-loras", str(folder)]  # fmt: skip
    people = load_celebrities(toy, 100)
    broken = toy / "img_align_celeba" / people[-1].files[0]
    picture = broken.read_bytes()
    broken.write_bytes(b"no picture")
    with pytest.raises(SystemExit, match="1"):
        celeba_lora.main(command)
    failed = make_plan(people[-1].identity, STEPS)
    assert f"{failed.name} failed: PIL.UnidentifiedImageError" in capsys.readouterr().err
    made = {p: p.stat().st_mtime_ns for p in folder.glob("*/*.safetensors")}
    assert len(made) == len(people) - 1
    assert not (folder / failed.file).exists()

    def at_once(work, worker, given, order, keep, _):
        """In this process: that Ray's workers answer is seen above, and its start takes long."""
        assert (worker, [name for name, _ in work]) == (Studio, [failed.name])
        for _, piece in work:
            keep(piece, studio.make(*order(piece)))
        return 0

    broken.write_bytes(picture)
    monkeypatch.setattr(celeba_lora, "make_all", at_once)
    celeba_lora.main(command)
    assert (folder / failed.file).exists()
    assert all(p.stat().st_mtime_ns == before for p, before in made.items())
    monkeypatch.setattr(celeba_lora, "make_all", lambda *_: pytest.fail("nothing is left to do"))
    celeba_lora.main(command)
    assert not list(folder.rglob("*.tmp"))

    collection = load_collection(folder, folder / "manifest.csv")
    assert collection.ranks == {4: 13}
    assert {t.name for t in collection.tasks} == {"attributes", "clip_score"}
    assert sum(len(part.names) for part in collection.splits.values()) == len(people)
    assert not collection.notes
    rows = list(csv.DictReader((folder / "manifest.csv").open()))
    assert all(math.isfinite(float(row["clip_score"])) for row in rows)
    with pytest.raises(WsdemoError, match="Another collection"):
        celeba_lora.check_settings(folder, Settings("other", "clip"))


def test_the_reader_and_diffusers_understand_a_lora_and_agree(root, toy, studio):
    diffusers = pytest.importorskip("diffusers")
    person = load_celebrities(toy, 1)[0]
    plan = make_plan(person.identity, (30, 30))
    tensors, score = studio.make(plan, pictures(toy, person))
    celeba_lora.keep(root / "one", plan, person, tensors, score, studio.settings)
    lora = read_lora(root / "one" / plan.file)
    attention = [n for n, m in studio.pipe.unet.named_modules() if n.endswith(("attn1", "attn2"))]
    assert lora.family == "diffusers (PEFT layers)"
    assert len(lora.modules) == 2 * len(attention)
    assert lora.ranks == {4: len(lora.modules)}
    assert lora.is_exact
    assert not lora.ignored
    assert not lora.warnings
    pipe = diffusers.StableDiffusionPipeline.from_pretrained(toy / "pipeline")
    before = {k: v.clone() for k, v in pipe.unet.state_dict().items()}
    pipe.load_lora_weights(str(root / "one" / plan.file))
    pipe.fuse_lora()
    pipe.unload_lora_weights()
    after = pipe.unet.state_dict()
    for module in lora.modules:
        key = module.name.removeprefix("unet.") + ".weight"
        torch.testing.assert_close(module.U @ module.V.T, after[key] - before[key],
                                   atol=1e-6, rtol=1e-3)  # fmt: skip


def test_a_plan_makes_the_same_lora_whatever_was_made_before(toy, studio):
    one, other = load_celebrities(toy, 2)
    plan = make_plan(one.identity, STEPS)
    first, score = studio.make(plan, pictures(toy, one))
    studio.make(make_plan(other.identity, STEPS), pictures(toy, other))
    again, same = studio.make(plan, pictures(toy, one))
    assert score == same
    assert all(torch.equal(first[k], again[k]) for k in first)
    assert any(v.any() for k, v in first.items() if "lora_B" in k)


def test_a_diverged_lora_is_refused_and_the_next_is_not_touched(toy, studio):
    person = load_celebrities(toy, 1)[0]
    plan = make_plan(person.identity, STEPS)
    wild = replace(plan, learning_rate=math.inf)
    with pytest.raises(WsdemoError, match="Diverged"):
        studio.make(wild, pictures(toy, person))
    tensors, _ = studio.make(plan, pictures(toy, person))
    assert all(v.isfinite().all() for v in tensors.values())


@pytest.mark.slow
def test_finetuning_lowers_the_loss_on_its_pictures(toy, studio):
    peft = pytest.importorskip("peft")
    person = load_celebrities(toy, 1)[0]
    plan = replace(make_plan(person.identity, (60, 60)), learning_rate=2e-2)
    still = replace(plan, learning_rate=0.0)  # draws the same noise
    studio.pipe.unet.add_adapter(peft.LoraConfig(r=4, target_modules=["to_q", "to_v"]))
    before = studio.finetune(still, pictures(toy, person)).mean()
    studio.finetune(plan, pictures(toy, person))
    after = studio.finetune(still, pictures(toy, person)).mean()
    studio.pipe.unet.delete_adapters("default")
    assert after < 0.97 * before, (before, after)


def test_celebrities_are_read_from_celebas_own_tables(tmp_path):
    (tmp_path / "img_align_celeba").mkdir()
    names = [f"{i:06d}.jpg" for i in range(1, 2 * MIN_PICTURES)]
    for name in names:
        (tmp_path / "img_align_celeba" / name).touch()
    owner = {name: 2880 if i < MIN_PICTURES else 17 for i, name in enumerate(names)}
    (tmp_path / "identity_CelebA.txt").write_text(
        "".join(f"{n} {o}\n" for n, o in owner.items()) + "999999.jpg 17\n"
    )
    columns = ["Bald", *celeba_lora.ATTRIBUTES]
    rows = [f"{n} -1  1 {' 1' if i < 4 else '-1'} -1  1 -1" for i, n in enumerate(names)]
    (tmp_path / "list_attr_celeba.txt").write_text(
        "\n".join([str(len(rows)), " ".join(columns) + " ", *rows, ""])
    )
    (person,) = load_celebrities(tmp_path, 5)  # the other has one picture too few
    assert person.identity == 2880
    assert person.files == tuple(names[:MIN_PICTURES])
    assert list(person.attributes.values()) == [1, 0, 0, 1, 0]
    (tmp_path / "list_attr_celeba.txt").write_text("3\nMale\n")
    with pytest.raises(WsdemoError) as caught:
        load_celebrities(tmp_path, 5)
    assert "img_align_celeba" in caught.value.hint


def test_a_plan_is_drawn_from_its_celebrity_alone_and_a_smaller_count_is_a_part(toy):
    assert make_plan(7, (100, 200)) == make_plan(7, (100, 200))
    plans = [make_plan(i, (100, 200)) for i in range(300)]
    assert {p.split for p in plans} == {"train", "validation", "test"}
    assert all(100 <= p.steps <= 200 and 1e-4 <= p.learning_rate <= 10**-2.5 for p in plans)
    assert load_celebrities(toy, 100)[:5] == load_celebrities(toy, 5)


def test_stable_diffusion_1_has_the_64_pairs_of_the_paper():
    diffusers = pytest.importorskip("diffusers")
    with torch.device("meta"):  # shapes without 3 GB of weights
        unet = diffusers.UNet2DConditionModel(
            sample_size=64, cross_attention_dim=768, attention_head_dim=8
        )  # fmt: skip
    assert sum(name.endswith(TARGETS) for name, _ in unet.named_modules()) == 64


def test_a_missing_package_is_told_with_what_to_install():
    with pytest.raises(WsdemoError) as caught:
        needed("no_such_package_here")
    assert "pip install" in caught.value.hint


def test_labels_in_the_file_are_those_of_the_manifest(root, toy, studio):
    from safetensors import safe_open

    person = load_celebrities(toy, 1)[0]
    plan = make_plan(person.identity, STEPS)
    tensors = {"unet.x.to_q.lora_A.weight": torch.zeros(4, 8)}
    celeba_lora.keep(root / "kept", plan, person, tensors, 25.0, studio.settings)
    celeba_lora.write_manifest(root / "kept")
    (row,) = csv.DictReader((root / "kept/manifest.csv").open())
    with safe_open(root / "kept" / plan.file, framework="pt") as file:
        labels = json.loads(file.metadata()["labels"])
    assert all(str(labels[k]) == v for k, v in row.items())
    assert labels["learning_rate"] == plan.learning_rate
