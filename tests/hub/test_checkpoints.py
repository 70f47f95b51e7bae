"""Checkpoints from a repository of the Hub: fetched by name, once, and only if they are whole."""

import pytest
import torch
from safetensors.torch import save

from wsdemo import checkpoints
from wsdemo.checkpoints import checkpoint_names, fetch_from, is_at_hand, load_checkpoint
from wsdemo.errors import WsdemoError
from wsdemo.hub import client
from wsdemo.hub.checkpoints import use_named_repository
from wsdemo.hub.repository import Candidate


def body(value):
    """A checkpoint of one number."""
    return save({"x": torch.tensor([float(value)])}, metadata={"wsdemo": '{"kind": "test"}'})


@pytest.fixture
def folder(loopback, tmp_path, monkeypatch):
    """An empty folder of checkpoints, and a repository that holds two, one in a folder."""
    loopback.files["acme/models"] = {
        "a.safetensors": body(1), "lol-b.safetensors": body(2), "old/a.safetensors": body(3),
    }  # fmt: skip
    monkeypatch.setattr(checkpoints, "DIRECTORY", tmp_path / "checkpoints")
    yield tmp_path / "checkpoints"
    fetch_from()


def test_a_missing_checkpoint_is_fetched_by_its_name_once(loopback, folder, capsys):
    use_named_repository({"WSDEMO_CHECKPOINTS_REPO": "acme/models"})
    assert checkpoint_names() == ["a.safetensors", "lol-b.safetensors"]
    assert checkpoint_names("lol-") == ["lol-b.safetensors"]
    assert load_checkpoint(folder / "a.safetensors")[0]["x"].item() == 1
    assert "fetching acme/models:a.safetensors" in capsys.readouterr().err
    asked = len(loopback.requests)
    assert load_checkpoint(folder / "a.safetensors")[0]["x"].item() == 1
    assert len(loopback.requests) == asked
    assert [p.name for p in folder.iterdir()] == ["a.safetensors"]
    assert not is_at_hand(folder / "none.safetensors")
    with pytest.raises(WsdemoError, match=r"none\.safetensors is not in"):
        load_checkpoint(folder / "none.safetensors")


def test_a_folder_and_a_revision_can_be_named(loopback, folder):
    use_named_repository({"WSDEMO_CHECKPOINTS_REPO": "acme/models@main:old"})
    assert checkpoint_names() == ["a.safetensors"]
    assert load_checkpoint(folder / "a.safetensors")[0]["x"].item() == 3


@pytest.mark.parametrize("fault", ["wrong", "cut", 500])
def test_what_is_damaged_on_the_way_is_not_kept(loopback, folder, fault):
    use_named_repository({"WSDEMO_CHECKPOINTS_REPO": "acme/models"})
    loopback.fault["a.safetensors"] = fault
    with pytest.raises(WsdemoError):
        load_checkpoint(folder / "a.safetensors")
    assert not folder.exists()
    loopback.fault.clear()
    assert is_at_hand(folder / "a.safetensors")


def test_what_has_no_hash_to_compare_with_is_refused(loopback, folder, monkeypatch):
    use_named_repository({"WSDEMO_CHECKPOINTS_REPO": "acme/models"})
    real = client.fetch_file

    def without_hash(*arguments):
        path, repository, found = real(*arguments)
        return path, repository, Candidate(found.path, found.size, None)

    monkeypatch.setattr(client, "fetch_file", without_hash)
    with pytest.raises(WsdemoError, match="states none of acme/models"):
        load_checkpoint(folder / "a.safetensors")
    assert not folder.exists()


def test_other_folders_are_left_alone_and_without_a_name_nobody_is_asked(
    loopback, folder, tmp_path
):
    use_named_repository({"WSDEMO_CHECKPOINTS_REPO": "acme/models"})
    with pytest.raises(WsdemoError, match="Checkpoint missing"):
        load_checkpoint(tmp_path / "a.safetensors")
    use_named_repository({})
    with pytest.raises(WsdemoError, match="Checkpoint missing"):
        load_checkpoint(folder / "a.safetensors")
    assert loopback.requests == []
    with pytest.raises(WsdemoError, match="expected owner/name"):
        use_named_repository({"WSDEMO_CHECKPOINTS_REPO": "not a repository"})
