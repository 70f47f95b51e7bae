"""The whole page: what is there before a click, its endpoints, its accessibility."""

from pathlib import Path

from benchmarks.browsing import ROOT
from tests.browser.visitor import NEEDS_CHROMIUM, sources

pytestmark = NEEDS_CHROMIUM
STILL = """() => document.getAnimations().every((a) => a.playState !== "running"
  || a.effect.getTiming().iterations === Infinity)"""


def test_faces_are_on_screen_before_the_first_click_and_nothing_is_fetched_elsewhere(page, address):
    page.locator("#faces img").first.wait_for()
    assert len(sources(page)) >= 8
    assert page.locator("h1").count() == 1
    foreign = [u for u in page.requested if not u.startswith((address, "data:", "blob:"))]
    assert foreign == []


def test_named_endpoints_answer(address):
    """The API that other programs use: draw, and fit to the end."""
    from gradio_client import Client, handle_file

    client = Client(address, verbose=False)
    gallery, text = client.predict(2, 5, 5, 1.0, [], [], api_name="/sample_faces")
    assert len(gallery) == 2
    assert "2 faces, seed 5" in text
    photo = str(ROOT / "wsdemo" / "ui" / "examples" / "astronaut.png")
    preset = "Fast: 4 s, rank 8"
    result = client.predict(handle_file(photo), 0.5, 0.5, 1, preset, api_name="/fit_picture")
    assert "Done" in result[2]
    gallery, text = client.predict("Airplanes", "any", 1, 5, 5, 1.0, api_name="/sample_shapes")
    assert "1 shapes, seed 5" in text
    assert Path(result[5]).stat().st_size > 10_000


def test_no_accessibility_violations(page):
    from axe_playwright_python.sync_playwright import Axe

    tabs = ("Sample", "Shapes", "Fit", "A mesh", "LoRA evaluator", "Clusters", "Edit a face",
            "Symmetry")  # fmt: skip
    for tab in tabs:
        page.get_by_role("tab", name=tab).click()
        page.wait_for_function(STILL)  # half faded in, nothing has its contrast
        found = Axe().run(page, options={"resultTypes": ["violations"]}).response["violations"]
        text = [(v["id"], [n["html"][:160] for n in v["nodes"][:3]]) for v in found]
        assert text == []
