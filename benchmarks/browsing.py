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
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from playwright.sync_api import Page

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


def give_photo(page: "Page", path: Path) -> None:
    """Hands a photo to the tab Fit in the place of the one that is there, and waits for it."""
    shown = page.locator("#photo img")
    shown.first.wait_for()
    before = [image.get_attribute("src") for image in shown.all()]
    page.locator("#photo input[type=file]").first.set_input_files(path)
    page.wait_for_function(
        "before => [...document.querySelectorAll('#photo img')]"
        ".some((image) => !before.includes(image.getAttribute('src')))",
        arg=before, timeout=60_000,
    )  # fmt: skip


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
