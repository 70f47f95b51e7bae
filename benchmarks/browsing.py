"""The app in a process of its own and the browser that visits it, for benchmarks and tests."""

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
"""Debian's; Playwright's own is not used."""
FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
]  # fmt: skip


def free_port() -> int:
    """A port that nobody listens on."""
    with contextlib.closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for_app(process: "subprocess.Popen[bytes]", address: str) -> None:
    """Waits until an app answers."""
    while True:
        with contextlib.suppress(OSError):
            urllib.request.urlopen(address, timeout=2).close()
            return
        with contextlib.suppress(subprocess.TimeoutExpired):
            raise AssertionError(f"the app ended while starting: {process.wait(timeout=0.2)}")


@contextlib.contextmanager
def served(settings: Mapping[str, str] | None = None) -> Iterator[str]:
    """The app as ``make demo`` starts it; gives its address.

    Args:
        settings: Environment variables beside those that are there.
    """
    port = free_port()
    environment = os.environ | {"PORT": str(port), "WSDEMO_OPEN_BROWSER": "0", **(settings or {})}
    process = subprocess.Popen([sys.executable, str(ROOT / "app.py")], env=environment)
    address = f"http://127.0.0.1:{port}/"
    try:
        wait_for_app(process, address)
        yield address
    finally:
        process.terminate()
        process.wait(timeout=20)
