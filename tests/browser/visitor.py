"""What the tests in a real browser share: Chromium, and what a visitor does again and again."""

import os
from pathlib import Path

import pytest

from benchmarks.browsing import CHROMIUM, give_photo

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
    """Waits until what the page says of its work matches; gives it."""
    page.wait_for_function(
        "pattern => new RegExp(pattern).test("
        "[...document.querySelectorAll('.status')].map((e) => e.innerText).join(' '))",
        arg=pattern, timeout=1000 * seconds, polling=100,
    )  # fmt: skip
    return status_text(page)


def sources(page) -> list[str]:
    return [i.get_attribute("src") or "" for i in page.locator("#faces img").all()]


def upload(page, area: str, path: Path) -> None:
    """Gives a file to the upload area with an id, in the place of one that may be there."""
    page.wait_for_function(  # what holds a file takes no other
        "id => { const area = document.getElementById(id);"
        "return area && area.querySelector('input[type=file], [aria-label=Clear]'); }",
        arg=area, timeout=30_000,
    )  # fmt: skip
    own = page.locator(f"#{area} input[type=file]")
    if own.count() == 0:
        page.locator(f"#{area} [aria-label=Clear]").first.click()
    own.first.set_input_files(path)


def open_fit(page, photo: Path) -> None:
    page.get_by_role("tab", name="Fit").click()
    page.locator("#crop img").wait_for(timeout=90_000)  # the tab opens on another photo
    change_photo(page, photo)


def change_photo(page, photo: Path) -> None:
    """Gives another photo in the place of one, and waits until the field's view of it is there."""
    before = page.locator("#crop img").get_attribute("src")
    give_photo(page, photo)
    page.locator(f"#crop img:not([src='{before}'])").wait_for(timeout=90_000)


LISTEN = """() => {
  const texts = () => [...document.querySelectorAll(".status")].map((e) => e.textContent.trim());
  const before = texts().filter(Boolean);
  const heard = (window.heard = []);  // of its own: who listened before goes on into another
  const isNew = (text) => !before.some((old) => text.includes(old));  // gradio adds its clock
  new MutationObserver(() => heard.push(...texts().filter(isNew)))
    .observe(document.body, { childList: true, subtree: true, characterData: true });
}"""
"""Keeps what is said from now on and was not said before, however short it stands there."""


def start_fit(page) -> None:
    """Presses Fit and waits until it is under way, or over: *Done* may stand there from before."""
    page.evaluate(LISTEN)
    page.get_by_role("button", name="Fit", exact=True).click()
    page.wait_for_function(
        "() => window.heard.some((text) => /dB after \\d+ steps|Done:/.test(text))", timeout=90_000
    )


def open_shapes(page) -> None:
    page.get_by_role("tab", name="Sample", exact=True).click()
    page.get_by_role("tab", name="Shapes").click()
    page.locator("#shapes img").first.wait_for()
