"""Pickled adapters → safetensors, in a process that cannot do harm.

Never in the app. A child process with bounded memory and time opens the file with
``weights_only=True``, which refuses everything but tensors in plain containers.
"""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from wsdemo.errors import WsdemoError
from wsdemo.files import whole
from wsdemo.limits import (
    MAX_PICKLE_BYTES,
    MAX_PICKLE_MEMORY_BYTES,
    MAX_PICKLE_SECONDS,
    MAX_PICKLED_BYTES,
)


def say(text: str) -> None:
    """A sentence to whoever waits."""
    print(text, file=sys.stderr)


def convert_pickle(source: Path, target: Path, report: Callable[[str], None] = say) -> int:
    """Converts a pickled adapter (.pt, .bin, .ckpt) to safetensors.

    Args:
        source: The pickle.
        target: The .safetensors file.
        report: Takes a sentence on what was left out, if something was.

    Returns:
        The number of tensors.

    Raises:
        WsdemoError: It is too large, holds more than tensors, or two tensors of one key, or
            takes too long.
    """
    size = source.stat().st_size
    if size > MAX_PICKLE_BYTES:
        raise WsdemoError(
            "File too large",
            f"It has {size / 2**20:,.0f} MB; {MAX_PICKLE_BYTES / 2**20:.0f} are allowed.",
            "Convert it where it was trained.",
        )
    command = [sys.executable, "-m", "wsdemo.lora.pickles", str(source)]
    try:
        with whole(target) as file:
            done = subprocess.run(
                command, stdout=file, stderr=subprocess.PIPE, timeout=MAX_PICKLE_SECONDS,
                check=False,
            )  # fmt: skip
            lines = done.stderr.decode(errors="replace").strip().splitlines()
            if done.returncode != 0:
                raise WsdemoError(
                    "Not convertible",
                    "The file holds more than tensors, or is damaged:"
                    f" {(lines or ['memory exhausted'])[-1][:200]}",
                    "Save it as .safetensors where it was trained.",
                )
    except subprocess.TimeoutExpired as error:
        raise WsdemoError(
            "Not convertible",
            f"It takes longer than {MAX_PICKLE_SECONDS} s.",
            "Convert it where it was made.",
        ) from error
    count, left_out = json.loads(lines[-1])
    if left_out:
        report(f"Left out, as they are nested: {', '.join(left_out)}")
    return int(count)


def named_tensors(loaded: Any) -> tuple[dict[str, Any], list[str]]:
    """The tensors of what a pickle held, by key; and the parts with tensors deeper in them.

    A mapping keeps its keys (one level of nesting is opened); a list is cloneofsimo's
    [up, down, up, down …].

    Raises:
        ValueError: Two parts have a tensor of one key.
    """
    import torch

    if isinstance(loaded, list):
        parts = ("up", "down")
        return {
            f"unet:{i // 2}:{parts[i % 2]}": t
            for i, t in enumerate(loaded)
            if isinstance(t, torch.Tensor)
        }, [str(i) for i, t in enumerate(loaded) if _holds_tensors(t)]
    if not isinstance(loaded, dict):
        return {}, []
    tensors: dict[str, Any] = {}
    left_out = []
    for key, value in loaded.items():
        inner = value if isinstance(value, dict) else {key: value}
        for k, v in inner.items():
            if isinstance(v, torch.Tensor):
                if str(k) in tensors:
                    raise ValueError(f"two of its parts hold {str(k)[:80]!r}")
                tensors[str(k)] = v
            elif _holds_tensors(v):
                left_out.append(str(k) if inner is not value else f"{key}.{k}")
    return tensors, left_out


def _holds_tensors(value: Any) -> bool:
    """Whether there are tensors in a list or mapping, on any level."""
    import torch

    waiting = [value] if isinstance(value, dict | list | tuple) else []
    for part in waiting:  # which grows
        for inner in part.values() if isinstance(part, dict) else part:
            if isinstance(inner, torch.Tensor):
                return True
            if isinstance(inner, dict | list | tuple) and len(waiting) < 100_000:
                waiting.append(inner)
    return False


def _child(source: str) -> None:
    """Writes safetensors to stdout, and what it has to say to stderr, in the last line."""
    import torch
    from safetensors.torch import save

    try:
        import resource
    except ImportError:  # not on Windows: there only the time is bounded
        pass
    else:
        resource.setrlimit(resource.RLIMIT_AS, (MAX_PICKLE_MEMORY_BYTES, MAX_PICKLE_MEMORY_BYTES))
    loaded = torch.load(source, weights_only=True, map_location="cpu")
    tensors, left_out = named_tensors(loaded)
    if not tensors:
        raise SystemExit(f"no tensors in a {type(loaded).__name__}")
    if sum(t.numel() * t.element_size() for t in tensors.values()) > MAX_PICKLED_BYTES:
        raise SystemExit("its tensors expand to more than 2 GB")
    content = save({k: t.detach().contiguous().clone() for k, t in tensors.items()})
    sys.stdout.buffer.write(content)
    sys.stdout.buffer.flush()
    shown = [name[:80] for name in left_out[:8]]
    more = [f"and {len(left_out) - 8} more"] if len(left_out) > 8 else []
    print(json.dumps([len(tensors), shown + more]), file=sys.stderr)


if __name__ == "__main__":
    _child(sys.argv[1])
