"""Who makes what in a crew, with a Ray that is played in this process."""

import argparse
from types import SimpleNamespace

import pytest

from wsdemo.errors import WsdemoError
from wsdemo.train.loras import crew


class Lost(Exception):
    """What Ray raises of a worker that failed."""


class Played:
    """What a crew asks of Ray; a worker fails at pieces below 0."""

    exceptions = SimpleNamespace(RayError=Lost)

    def __init__(self):
        self.hired, self.killed, self.is_over = [], [], False

    def hire(self, *_):
        def new_worker():
            worker = SimpleNamespace(made=[])
            worker.make = SimpleNamespace(remote=lambda piece: (len(self.hired), piece))
            self.hired.append(worker)
            return worker

        return new_worker, 2

    def wait(self, busy):
        return busy[:1], busy[1:]

    def get(self, promise):
        _, piece = promise
        if piece < 0:
            raise Lost(f"worker of {piece}\nout of memory")
        return 10 * piece

    def kill(self, worker):
        self.killed.append(worker)

    def shutdown(self):
        self.is_over = True


@pytest.fixture
def played(monkeypatch):
    ray = Played()
    monkeypatch.setattr(crew, "needed", lambda _: ray)
    monkeypatch.setattr(crew, "hire", ray.hire)
    return ray


def make(pieces, kept, minutes=1.0):
    return crew.make_all(
        [(f"piece {p}", p) for p in pieces], object, (), lambda p: (p,),
        lambda piece, made: kept.append((piece, made)) or "kept",
        argparse.Namespace(minutes=minutes),
    )  # fmt: skip


def test_a_worker_that_fails_is_replaced_and_the_others_lose_nothing(played, capsys):
    kept = []
    assert make([1, -2, 3, 4, -5], kept) == 2
    assert kept == [(1, 10), (3, 30), (4, 40)]
    assert "piece -2 failed: out of memory" in capsys.readouterr().err
    assert len(played.killed) == 2
    assert not any(one is other for one in played.killed for other in played.hired[2:])
    assert len(played.hired) == 3  # for the last one there was nothing left to do
    assert played.is_over


def test_failures_in_a_row_end_the_call_and_failures_now_and_then_do_not(played):
    bad = [-i for i in range(1, crew.FAILURES + 1)]
    assert make([*bad[1:], 7, *bad[1:]], []) == 2 * crew.FAILURES - 2
    with pytest.raises(WsdemoError, match="failed in a row"):
        make(bad, [])
    assert played.is_over


def test_nothing_is_begun_when_the_time_is_over(played):
    kept = []
    assert make([1, 2], kept, minutes=0) == 0
    assert kept == []
