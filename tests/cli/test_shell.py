"""How commands end: statuses, signals, closed pipes, options that do not apply."""

import errno
import json
import os
import signal
import subprocess
import sys

import pytest

from wsdemo.cli import shell
from wsdemo.cli.shell import INTERRUPTED, TERMINATED, run_command
from wsdemo.errors import WsdemoError


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_a_command_with_its_status_and_one_line(number, status, capsys):
    before = signal.getsignal(number)
    signal.signal(number, signal.default_int_handler)
    try:
        assert run_command(lambda: os.kill(os.getpid(), number) or {}, False) == status
        assert signal.getsignal(number) is signal.default_int_handler
    finally:
        signal.signal(number, before)
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("Interrupted:" if number == signal.SIGINT else "Terminated:")
    assert (INTERRUPTED, TERMINATED) == (130, 143)


def test_a_signal_that_is_to_be_ignored_stays_ignored():
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        assert run_command(lambda: os.kill(os.getpid(), signal.SIGINT) or {}, True) == 0
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize(
    ("error", "title"),
    [(WsdemoError("Bad", "x", "y"), "Bad"), (MemoryError(), "Not enough memory"),
     (RuntimeError("DefaultCPUAllocator: can't allocate memory"), "Not enough memory"),
     (OSError(errno.ENOSPC, "No space left on device", "x.png"), "No room for a file"),
     (OSError(errno.EACCES, "Permission denied", "x.png"), "File not accessible")],
)  # fmt: skip
def test_what_is_no_bug_is_refused(error, title, capsys):
    def fail():
        raise error

    assert run_command(fail, True) == 2
    assert json.loads(capsys.readouterr().out)["error"]["title"] == title


@pytest.mark.parametrize("error", [ValueError("x"), RuntimeError("x"), OSError("x")])
def test_a_bug_keeps_its_traceback(error):
    def fail():
        raise error

    with pytest.raises(type(error)):
        run_command(fail, True)


@pytest.mark.parametrize("verb", [["lol", "list"], ["nonsense"]])
def test_a_closed_pipe_is_quiet(verb):
    process = subprocess.Popen(
        [sys.executable, "-m", "wsdemo", *verb], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    process.stdout.close()
    said = process.stderr.read().decode()
    process.stderr.close()
    assert process.wait() in (141, 0, 2)
    assert "Traceback" not in said
    assert "BrokenPipe" not in said


def test_people_are_shown_the_beginning_of_long_lists_and_a_line_each_program(capsys):
    many = [f"key.{i}" for i in range(100)]
    shell._show({"loads_in": {"peft": {"ok": False, "lost_keys": many}}, "modules": 3}, False)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "loads_in:"
    assert lines[1].startswith("  peft: {'ok': False, 'lost_keys': ['key.0',")
    assert "100 in all, see --json" in lines[1]
    assert "key.6" not in lines[1]
    assert lines[2] == "modules: 3"
    shell._show({"keys": many}, True)
    assert json.loads(capsys.readouterr().out) == {"keys": many}
