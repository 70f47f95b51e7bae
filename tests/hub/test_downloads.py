"""Copies on this machine: used again, bounded, and all there is without a network."""

import json
import os
import time

import pytest
from huggingface_hub import constants

from tests.hub.acme import fetched, resolved
from tests.hub.loopback import COMMIT
from wsdemo.cli.main import main
from wsdemo.errors import WsdemoError
from wsdemo.hub import downloads
from wsdemo.hub.downloads import new_copy
from wsdemo.hub.repository import Candidate, Repository
from wsdemo.ui.lora import hub_row


def test_a_second_download_comes_from_disk(loopback):
    fetched("acme/lora")
    before = len(loopback.requests)
    fetched("acme/lora")
    assert all("/resolve/" not in path for path, _ in loopback.requests[before:])


def test_old_downloads_make_room(loopback, monkeypatch, tmp_path):
    size = len(loopback.files["acme/lora"]["adapter_model.safetensors"])
    monkeypatch.setattr("wsdemo.hub.downloads.MAX_DOWNLOADS_BYTES", 2 * size)
    for i in range(3):
        fetched(f"acme/many:v{i}.safetensors")
    fetched("acme/lora")
    kept = list((tmp_path / "downloads").iterdir())
    assert sum(f.stat().st_size for p in kept for f in p.iterdir()) <= 2 * size + 1000


def test_offline_mode_asks_nobody(loopback, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(WsdemoError, match="HF_HUB_OFFLINE"):
        resolved("acme/lora")
    assert loopback.requests == []


def test_offline_mode_gives_what_was_downloaded_and_says_so(loopback, monkeypatch, capsys):
    loopback.private.add("acme/one")
    for text in ("acme/lora", "acme/many:v1.safetensors", "acme/many:v2.safetensors", "acme/one"):
        fetched(text, "hf_x")
    *_, (_, _, told) = hub_row.fetch(resolved("acme/many:v1.safetensors"), None, "")
    assert told == f"Downloaded 2.2 kB: v1.safetensors, commit {COMMIT[:12]} of acme/many."
    before = len(loopback.requests)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    *_, (_, _, told) = hub_row.fetch(resolved("acme/many:v1.safetensors"), None, "")
    assert told.startswith("Offline, read from the copy on this machine: v1.safetensors, commit")
    assert main(["inspect", f"acme/lora@{COMMIT}", "--json"]) == 0
    out = capsys.readouterr()
    assert json.loads(out.out)["base_model"]["name"] == "acme/base"
    assert "offline: the copy on this machine" in out.err
    assert main(["inspect", "acme/many:v2.safetensors", "--json"]) == 0
    assert "rank 3" in hub_row.look("acme/many:v2.safetensors", "")[2]
    assert len(resolved("acme/many").candidates) == 2  # of three: which one is asked
    assert "Offline, from the copies on this machine" in hub_row.look("acme/many", "")[2]
    for text in ("acme/many:v0.safetensors", "acme/lora@v1", "acme/none"):
        with pytest.raises(WsdemoError, match="no copy of it"):
            resolved(text)
    with pytest.raises(WsdemoError, match="private"):  # the copy may be another visitor's
        resolved("acme/one", "hf_x")
    assert len(loopback.requests) == before


def candidate(name, size):
    """A file of acme/slow, and its repository."""
    found = Candidate(name, size, None)
    return Repository("acme/slow", COMMIT, (found,), found, (), ""), found


def keep(name, size):
    with new_copy(*candidate(name, size), None) as path:
        path.write_bytes(bytes(size))


def test_a_download_that_is_not_finished_is_not_deleted_to_make_room(monkeypatch, tmp_path):
    monkeypatch.setenv("WSDEMO_DOWNLOADS", str(tmp_path))
    monkeypatch.setattr(downloads, "MAX_DOWNLOADS_BYTES", 2600)  # with the configurations
    keep("old", 1000)
    with new_copy(*candidate("slow", 1000), None) as slow:
        slow.write_bytes(b"the first bytes")
        os.utime(slow.parent, (1, time.time() - 600))  # the oldest of all, and still under way
        keep("new", 1000)
        assert slow.read_bytes() == b"the first bytes"
        assert not downloads.kept_file(*candidate("old", 1000))
        with new_copy(*candidate("also slow", 1000), None) as other:
            other.write_bytes(bytes(1000))
            with pytest.raises(WsdemoError, match="those under way"):
                keep("one too many", 1000)
        slow.write_bytes(bytes(1000))
    assert downloads.kept_file(*candidate("slow", 1000))


def test_what_a_killed_process_left_makes_room(monkeypatch, tmp_path):
    monkeypatch.setenv("WSDEMO_DOWNLOADS", str(tmp_path))
    monkeypatch.setattr(downloads, "MAX_DOWNLOADS_BYTES", 1500)
    left = tmp_path / "unfinished-1000-abc"
    left.mkdir()
    (left / "adapter.safetensors").write_bytes(bytes(900))
    os.utime(left, (1, 1))
    keep("new", 1000)
    assert not left.exists()


def test_of_two_who_download_a_file_at_once_the_first_copy_stays(monkeypatch, tmp_path):
    monkeypatch.setenv("WSDEMO_DOWNLOADS", str(tmp_path))
    with new_copy(*candidate("same", 10), None) as slow:
        slow.write_bytes(bytes(10))
        keep("same", 10)
        first = downloads.kept_file(*candidate("same", 10)).stat().st_ino
    assert downloads.kept_file(*candidate("same", 10)).stat().st_ino == first
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith("unfinished")] == []
