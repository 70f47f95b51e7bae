"""Public collections become folders with labels.csv, from a Hub on this machine."""

import csv
import errno
import json

import pytest
from filelock import FileLock
from safetensors.torch import load_file, save_file

from tests.lol.imports import layouts
from tests.lora.files import families
from wsdemo.cli.main import main
from wsdemo.errors import WsdemoError
from wsdemo.lol.data.collection import read_labels
from wsdemo.lol.imports import importing
from wsdemo.lol.imports.importing import import_collection
from wsdemo.lora.reader import read_lora


def quiet(text):
    pass


def table(out):
    return {row["file"]: row for row in csv.DictReader((out / "labels.csv").open())}


def downloads(loopback):
    return sum("/resolve/" in p and p.endswith((".safetensors", ".parquet"))
               for p, headers in loopback.requests if "range" not in headers)  # fmt: skip


# ---- layouts ----------------------------------------------------------------------------


def test_model_j_of_stable_diffusion(loopback, tmp_path):
    told = []
    done = import_collection(layouts.model_j(loopback), tmp_path, told.append)
    rows = table(tmp_path)
    assert set(done.columns) == {
        "imagenet_class", "learning_rate", "max_train_steps", "n_training_samples"
    }  # fmt: skip
    assert done.splits == {"train": 3, "validation": 1, "test": 1}
    assert done.base == "CompVis/stable-diffusion-v1-4"
    assert "licence of 5: mit" in told
    assert any("holdout" in note for note in done.notes)
    row = rows["train/model_idx_0001.safetensors"]
    assert (row["imagenet_class"], row["n_training_samples"]) == ("cat_1 (n1)", "11")
    assert len(read_lora(tmp_path / row["file"]).modules) == 4
    read_labels(tmp_path / "labels.csv")


def test_collections_of_w2t_with_tables_splits_and_configurations(loopback, tmp_path):
    repo = layouts.w2t(loopback)
    done = import_collection(repo.removeprefix("datasets/"), tmp_path, quiet)
    rows = table(tmp_path)
    file = "checkpoints/lora_00001/adapter_model.safetensors"
    assert rows[file] | {"smiling": "1", "young": "0", "split": "train"} == rows[file]
    assert done.splits == {"train": 2, "validation": 1, "test": 1}
    assert done.notes == ["1 files have no labels"]
    assert done.licences == {"research-only": 4}
    assert read_lora(tmp_path / file).modules[0].scale == 2.0  # by its configuration
    assert done.base == "acme/mistral"


def test_lora_wise_with_a_subset(loopback, tmp_path):
    repo = layouts.wise(loopback, tmp_path)
    with pytest.raises(WsdemoError, match=r"low/4 .*high/4") as caught:
        import_collection(repo, tmp_path / "x", quiet)
    assert "datasets/MoSalama98/LoRA-WiSE:low/4" in caught.value.hint
    done = import_collection(f"{repo}:low/4", tmp_path / "out", quiet)
    rows = table(tmp_path / "out")
    assert (done.files, done.columns) == (6, ["data_set_size"])
    row = rows["low-4-train-00001-of-00002-0002.safetensors"]
    assert (row["data_set_size"], row["group"]) == ("20", "low/4/toy_2")
    lora = read_lora(tmp_path / "out" / row["file"])
    assert (len(lora.modules), lora.modules[0].rank) == (4, 4)
    before = downloads(loopback)
    import_collection(f"{repo}:low/4", tmp_path / "out", quiet)
    assert downloads(loopback) == before
    assert not list((tmp_path / "out").glob("*.parquet"))


def test_lots_of_loras_a_repository_a_task(loopback, tmp_path):
    done = import_collection(layouts.lots(loopback), tmp_path, quiet)
    rows = table(tmp_path)
    row = rows["Mistral-7B-Instruct-v0.2-4b-r16-task891/adapter_model.safetensors"]
    assert (row["task_kind"], row["examples"], row["group"]) == ("generation", "102", "task891")
    assert done.base == "mistralai/Mistral-7B-Instruct-v0.2"
    assert read_lora(tmp_path / row["file"]).modules[0].scale == 2.0


def test_a_folder_of_kohya_and_toolkit_files_by_their_headers(tmp_path):
    tensors, _, _ = families()["kohya"]
    source, meta = (
        tmp_path / "mine",
        {"ss_base_model_version": "sd_v1", "ss_num_train_images": "40"},
    )
    source.mkdir()
    for i, step in enumerate((100, 200)):
        said = meta | {"ss_steps": str(step), "ss_output_name": "hat", "ss_unet_lr": "0.0001"}
        save_file(tensors, source / f"hat-{i:06d}.safetensors", said)
    toolkit = {"training_info": json.dumps({"step": 300, "epoch": 2}), "name": "cat",
               "config": json.dumps({"train": {"lr": 4e-4, "optimizer": "adamw8bit"}}),
               "ss_base_model_version": "sd_v1"}  # fmt: skip
    save_file(tensors, source / "cat.safetensors", toolkit)
    save_file(tensors, source / "silent.safetensors")
    (source / "broken.safetensors").write_bytes(b"<html>")
    out = tmp_path / "out"
    done = import_collection(str(source), out, quiet)
    rows = table(out)
    assert (rows["hat-000001.safetensors"]["steps"], rows["cat.safetensors"]["steps"]) == (
        "200.0",
        "300.0",
    )
    assert rows["cat.safetensors"]["learning_rate"] == "0.0004"
    assert (
        rows["hat-000000.safetensors"]["group"] == rows["hat-000001.safetensors"]["group"] == "hat"
    )
    assert done.base == "sd_v1"
    assert len(done.notes) == 2
    save_file(
        tensors,
        source / "xl.safetensors",
        meta | {"ss_steps": "5", "ss_base_model_version": "sdxl"},
    )
    with pytest.raises(WsdemoError, match=r"sd_v1 \(3\), sdxl \(1\)"):
        import_collection(str(source), out, quiet)
    assert import_collection(str(source), out, quiet, base="sdxl").files == 1


# ---- what goes wrong ----------------------------------------------------------------------


def test_an_import_goes_on_where_the_hub_stopped(loopback, tmp_path, monkeypatch):
    repo = layouts.model_j(loopback)
    monkeypatch.setattr(importing, "IN_A_ROW", 2)
    weights = "pytorch_lora_weights.safetensors"
    for place in ("train/model_idx_0001", "train/model_idx_0002"):
        loopback.fault[f"{place}/{weights}"] = 503
    with pytest.raises(WsdemoError, match=r"of 5 files are here"):
        import_collection(repo, tmp_path, quiet)
    assert not (tmp_path / "labels.csv").exists()
    loopback.fault.clear()
    before = downloads(loopback)
    assert import_collection(repo, tmp_path, quiet).files == 5
    assert downloads(loopback) - before < 5
    again = downloads(loopback)
    import_collection(repo, tmp_path, quiet)
    assert downloads(loopback) == again


@pytest.mark.parametrize("fault", ["wrong", "cut"])
def test_a_damaged_file_is_counted_and_never_taken_for_whole(loopback, tmp_path, fault):
    repo = layouts.model_j(loopback)
    path = "train/model_idx_0002/pytorch_lora_weights.safetensors"
    loopback.fault[path] = fault
    with pytest.raises(WsdemoError, match="1 of 5, such as train/model_idx_0002"):
        import_collection(repo, tmp_path, quiet)
    assert not (tmp_path / "train" / "model_idx_0002.safetensors").exists()
    assert not list(tmp_path.rglob("*.part"))
    done = import_collection(repo, tmp_path, quiet, allow_missing=True)
    assert done.files == 4
    assert "1 files could not be fetched and are left out" in done.notes


def test_labels_that_contradict_are_refused_with_counts(loopback, tmp_path):
    repo = layouts.w2t(loopback)
    loopback.files[repo]["labels/again.csv"] = b"name,smiling\nlora_00000,1\nlora_00001,1.0\n"
    with pytest.raises(WsdemoError, match=r"1 times in 4 LoRAs.*smiling") as caught:
        import_collection(repo, tmp_path, quiet)
    assert caught.value.title == "Labels contradict"
    assert downloads(loopback) == 0


def test_equal_files_are_taken_once_and_must_have_equal_labels(loopback, tmp_path):
    repo = layouts.model_j(loopback)
    files = loopback.files[repo]
    weights, card = "pytorch_lora_weights.safetensors", "README.md"
    for name in (weights, card):
        files[f"train/model_idx_0007/{name}"] = files[f"train/model_idx_0001/{name}"]
    done = import_collection(repo, tmp_path / "a", quiet)
    assert done.files == 5
    assert any("byte for byte" in note for note in done.notes)
    files[f"train/model_idx_0007/{card}"] = files[f"train/model_idx_0002/{card}"]
    with pytest.raises(WsdemoError, match="Labels contradict"):
        import_collection(repo, tmp_path / "b", quiet)


def test_two_bases_are_refused_before_anything_large_is_fetched(loopback, tmp_path):
    owner = layouts.lots(loopback)
    other = f"{owner}/Mistral-7B-Instruct-v0.2-4b-r16-task890"
    loopback.card[other]["base_model"] = "acme/other"
    with pytest.raises(WsdemoError, match=r"\(2\), acme/other \(1\)"):
        import_collection(owner, tmp_path, quiet)
    assert downloads(loopback) == 0
    assert import_collection(owner, tmp_path, quiet, base="acme/other").files == 1


def test_a_full_disk_is_said_at_once_and_leaves_no_half_file(
    loopback, tmp_path, monkeypatch, capsys
):
    repo = layouts.model_j(loopback)
    with monkeypatch.context() as patched:
        usage = type("Usage", (), {"free": 1000})
        patched.setattr(importing.shutil, "disk_usage", lambda _: usage)
        with pytest.raises(WsdemoError, match="GB are"):
            import_collection(repo, tmp_path, quiet)
    assert downloads(loopback) == 0

    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device", str(tmp_path / "x"))

    monkeypatch.setattr(importing.client, "download_to", full)
    assert main(["lol", "import", repo, "--out", str(tmp_path), "--json"]) == 2
    assert json.loads(capsys.readouterr().out)["error"]["title"] == "No room for a file"
    assert not (tmp_path / "labels.csv").exists()


def test_another_import_into_the_folder_is_refused(loopback, tmp_path):
    with FileLock(tmp_path / ".importing"), pytest.raises(WsdemoError, match="Another process"):
        import_collection(layouts.model_j(loopback), tmp_path, quiet)


def test_what_is_no_collection_is_said(loopback, tmp_path):
    loopback.files["acme/weights"] = {"model.bin": b"x"}
    with pytest.raises(WsdemoError, match=r"no \.safetensors") as caught:
        import_collection("acme/weights", tmp_path, quiet)
    assert "datasets/acme/weights" in caught.value.hint
    with pytest.raises(WsdemoError, match="no table that names them"):
        import_collection("acme/many", tmp_path, quiet)


def test_most_draws_the_same_loras_every_time(loopback, tmp_path):
    repo = layouts.model_j(loopback)
    for out in ("a", "b"):
        assert import_collection(repo, tmp_path / out, quiet, most=2).files == 2
    assert table(tmp_path / "a") == table(tmp_path / "b")


def test_the_command_writes_what_lol_train_takes(loopback, tmp_path, capsys):
    repo = layouts.model_j(loopback)
    assert main(["lol", "import", repo, "--out", str(tmp_path), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["files"], said["labels"]) == (5, str(tmp_path / "labels.csv"))
    assert said["licences"] == {"mit": 5}
    assert load_file(tmp_path / "test" / "model_idx_0004.safetensors")
