"""Pickled adapters → safetensors, in a process that cannot do harm.

Never in the app. A child process with bounded memory and time opens the file with
``weights_only=True``, which refuses everything but tensors in plain containers.
"""

import subprocess
import sys
from pathlib import Path
from typing import Any

from wsdemo.errors import WsdemoError

SECONDS = 120
MEMORY_BYTES = 8 * 2**30
"""Address space of the child; torch alone maps some gigabytes of it."""
MAX_PICKLE_BYTES = 512 * 2**20
MAX_TENSOR_BYTES = 2 * 2**30
"""Of all tensors together: a small pickle may expand to anything."""


def convert_pickle(source: Path, target: Path) -> int:
    """Converts a pickled adapter (.pt, .bin, .ckpt) to safetensors.

    Returns:
        The number of tensors.

    Raises:
        WsdemoError: It is too large, holds more than tensors, or takes too long.
    """
    size = source.stat().st_size
    if size > MAX_PICKLE_BYTES:
        raise WsdemoError(
            "File too large",
            f"It has {size / 2**20:,.0f} MB; {MAX_PICKLE_BYTES / 2**20:.0f} are allowed.",
            "Convert it where it was trained.",
        )
    command = [sys.executable, "-m", "wsdemo.lora.pickles", str(source), str(target)]
    try:
        done = subprocess.run(command, capture_output=True, timeout=SECONDS, check=False)
    except subprocess.TimeoutExpired as error:
        raise WsdemoError(
            "Not convertible", f"It takes longer than {SECONDS} s.", "Convert it where it was made."
        ) from error
    if done.returncode != 0:
        lines = done.stderr.decode(errors="replace").strip().splitlines() or ["memory exhausted"]
        raise WsdemoError(
            "Not convertible",
            f"The file holds more than tensors, or is damaged: {lines[-1][:200]}",
            "Save it as .safetensors where it was trained.",
        )
    return int(done.stdout)


def named_tensors(loaded: Any) -> dict[str, Any]:
    """The tensors of what a pickle held, by key.

    A mapping keeps its keys (one level of nesting is opened); a list is cloneofsimo's
    [up, down, up, down …].
    """
    import torch

    if isinstance(loaded, list):
        parts = ("up", "down")
        return {
            f"unet:{i // 2}:{parts[i % 2]}": t
            for i, t in enumerate(loaded)
            if isinstance(t, torch.Tensor)
        }
    if not isinstance(loaded, dict):
        return {}
    found = {}
    for key, value in loaded.items():
        if isinstance(value, torch.Tensor):
            found[str(key)] = value
        elif isinstance(value, dict):
            found |= {str(k): v for k, v in value.items() if isinstance(v, torch.Tensor)}
    return found


def _child(source: str, target: str) -> None:
    import torch
    from safetensors.torch import save_file

    try:
        import resource
    except ImportError:  # not on Windows: there only the time is bounded
        pass
    else:
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    loaded = torch.load(source, weights_only=True, map_location="cpu")
    tensors = named_tensors(loaded)
    if not tensors:
        raise SystemExit(f"no tensors in a {type(loaded).__name__}")
    if sum(t.numel() * t.element_size() for t in tensors.values()) > MAX_TENSOR_BYTES:
        raise SystemExit("its tensors expand to more than 2 GB")
    save_file({k: t.detach().contiguous().clone() for k, t in tensors.items()}, target)
    print(len(tensors))


if __name__ == "__main__":
    _child(sys.argv[1], sys.argv[2])
