"""How far it is from opening the page to a result: ``python -m benchmarks.first_steps``.

Clicks and seconds to a new face, an own photo as weights, an edited own face, the report of a
LoRA, a smaller file; how soon each tab shows its first result; and how long the page takes to
answer a click. The page is driven in Debian's chromium, on this machine; the load of the machine
at that time stands beside the figures.
"""

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import Browser, Locator, Page, sync_playwright

from benchmarks.browsing import CHROMIUM, FLAGS, give_photo, served
from benchmarks.common import store_result

FIRST = {
    "Sample, faces": ((), "#faces img"),
    "Sample, shapes": (("Shapes",), "#shapes img"),
    "Fit, a photo": (("Fit",), "#preview img"),
    "Fit, a mesh": (("Fit", "A mesh"), "#surface img"),
    "Clusters": (("Clusters",), "#map-point img"),
    "LoRA evaluator": (("LoRA evaluator",), "#card h2"),
}
"""Tab → the tabs to click, and what is a result there."""
WATCH = """() => { window.wdSlow = []; new PerformanceObserver(list => list.getEntries().forEach(
  e => { if (e.interactionId) window.wdSlow.push(e.duration); }))
  .observe({ type: 'event', durationThreshold: 16, buffered: true }); }"""


@dataclass
class Visitor:
    """A visitor who counts.

    Attributes:
        page: What is visited.
        clicks: Clicks so far; a file that is handed over counts as one.
    """

    page: Page
    clicks: int = 0

    def click(self, target: Locator) -> None:
        """Clicks once it can be clicked."""
        target.click(timeout=60_000)
        self.clicks += 1

    def tab(self, name: str) -> None:
        self.click(self.page.get_by_role("tab", name=name, exact=True))

    def button(self, name: str) -> None:
        buttons = self.page.get_by_role("button", name=name, exact=True)
        self.click(buttons.locator("visible=true").first)

    def give(self, area: str, path: Path) -> None:
        """Hands a file to an upload area."""
        self.page.locator(f"#{area} input[type=file]").first.set_input_files(path)
        self.clicks += 1

    def sees(self, what: Locator, seconds: float = 120) -> None:
        what.locator("visible=true").first.wait_for(timeout=1000 * seconds)


def new_face(visitor: Visitor, _: Path) -> None:
    visitor.button("Draw faces")
    visitor.sees(visitor.page.get_by_text("8 faces, seed 7"))


def own_photo(visitor: Visitor, folder: Path) -> None:
    visitor.tab("Fit")
    give_photo(visitor.page, folder / "photo.png")
    visitor.clicks += 1
    visitor.button("Fit")
    visitor.sees(visitor.page.get_by_text("Reading the photo").or_(
        visitor.page.get_by_text("s left")))  # fmt: skip
    visitor.sees(visitor.page.get_by_text("Done:"))


def edited_face(visitor: Visitor, folder: Path) -> None:
    own_photo(visitor, folder)
    visitor.button("Edit")
    visitor.sees(visitor.page.locator("#edit-drop").get_by_text("fit.safetensors").or_(
        visitor.page.locator("#edit-drop a")))  # fmt: skip
    visitor.sees(visitor.page.locator("#edited img"))


def report(visitor: Visitor, folder: Path) -> None:
    visitor.tab("LoRA evaluator")
    visitor.give("lora", folder / "lora.safetensors")
    visitor.sees(visitor.page.locator("#card", has_text="kohya"))


def smaller(visitor: Visitor, folder: Path) -> None:
    report(visitor, folder)
    visitor.tab("Make smaller or convert")
    visitor.button("Resize")
    visitor.sees(visitor.page.get_by_text("of the update's energy"))


TASKS: dict[str, Callable[[Visitor, Path], None]] = {
    "a new face": new_face,
    "an own photo as weights": own_photo,
    "an edited own face": edited_face,
    "the report of a LoRA": report,
    "a smaller file": smaller,
}


def opened(browser: Browser, address: str) -> tuple[Page, float]:
    """A fresh page, and when it answered."""
    page = browser.new_context(viewport={"width": 1280, "height": 1000}).new_page()
    page.goto(address, wait_until="commit")
    return page, time.monotonic()


def first_results(browser: Browser, address: str) -> dict[str, float]:
    """Seconds from the page's answer to the first result of each tab."""
    seconds = {}
    for name, (tabs, result) in FIRST.items():
        page, began = opened(browser, address)
        for tab in tabs:
            page.get_by_role("tab", name=tab, exact=True).click(timeout=60_000)
        page.locator(result).first.wait_for(timeout=60_000)
        seconds[name] = time.monotonic() - began
        page.context.close()
    return seconds


def steps(browser: Browser, address: str, folder: Path) -> dict[str, dict[str, float]]:
    """Clicks and seconds of each task, from the page's answer."""
    seconds = {}
    for name, task in TASKS.items():
        page, began = opened(browser, address)
        page.get_by_role("button", name="Draw faces").wait_for(timeout=60_000)
        visitor = Visitor(page)
        task(visitor, folder)
        seconds[name] = {"clicks": visitor.clicks, "seconds": time.monotonic() - began}
        page.context.close()
    return seconds


def slowest_answer(browser: Browser, address: str) -> float:
    """The longest time in ms from a click to the next painting, over all tabs, nothing computed."""
    page, _ = opened(browser, address)
    page.get_by_role("button", name="Draw faces").wait_for(timeout=60_000)
    page.wait_for_timeout(3000)
    page.evaluate(WATCH)
    for tabs, _ in FIRST.values():
        for tab in tabs:
            page.get_by_role("tab", name=tab, exact=True).click()
            page.wait_for_timeout(600)
    slow = page.evaluate("window.wdSlow")
    page.context.close()
    return float(max(slow, default=0.0))


def inputs(folder: Path) -> None:
    """A photo and a LoRA of a visitor's own."""
    from safetensors.torch import save_file

    from tests.lora.files import families

    image = Image.new("RGB", (120, 90), (210, 160, 130))
    image.paste((50, 30, 30), (30, 5, 90, 40))
    image.save(folder / "photo.png")
    save_file(families()["kohya"][0], folder / "lora.safetensors")


def measured() -> dict[str, Any]:
    """All of it, with the machine's load before and after."""
    before = os.getloadavg()[0]
    with (
        tempfile.TemporaryDirectory() as place,
        served() as address,
        sync_playwright() as playwright,
    ):
        inputs(Path(place))
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        opened(browser, address)[0].wait_for_timeout(5000)  # what is loaded once
        figures = {
            "first": first_results(browser, address),
            "tasks": steps(browser, address, Path(place)),
            "answer_ms": slowest_answer(browser, address),
        }
        browser.close()
    return figures | {"load": [before, os.getloadavg()[0]], "cores": os.cpu_count()}


def main(arguments: list[str] | None = None) -> None:
    argparse.ArgumentParser(description=__doc__).parse_args(arguments)
    figures = measured()
    print(figures)
    store_result("first-steps", "python -m benchmarks.first_steps", figures)


if __name__ == "__main__":
    main()
