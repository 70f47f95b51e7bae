"""The GPU of a Space on ZeroGPU; anywhere else the mark does nothing.

There a function that is marked runs in a forked process, which alone sees CUDA: what goes in and
comes out is pickled, its time counts against the visitor's quota, and OpenGL's thread does not
exist in it. So what is marked calculates and does nothing else. Import this before torch, which
``spaces`` patches.
"""

import os
from collections.abc import Callable
from typing import Any

try:  # there on a Space only; a folder of that name in the current one is another thing
    import spaces
except ImportError:
    spaces = None
else:
    spaces = spaces if hasattr(spaces, "GPU") else None

Function = Callable[..., Any]


def is_zero_gpu() -> bool:
    """Whether this is a Space on ZeroGPU."""
    return spaces is not None and os.environ.get("SPACES_ZERO_GPU", "").lower() in ("1", "true")


def on_gpu(duration: int | Callable[..., int]) -> Callable[[Function], Function]:
    """Marks a function or generator that calculates on a GPU.

    Args:
        duration: Seconds that it may take there, or a function of its arguments that says so.
    """

    def mark(function: Function) -> Function:
        return function if spaces is None else spaces.GPU(function, duration=duration)

    return mark
