"""What the tests in a real browser share: Chromium, and what a visitor does again and again."""

import os
import re
from pathlib import Path

import pytest

from benchmarks.browsing import CHROMIUM

MUST_RUN = os.environ.get("CI") == "true"
NEEDS_CHROMIUM = [
    pytest.mark.browser,
    pytest.mark.skipif(
        CHROMIUM is None and not MUST_RUN,
        reason="NO CHROMIUM: the browser tests did not run; install Debian's chromium",
    ),
]
"""The ``pytestmark`` of every module here."""


def status_text(page) -> str:
    return " ".join(page.locator(".status").all_inner_texts())


def wait_for_status(page, pattern: str, seconds: float = 90) -> str:
    for _ in range(int(10 * seconds)):
        text = status_text(page)
        if re.search(pattern, text):
            return text
        page.wait_for_timeout(100)
    raise AssertionError(f"status never matched {pattern!r}: {status_text(page)!r}")


def sources(page) -> list[str]:
    return [i.get_attribute("src") or "" for i in page.locator("#faces img").all()]


def upload(page, area: str, path: Path) -> None:
    """Gives a file to the upload area with an id, in the place of one that may be there."""
    page.locator(f"#{area} input[type=file]").first.set_input_files(path)


def upload_over(page, path: Path) -> None:
    """Gives a photo in the place of the one that is there."""
    page.locator("#photo input[type=file]").set_input_files(path)
    page.wait_for_timeout(1500)


def open_fit(page, photo: Path) -> None:
    page.get_by_role("tab", name="Fit").click()
    page.locator("#crop img").wait_for(timeout=90_000)  # the tab opens on another photo
    before = page.locator("#crop img").get_attribute("src")
    upload_over(page, photo)
    page.locator(f"#crop img:not([src='{before}'])").wait_for(timeout=90_000)


def start_fit(page) -> None:
    """Presses Fit and waits until it is under way: the status says *Done* of an earlier one."""
    page.get_by_role("button", name="Fit", exact=True).click()
    wait_for_status(page, r"dB after \d+ steps")


def open_shapes(page) -> None:
    page.get_by_role("tab", name="Shapes").click()
    page.locator("#shapes img").first.wait_for()
