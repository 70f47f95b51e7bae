"""Screenshots of every state of every tab: ``python -m benchmarks.screens --out DIR``.

``--readme`` takes those that the README shows instead: docs/images/.

A picture a tab, state, width and theme, of the whole page; and screens.json: what axe says against
each, whether the page is wider than the screen, and which labels are cut. Needs Debian's chromium.
"""

import argparse
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from axe_playwright_python.sync_playwright import Axe
from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright

from benchmarks.browsing import CHROMIUM, FLAGS, ROOT, served

WIDTHS = (360, 768, 1280, 1920)
THEMES = ("light", "dark")
LARGE = 2.0
"""How much larger the text of the pictures named *large* is."""


def open_tab(page: Page, name: str) -> None:
    """Clicks a tab, or its name in the menu of those that a narrow screen has no room for."""
    tab = page.get_by_role("tab", name=name, exact=True).locator("visible=true")
    if tab.count():
        tab.first.click()
        return
    for more in page.get_by_role("button", name="More tabs").locator("visible=true").all():
        more.click()
        entry = page.locator(".overflow-menu button", has_text=name).locator("visible=true")
        if entry.count():
            entry.first.click()
            return
        more.click()
    raise AssertionError(f"no tab {name}")


def _tab(*names: str) -> Callable[[Page], None]:
    """Opens a tab, and a tab in it."""

    def go(page: Page) -> None:
        for name in names:
            open_tab(page, name)
        page.wait_for_timeout(900)

    return go


def _drawn(page: Page) -> None:
    page.get_by_role("button", name="Draw faces").click()
    page.get_by_text("8 faces, seed 7").wait_for(timeout=120_000)
    page.locator("#faces button:has(img)").nth(4).click()
    page.get_by_text("Face 5").wait_for(timeout=60_000)


def _fitting(page: Page) -> None:
    _tab("Fit")(page)
    page.get_by_role("button", name="Fit", exact=True).click()
    page.get_by_text("s left").first.wait_for(timeout=120_000)


def _fitted(page: Page) -> None:
    _fitting(page)
    page.get_by_text("Done:").first.wait_for(timeout=120_000)


def _cleared(page: Page) -> None:
    _tab("Fit")(page)
    page.locator("#photo").get_by_label("Clear").or_(
        page.locator("#photo").get_by_label("Remove Image")
    ).first.click()
    page.wait_for_timeout(900)


def _refused(page: Page) -> None:
    _tab("Fit", "Open faces")(page)
    page.locator("#instance input[type=file]").set_input_files(ROOT / "README.md")
    page.wait_for_timeout(2500)


def _faces_on_the_map(page: Page) -> None:
    _tab("Clusters")(page)
    page.locator("#map-set input[value='faces']").click()
    page.locator(".wm-legend", has_text="male").wait_for(timeout=60_000)
    page.locator(".wm-canvas").focus()
    for key in ("ArrowRight", "ArrowRight", "Enter"):
        page.keyboard.press(key)
    page.locator("#map-near img").first.wait_for(timeout=60_000)
    page.wait_for_timeout(900)


STATES: dict[str, Callable[[Page], None]] = {
    "sample-faces": lambda _: None,
    "sample-faces-drawn": _drawn,
    "sample-shapes": _tab("Sample", "Shapes"),
    "fit-photo": _tab("Fit"),
    "fit-photo-fitting": _fitting,
    "fit-photo-fitted": _fitted,
    "fit-photo-cleared": _cleared,
    "fit-mesh": _tab("Fit", "A mesh"),
    "fit-open": _tab("Fit", "Open faces"),
    "fit-open-refused": _refused,
    "fit-open-shapes": _tab("Fit", "Open shapes"),
    "clusters-map": _tab("Clusters"),
    "clusters-map-faces": _faces_on_the_map,
    "clusters-variations": _tab("Clusters", "Variations"),
    "clusters-edit": _tab("Clusters", "Edit a face"),
    "clusters-symmetry": _tab("Clusters", "Symmetry"),
    "lora-report": _tab("LoRA evaluator"),
    "lora-compare": _tab("LoRA evaluator", "Compare and merge"),
    "lora-convert": _tab("LoRA evaluator", "Make smaller or convert"),
    "lora-many": _tab("LoRA evaluator", "Many files"),
    "lora-predictor": _tab("LoRA evaluator", "Your own predictor"),
}
"""What a visitor does to get there, from a fresh page."""

README = {"sample": "sample-faces", "fit": "fit-photo", "clusters": "clusters-map",
          "lora": "lora-report"}  # fmt: skip
"""Picture → state; the upper part is shown."""
README_SIZE = (1000, 844)

WIDER = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
# A label of one pixel is for screen readers alone.
CUT = """() => [...document.querySelectorAll('button, label span, [data-testid=block-info]')]
  .filter(e => e.offsetParent && e.scrollWidth > e.clientWidth + 1 && e.clientWidth > 1
    && getComputedStyle(e).overflow !== 'visible').map(e => e.textContent.trim().slice(0, 60))"""


def screen(
    browser: Browser, address: str, state: str, width: int, theme: str, scale: float, path: Path
) -> dict[str, Any]:
    """One picture, and what is wrong with what it shows."""
    context = browser.new_context(
        viewport={"width": width, "height": 800 if width > 600 else 740}, color_scheme=theme
    )
    page = context.new_page()
    page.goto(f"{address}?__theme={theme}")
    page.get_by_role("button", name="Draw faces").wait_for(timeout=120_000)
    if scale != 1:
        page.add_style_tag(content=f"html {{ font-size: {100 * scale:.0f}% !important; }}")
    page.wait_for_timeout(700)
    STATES[state](page)
    page.screenshot(path=path, full_page=True)
    violations = Axe().run(page).response["violations"]
    faults = {
        "wider_by": page.evaluate(WIDER), "cut": page.evaluate(CUT),
        "axe": {v["id"]: [n["html"][:160] for n in v["nodes"][:3]] for v in violations},
    }  # fmt: skip
    context.close()
    return faults


def shots(args: argparse.Namespace) -> Iterator[tuple[str, int, str, float]]:
    """(state, width, theme, scale of the text) of every picture."""
    for state in args.states or STATES:
        for theme in args.themes:
            for width in args.widths:
                yield state, width, theme, 1.0
        if args.large:
            yield state, 1280, args.themes[0], LARGE


def for_the_readme(browser: Browser, address: str, folder: Path) -> None:
    """Writes the README's pictures."""
    width, height = README_SIZE
    for name, state in README.items():
        path = folder / f"{name}.png"
        screen(browser, address, state, 1280, "light", 1.0, path)
        picture = Image.open(path).convert("RGB")
        picture = picture.crop((0, 0, 1280, 1280 * height // width))
        small = picture.resize(README_SIZE, Image.Resampling.LANCZOS)
        small.quantize(256).save(path, optimize=True)  # a third of the bytes


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=ROOT / "docs/images")
    parser.add_argument("--readme", action="store_true")
    parser.add_argument("--states", nargs="*", choices=list(STATES))
    parser.add_argument("--widths", nargs="*", type=int, default=WIDTHS)
    parser.add_argument("--themes", nargs="*", choices=THEMES, default=THEMES)
    parser.add_argument("--large", action=argparse.BooleanOptionalAction, default=True)
    args = parser.parse_args(arguments)
    args.out.mkdir(parents=True, exist_ok=True)
    faults = {}
    with served() as address, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        if args.readme:
            for_the_readme(browser, address, args.out)
            return
        for state, width, theme, scale in shots(args):
            name = f"{state}-{width}-{theme}{'' if scale == 1 else '-large'}"
            path = args.out / f"{name}.png"
            faults[name] = screen(browser, address, state, width, theme, scale, path)
            wrong = {key: value for key, value in faults[name].items() if value}
            print(f"{name}: {wrong or 'nothing wrong'}", flush=True)
        browser.close()
    (args.out / "screens.json").write_text(json.dumps(faults, indent=1))


if __name__ == "__main__":
    main()
