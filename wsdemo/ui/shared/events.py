"""What every event handler needs: our errors shown as messages, files for download."""

import atexit
import contextlib
import functools
import html
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import gradio as gr

from wsdemo.errors import WsdemoError
from wsdemo.files import explained

COMPUTE = {"concurrency_id": "compute", "concurrency_limit": 1}
"""Long work takes turns: two fits at once would each take twice as long."""
QUICK = {"concurrency_id": "quick", "concurrency_limit": 2}
"""What answers at once: whoever waits here waits for nothing that takes long."""
READING = {"concurrency_id": "reading", "concurrency_limit": 2}
"""LoRAs and meshes: most are read in a second, the largest in minutes."""
HUB = {"concurrency_id": "hub", "concurrency_limit": 4}
"""Requests and downloads, which wait for the network and not for a core."""
BATCH = {"concurrency_id": "batch", "concurrency_limit": 1}
"""Up to 200 files, one after the other."""


def drawing(what: str) -> dict[str, Any]:
    """The queue of those who draw: a few seconds, which are not to be spent behind longer fits."""
    return {"concurrency_id": f"drawing-{what}", "concurrency_limit": 1}


def _shown(error: WsdemoError) -> gr.Error:
    # The title goes into the text as well: some versions head every message "Error".
    return gr.Error(
        html.escape(f"{error.title}. {error.message} {error.hint}", quote=False),
        title=error.title,
        duration=12,
        print_exception=False,
    )


def guarded(handler: Callable[..., Any]) -> Callable[..., Any]:
    """Shows a WsdemoError of a handler as a titled message, a full disk and the like too."""

    @functools.wraps(handler)
    def call(*args: Any, **kwargs: Any) -> Any:
        try:
            return handler(*args, **kwargs)
        except (WsdemoError, OSError, MemoryError, RuntimeError) as error:
            raise _shown(explained(error)) from error

    return call


def guarded_stream(handler: Callable[..., Iterator[Any]]) -> Callable[..., Iterator[Any]]:
    """Shows errors as ``guarded`` does, of a handler that yields."""

    @functools.wraps(handler)
    def call(*args: Any, **kwargs: Any) -> Iterator[Any]:
        try:
            yield from handler(*args, **kwargs)
        except (WsdemoError, OSError, MemoryError, RuntimeError) as error:
            raise _shown(explained(error)) from error

    return call


def stop_button(
    button: gr.Button, run: Any, status: gr.Markdown, others: Sequence[Any] = ()
) -> Any:
    """Makes a button cancel a running stream and say so in its status line.

    Args:
        button: What is clicked.
        run: The event of the stream.
        status: The status line.
        others: What else the stream writes to.

    Returns:
        The event after which all is said, to go on from.
    """

    def stopped() -> str:
        time.sleep(0.5)  # a last report of the stream may still be on its way
        return "Stopped."

    private: dict[str, Any] = {
        "api_visibility": "private", "queue": False, "show_progress": "hidden",
    }  # fmt: skip
    # For the page a cancelled stream may end as a failed one, and it covers all that the stream
    # wrote to with "Error" until another event has written there, be it nothing.
    run.failure(gr.skip, None, [status, *others], **private)
    click = button.click(None, None, None, cancels=[run], api_visibility="private")
    return click.then(stopped, None, status, **private)


@functools.cache
def cache_folder() -> Path:
    """Where this process keeps what it may need again; nobody else writes there."""
    path = Path(tempfile.mkdtemp(prefix="wsdemo-cache-"))
    atexit.register(shutil.rmtree, path, ignore_errors=True)
    return path


_FILES = "wsdemo-files-"
_HOUR = 3600


@functools.cache
def _files_folder() -> Path:
    """Where this process puts files to take away; those of processes that died a day ago go."""
    for old in Path(tempfile.gettempdir()).glob(f"{_FILES}*"):
        _remove_if_older(old, 24 * _HOUR)
    path = Path(tempfile.mkdtemp(prefix=_FILES))
    atexit.register(shutil.rmtree, path, ignore_errors=True)
    return path


def _remove_if_older(path: Path, seconds: float) -> None:
    with contextlib.suppress(OSError):  # another may remove it at the same moment
        if time.time() - path.stat().st_mtime > seconds:
            shutil.rmtree(path)


@functools.lru_cache(maxsize=2)
def _sweep(hour: int) -> None:
    """Removes the files that are older than an hour; once an hour, for they may be many."""
    for old in _files_folder().iterdir():
        _remove_if_older(old, _HOUR)


def download_file(content: bytes, name: str) -> str:
    """Writes content to a new folder of its own and returns the path, for a download.

    Gradio copies it to its own cache, which it empties; what is older than two hours here goes.
    """
    _sweep(int(time.time() // _HOUR))
    path = Path(tempfile.mkdtemp(dir=_files_folder())) / name
    path.write_bytes(content)
    return str(path)
