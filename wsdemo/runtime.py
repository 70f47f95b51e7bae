"""Process-wide settings for torch on a CPU: allocator and threads."""

import ctypes
import ctypes.util
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

from wsdemo.errors import WsdemoError
from wsdemo.limits import MAX_THREADS

_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -2, -3, -8


def tune_allocator() -> bool:
    """Keeps glibc from returning large blocks to the kernel between training steps.

    Page faults on fresh blocks cost batched fitting a factor of two on the CPU. Threads share two
    arenas: each of its own would keep what the largest of its calculations needed.
    Call before torch allocates anything. Returns whether it was applied (glibc only).
    """
    if not sys.platform.startswith("linux"):
        return False
    name = ctypes.util.find_library("c")
    if name is None or "musl" in name:
        return False
    mallopt = ctypes.CDLL(name).mallopt
    done = [
        mallopt(_M_MMAP_THRESHOLD, 1 << 30),
        mallopt(_M_TRIM_THRESHOLD, 2**31 - 1),
        mallopt(_M_TOP_PAD, 256 << 20),
        mallopt(_M_ARENA_MAX, 2),
    ]
    return all(done)


def default_device() -> str:
    """Returns ``cuda`` where torch can use it, else ``cpu``; ``WSDEMO_DEVICE`` overrides."""
    import torch

    chosen = os.environ.get("WSDEMO_DEVICE")
    return chosen or ("cuda" if torch.cuda.is_available() else "cpu")


THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
"""What torch's and numpy's libraries read when they are loaded, here and in child processes."""


def choose_threads(asked: int | None = None) -> int:
    """Sets how many threads each calculation takes, here and in child processes: one.

    The matrices of a field are small, and threads that wait for each other at every one of them
    do well only while nobody else wants a core: beside one busy process two threads make a tenth
    to a fiftieth of the steps of one. A Space with visitors is always busy. Therefore nothing is
    left to OMP_NUM_THREADS either, which shells and schedulers set to the number of cores.
    Distances to meshes (libigl) keep all cores: their threads do not wait for each other.

    Args:
        asked: Of a recipe's ``--threads``; default: WSDEMO_THREADS, else 1.

    Returns:
        The number that is set.

    Raises:
        WsdemoError: It is not a whole number from 1 to MAX_THREADS.
    """
    text = str(asked) if asked is not None else os.environ.get("WSDEMO_THREADS") or "1"
    if not (text.isascii() and text.isdigit() and 1 <= int(text[:9]) <= MAX_THREADS):
        source = "WSDEMO_THREADS" if asked is None else "the number of threads"
        raise WsdemoError(
            "Threads not understood",
            f"Found {text[:40]!r} as {source}; expected a whole number, 1 to {MAX_THREADS}.",
            "Leave it out: one thread is the fastest wherever others use the machine too.",
        )
    count = int(text)
    os.environ.update(dict.fromkeys(THREAD_VARIABLES, text))
    if "numpy" in sys.modules:  # loaded with another number already
        _controller().limit(limits=count)
    if "torch" in sys.modules:
        import torch

        torch.set_num_threads(count)
    return count


@cache
def _controller() -> Any:
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()


@contextmanager
def one_thread() -> Iterator[None]:
    """Many small matrices: a second thread gains nothing, and on a busy machine costs a lot.

    Threads that wait for each other at every small product took 74 s instead of 2 for the 986
    modules of an SDXL LoRA while both cores were also used by others.
    """
    import torch

    torch.get_num_threads()  # a new thread of Python takes torch's number now, not inside
    # The calling thread's own number alone: torch.set_num_threads would change that of others.
    with _controller().limit(limits=1, user_api="openmp"):
        yield
