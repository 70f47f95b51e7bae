"""Batches of LoRAs, and tables of labels with every kind of mistake."""

import csv

import pytest
import torch

from tests.lol.synthetic import SIGNATURE, labelled, pairs, write_collection
from wsdemo.errors import WsdemoError
from wsdemo.lol.data.collection import default_split, load_collection
from wsdemo.lol.data.labels import guess_tasks
from wsdemo.lol.data.pairs import Pairs, Signature, pack
from wsdemo.lora.modules import BaseModel, Lora, LoraModule


def lora(modules):
    return Lora("test", tuple(modules), BaseModel(""), (), {}, 0, (), ())


def module(name, n, m, rank, seed=0):
    g = torch.Generator().manual_seed(seed)
    U, V = torch.randn(n, rank, generator=g), torch.randn(m, rank, generator=g)
    return LoraModule(name, U, V, 1.0, rank, (n, m))


def test_packing_keeps_every_update_and_pads_the_rest_with_nothing():
    own = lora([module("b", 4, 6, 2, 1), module("a", 5, 5, 3, 2)])
    signature = Signature({"a": (5, 5), "b": (4, 6), "c": (5, 5)})
    batch = pack(own, signature)
    assert batch.rank == 3
    products = {
        name: (U @ V.mT)[0, i]
        for ((_, names), (U, V)) in zip(signature.groups, batch.groups, strict=True)
        for i, name in enumerate(names)
    }
    for m in own.modules:
        torch.testing.assert_close(products[m.name], m.U @ m.V.T)
    assert not products["c"].any()


def test_packing_refuses_modules_of_another_family():
    with pytest.raises(WsdemoError, match="not modules of this family"):
        pack(lora([module("z", 4, 4, 2)]), SIGNATURE)
    with pytest.raises(WsdemoError, match="expected"):
        pack(lora([module("block0.to_q", 4, 4, 2)]), SIGNATURE)


def test_joining_pads_to_the_largest_rank():
    joined = Pairs.join([pairs(2, 2), pairs(3, 5)])
    assert len(joined) == 5
    assert joined.rank == 5


def test_a_collection_is_read_split_and_named(tmp_path):
    labels = write_collection(tmp_path / "loras")
    found = load_collection(tmp_path / "loras", labels)
    assert found.base == "acme/tiny@1"
    assert found.ranks == {3: len(found.splits["train"].names)}
    assert sum(len(s.names) for s in found.splits.values()) == 60
    assert {t.name: t.kind for t in found.tasks} == {"attributes": "binary", "score": "regression"}
    # Pairing goes by name: the first LoRA's update is the one that was written.
    data = labelled(60, 5)
    name = found.splits["train"].names[0]
    index = int(name.removesuffix(".safetensors").split("-")[1])
    got = found.splits["train"].pairs.pick(slice(0, 1))
    place = [n.removeprefix("transformer.") for n in found.signature.names]
    wanted = {n: (U[index, j] @ V[index, j].T)
              for (_, names), (U, V) in zip(SIGNATURE.groups, data.pairs.groups, strict=True)
              for j, n in enumerate(names)}  # fmt: skip
    flat = [U[0, j] @ V[0, j].T for U, V in got.groups for j in range(U.shape[1])]
    for n, product in zip(place, flat, strict=True):
        torch.testing.assert_close(product, wanted[n], atol=1e-5, rtol=1e-5)


def test_the_split_of_a_name_never_changes():
    assert [default_split(f"x{i}") for i in range(8)] == [default_split(f"x{i}") for i in range(8)]
    counts = [default_split(f"x{i}") for i in range(2000)]
    assert 0.65 < counts.count("train") / 2000 < 0.75


def rewrite(labels, change):
    rows = list(csv.DictReader(labels.open()))
    rows = change(rows)
    with labels.open("w", newline="") as handle:
        writer = csv.DictWriter(handle, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda rows: rows[:3], "at least 20"),
        (lambda rows: [{**r, "file": "gone-" + r["file"]} for r in rows], "at least 20"),
        (lambda rows: rows + rows[:1], "two rows"),
        (lambda rows: [{"path": r["file"], "score": r["score"]} for r in rows], "'file'"),
        (lambda rows: [{"file": r["file"]} for r in rows], "columns of numbers"),
        (lambda rows: [{"file": r["file"], "word": "x"} for r in rows], "No usable label"),
        (lambda rows: [{"file": r["file"], "one": "1"} for r in rows], "No usable label"),
        (lambda rows: [{"file": r["file"], "score": "nan"} for r in rows], "No usable label"),
        (lambda rows: [{**r, "split": "train"} for r in rows], "No LoRA is in 'validation'"),
    ],
)
def test_every_mistake_in_a_table_is_told(tmp_path, change, said):
    labels = write_collection(tmp_path / "loras", count=30)
    rewrite(labels, change)
    with pytest.raises(WsdemoError) as caught:
        load_collection(tmp_path / "loras", labels)
    assert said in caught.value.message + caught.value.title + caught.value.hint


def test_unlabelled_files_and_missing_files_are_counted(tmp_path):
    labels = write_collection(tmp_path / "loras", count=40)
    rewrite(labels, lambda rows: [*rows[:-3], {**rows[0], "file": "gone.safetensors"}])
    notes = load_collection(tmp_path / "loras", labels).notes
    assert any("3 files have no labels" in n for n in notes)
    assert any("1 labelled files are not in the folder" in n for n in notes)


def test_two_families_in_one_folder_are_refused(tmp_path):
    from safetensors.torch import save_file

    labels = write_collection(tmp_path / "loras", count=30)
    other = {"transformer.other.lora_A.weight": torch.randn(2, 7),
             "transformer.other.lora_B.weight": torch.randn(7, 2)}  # fmt: skip
    save_file(other, tmp_path / "loras" / "lora-000.safetensors")
    with pytest.raises(WsdemoError, match="share no module"):
        load_collection(tmp_path / "loras", labels)


def test_one_class_among_the_training_loras_is_told(tmp_path):
    labels = write_collection(tmp_path / "loras", count=40)

    def only_in_test(rows):
        return [{**r, "sign": int(default_split(r["file"]) == "test")} for r in rows]

    rewrite(labels, only_in_test)
    with pytest.raises(WsdemoError, match="One class only"):
        load_collection(tmp_path / "loras", labels)


def test_labels_are_guessed_by_their_values():
    nan = float("nan")
    tasks = guess_tasks({"yes": [0, 1, 1], "score": [0.5, 0.7, nan], "same": [2, 2, 2]})
    assert [(t.name, t.labels, t.kind) for t in tasks] == [
        ("attributes", ("yes",), "binary"),
        ("score", ("score",), "regression"),
    ]
