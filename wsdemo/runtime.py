"""Process-wide settings for torch on a CPU: allocator and threads."""

import ctypes
import ctypes.util
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_THRESHOLD = -1, -2, -3


def tune_allocator() -> bool:
    """Keeps glibc from returning large blocks to the kernel between training steps.

    Page faults on fresh blocks cost batched fitting a factor of two on the CPU.
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
    ]
    return all(done)


def default_device() -> str:
    """Returns ``cuda`` where torch can use it, else ``cpu``; ``WSDEMO_DEVICE`` overrides."""
    import torch

    chosen = os.environ.get("WSDEMO_DEVICE")
    return chosen or ("cuda" if torch.cuda.is_available() else "cpu")


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
