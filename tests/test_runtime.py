import os
import subprocess
import sys
import threading
from argparse import Namespace

import pytest
import torch

from benchmarks.common import start as benchmark_start
from wsdemo.errors import WsdemoError
from wsdemo.runtime import THREAD_VARIABLES, choose_threads, one_thread
from wsdemo.train.loop import start as recipe_start


def test_one_thread_is_for_the_calling_thread_and_only_while_inside():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    inside, go = threading.Event(), threading.Event()
    seen = {}

    def measuring():
        with one_thread():
            seen["inside"] = torch.get_num_threads()
            inside.set()
            go.wait(20)
        seen["after"] = torch.get_num_threads()

    worker = threading.Thread(target=measuring)
    worker.start()
    inside.wait(20)
    newcomer = threading.Thread(target=lambda: seen.update(new=torch.get_num_threads()))
    newcomer.start()
    newcomer.join()
    seen["main"] = torch.get_num_threads()
    go.set()
    worker.join()
    torch.set_num_threads(before)
    assert seen == {"inside": 1, "after": 2, "new": 2, "main": 2}


SAYS = """import numpy, torch, threadpoolctl
print(torch.get_num_threads(), max(p["num_threads"] for p in threadpoolctl.threadpool_info()))"""


def threads_of(code: str, **variables: str) -> str:
    """What a new process says its libraries take."""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True,
        env={**os.environ, **dict.fromkeys(THREAD_VARIABLES, "2"), **variables},
    )  # fmt: skip
    return done.stdout.strip()


def test_a_calculation_takes_one_thread_whatever_the_shell_says():
    choice = "from wsdemo.runtime import choose_threads\nchoose_threads()\n"
    assert threads_of(SAYS) == "2 2"  # what would be
    assert threads_of(choice + SAYS) == "1 1"
    assert threads_of("import numpy, torch\n" + choice + SAYS) == "1 1"
    assert threads_of(choice + SAYS, WSDEMO_THREADS="2") == "2 2"


@pytest.mark.parametrize("text", ["0", "-1", "two", "1.5", "9999", "²"])
def test_a_number_of_threads_that_is_none_is_refused(text, monkeypatch):
    monkeypatch.setenv("WSDEMO_THREADS", text)
    with pytest.raises(WsdemoError, match="expected a whole number"):
        choose_threads()


@pytest.fixture
def _threads_put_back():
    yield
    choose_threads(1)


@pytest.mark.usefixtures("_threads_put_back")
@pytest.mark.parametrize("start", [recipe_start, benchmark_start])
def test_recipes_and_benchmarks_take_one_thread_unless_asked(start, tmp_path, monkeypatch):
    monkeypatch.delenv("WSDEMO_THREADS", raising=False)
    for asked, found in ((None, 1), (2, 2), (1, 1)):
        start(Namespace(threads=asked, seed=0, runs=tmp_path, out=tmp_path, device=None))
        assert torch.get_num_threads() == found
        assert os.environ["OMP_NUM_THREADS"] == str(found)
