"""Files are whole or not there: whatever interrupts their writing."""

import errno
import os
import resource
import signal
import stat
import subprocess
import sys

import pytest

from wsdemo import files
from wsdemo.errors import WsdemoError
from wsdemo.files import check_folder, check_place, whole, write_whole


@pytest.fixture(params=["unnamed", "named"])
def system(request, monkeypatch):
    """A system with unnamed files, and one without."""
    if request.param == "named":
        monkeypatch.setattr(files, "_unnamed", lambda folder: None)
    return request.param


def test_a_file_takes_its_place_when_it_is_whole(system, tmp_path):
    path = tmp_path / "new" / "deep" / "x.bin"
    with whole(path) as file:
        file.write(b"some")
        assert not path.exists()
        assert system == "named" or not path.parent.exists()
    assert path.read_bytes() == b"some"
    with whole(path) as file:
        file.write(b"other")
        file.flush()
        assert path.read_bytes() == b"some"
    assert path.read_bytes() == b"other"
    assert os.listdir(path.parent) == ["x.bin"]
    assert write_whole(path, "ä") == 2


def interrupted(file, error):
    file.write(b"half")
    raise error


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError, SystemExit, ValueError])
def test_what_ends_badly_leaves_the_old_file_and_nothing_else(system, error, tmp_path):
    old = tmp_path / "old.bin"
    old.write_bytes(b"good")
    for path in (old, tmp_path / "new" / "deep" / "x.bin"):
        with pytest.raises(error), whole(path) as file:
            interrupted(file, error)
    assert os.listdir(tmp_path) == ["old.bin"]
    assert old.read_bytes() == b"good"


def test_links_are_followed_and_rights_are_kept(system, tmp_path):
    real, link = tmp_path / "real.bin", tmp_path / "link.bin"
    real.write_bytes(b"good")
    real.chmod(0o640)
    link.symlink_to(real)
    write_whole(link, b"better")
    assert link.is_symlink()
    assert real.read_bytes() == b"better"
    assert stat.S_IMODE(real.stat().st_mode) == 0o640
    write_whole(tmp_path / "new", b"")
    plain = tmp_path / "plain"
    plain.touch()
    assert (tmp_path / "new").stat().st_mode == plain.stat().st_mode


def test_what_a_killed_process_left_long_ago_goes(tmp_path):
    old, young = tmp_path / ".wsdemo-1.part", tmp_path / ".wsdemo-2.part"
    for path in (old, young):
        path.touch()
    os.utime(old, (1, 1))
    descriptor, hidden = files._named(tmp_path)
    os.close(descriptor)
    assert set(tmp_path.iterdir()) == {young, hidden}


WRITES = """
import sys
from pathlib import Path
from wsdemo import files
if sys.argv[2] == "named":
    files._unnamed = lambda folder: None
with files.whole(Path(sys.argv[1])) as file:
    file.write(bytes(1 << 16))
    file.flush()
    print("writing", flush=True)
    sys.stdin.read()
    file.write(bytes(1 << 16))
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_process_that_ends_while_it_writes_leaves_nothing_half(number, tmp_path):
    old, new = tmp_path / "old.bin", tmp_path / "new" / "x.bin"
    old.write_bytes(b"good")
    for path in (old, new):
        process = subprocess.Popen(
            [sys.executable, "-c", WRITES, str(path), "unnamed"], text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        )  # fmt: skip
        assert process.stdout.readline() == "writing\n"
        process.send_signal(number)
        process.communicate()
    assert old.read_bytes() == b"good"
    assert os.listdir(tmp_path) == ["old.bin"]


def test_a_full_disk_keeps_the_old_file_and_its_error_names_it(system, tmp_path):
    path = tmp_path / "old.bin"
    path.write_bytes(b"good")
    done = subprocess.run(
        [sys.executable, "-c", WRITES, str(path), system], input="", text=True, capture_output=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (70_000, 70_000)),
    )  # fmt: skip
    assert done.returncode == 1
    assert f"File too large: '{path}'" in done.stderr
    assert os.listdir(tmp_path) == ["old.bin"]
    assert path.read_bytes() == b"good"


def test_a_place_is_checked_and_nothing_is_made(system, tmp_path, monkeypatch):
    check_place(tmp_path / "a" / "b" / "x.png")
    check_folder(tmp_path / "a" / "b")
    assert os.listdir(tmp_path) == []
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    for place, said in (("file/x.png", "file is a file"), ("folder", "is a folder"),
                        ("pipe", "a device or a pipe")):  # fmt: skip
        with pytest.raises(WsdemoError, match=said):
            check_place(tmp_path / place)
    with pytest.raises(WsdemoError, match="file is a file"):
        check_folder(tmp_path / "file")

    def refuse(*_, **__):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(WsdemoError, match="Read-only file system"):
        check_place(tmp_path / "folder" / "x.png")
    with pytest.raises(OSError, match=str(tmp_path / "y")):
        write_whole(tmp_path / "y", b"")


def test_a_protected_file_is_not_replaced(tmp_path, monkeypatch):
    path = tmp_path / "x.png"
    path.touch()
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(WsdemoError, match="protected against writing"):
        check_place(path)
