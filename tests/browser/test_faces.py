"""Faces in a real browser: drawn, fitted, stopped and refused, for one visitor and for two."""

import re

import pytest
from PIL import Image
from playwright.sync_api import expect

from benchmarks.browsing import ROOT, give_photo
from tests.browser.conftest import opened
from tests.browser.visitor import (
    NEEDS_CHROMIUM,
    open_fit,
    sources,
    start_fit,
    status_text,
    upload,
    wait_for_status,
)
from tests.lora.files import families, write

pytestmark = NEEDS_CHROMIUM

PLOT_FITS = """() => {
  const block = document.querySelector("#psnr"), plot = block && block.querySelector("svg.marks");
  const [inner, outer] = [plot, block].map((e) => e && e.getBoundingClientRect());
  return inner && inner.height > 0 && inner.bottom <= outer.bottom;
}"""
REFUSED = re.compile("Picture (unreadable|cut off)|Not a picture")


@pytest.fixture
def page(visited):
    """One visitor's, in all tests here that have one."""
    visited.set_viewport_size({"width": 1280, "height": 1000})
    return visited


def test_a_click_draws_other_faces_and_selecting_one_shows_its_file(page, tmp_path):
    page.locator("#faces img").first.wait_for()
    before = sources(page)
    page.get_by_role("button", name="Draw faces").click()
    wait_for_status(page, r"8 faces, seed 7")
    assert set(sources(page)).isdisjoint(before)
    page.locator("#faces button:has(img)").nth(2).click()
    page.get_by_text("Nearest training face in weight space").wait_for(timeout=90_000)
    page.locator("#rendered img").wait_for()
    with page.expect_download() as download:
        page.get_by_role("link", name="Download its weights").or_(
            page.get_by_role("button", name="Download its weights")
        ).first.click()
    saved = tmp_path / "face.safetensors"
    download.value.save_as(saved)
    from wsdemo.domains.instances import open_instance

    assert open_instance(saved).adapter.config.representation == "mlora-asym"


def test_stopped_faces_can_be_looked_at(page):
    page.get_by_role("tab", name="Sample", exact=True).click()
    page.get_by_text("Sampler", exact=True).first.click()
    for name, value in (("Faces", "16"), ("Denoising steps (DDIM)", "100")):
        page.get_by_label(f"number input for {name}").first.fill(value)
        page.keyboard.press("Tab")
    page.get_by_role("button", name="Draw faces").click()
    page.locator("#faces img").nth(15).wait_for(timeout=90_000)
    page.get_by_role("button", name="Stop").locator("visible=true").first.click()
    wait_for_status(page, r"Stopped", seconds=15)
    page.locator("#faces button:has(img)").nth(9).click()
    page.get_by_text("Nearest training face in weight space").wait_for(timeout=90_000)
    assert page.locator("span.error").locator("visible=true").count() == 0


def test_a_photo_becomes_weights_while_one_watches(page, photo):
    """And then lies on the map; on a narrow screen too all is there."""
    open_fit(page, photo)
    page.get_by_role("button", name="Fit", exact=True).click()
    wait_for_status(page, r"dB after \d+ steps, \d+ s left")
    page.locator("#preview img").wait_for()
    text = wait_for_status(page, r"Done: [\d.]+ dB")
    assert float(re.search(r"Done: ([\d.]+) dB", text).group(1)) > 20
    page.get_by_text("mlora-asym, rank 8").wait_for()
    page.wait_for_function(PLOT_FITS, timeout=90_000)
    page.set_viewport_size({"width": 390, "height": 800})
    facts = page.locator("table:visible", has_text="Representation").first.bounding_box()
    photo_and_fit = page.get_by_text("Photo · fitted").locator("visible=true").first
    assert facts["y"] > photo_and_fit.bounding_box()["y"] + 200
    page.get_by_role("tab", name="Sample").click()
    boxes = [i.bounding_box() for i in page.locator("#faces img").all()]
    assert len(boxes) >= 8
    assert all(b["x"] >= 0 and b["x"] + b["width"] <= 390 and b["width"] > 120 for b in boxes)
    page.set_viewport_size({"width": 1280, "height": 1000})
    page.get_by_role("tab", name="Clusters").click()
    page.get_by_role("button", name="Your own instance on the map").click()
    page.locator("#map-mine").click()
    page.get_by_text("is the way it went there in").wait_for(timeout=90_000)
    page.locator("#map-point img").wait_for(timeout=90_000)


def test_a_stopped_fit_shows_and_offers_its_own_weights(page):
    open_fit(page, ROOT / "wsdemo/ui/examples/cat.png")
    page.get_by_text("mlora-asym, rank 8").wait_for()  # of the fit before, or the one recorded
    page.get_by_label("Fine: 20 s, rank 18").check()
    start_fit(page)
    assert page.get_by_label("Fine: 20 s, rank 18").is_checked()
    page.get_by_text("mlora-asym, rank 8").wait_for(state="detached", timeout=90_000)
    page.get_by_role("button", name="Stop").locator("visible=true").first.click()
    wait_for_status(page, r"Stopped after \d+ steps: [\d.]+ dB", seconds=15)
    page.get_by_text("mlora-asym, rank 18").wait_for()
    before = page.locator("#crop img").get_attribute("src")
    page.locator("button.gallery-item").locator("visible=true").first.click()
    page.locator(f"#crop img:not([src='{before}'])").wait_for(timeout=90_000)
    assert "Stopped" in status_text(page)  # no report of the fit came after it


def test_a_bad_photo_in_the_place_of_another_is_refused_once_and_the_app_lives(
    page, photo, tmp_path
):
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(200))
    open_fit(page, photo)
    asked = []
    page.on("request", lambda r: asked.append(r.post_data) if "queue/join" in r.url else None)
    give_photo(page, bad)
    page.get_by_text(REFUSED).first.wait_for(timeout=90_000)
    page.locator("button.gallery-item").locator("visible=true").first.click()
    page.locator("#crop img").wait_for(timeout=90_000)
    assert sum("bad.png" in body for body in asked) == 1
    page.reload()  # the address leads back to Fit
    open_fit(page, photo)


def test_a_foreign_safetensors_file_is_refused_by_name(page, tmp_path):
    import torch
    from safetensors.torch import save_file

    foreign = tmp_path / "foreign.safetensors"
    save_file({"lora_A": torch.zeros(2, 2)}, foreign)
    page.get_by_role("tab", name="Fit").click()
    page.get_by_role("tab", name="Open faces").click()
    upload(page, "instance", foreign)
    page.get_by_text("Not an instance of this app").first.wait_for(timeout=90_000)


def test_two_visitors_draw_fit_and_drop_at_once_and_see_their_own(
    browser, address, photo, tmp_path
):
    other = tmp_path / "other.png"
    Image.new("RGB", (90, 90), (20, 40, 200)).save(other)
    loras = [
        write(tmp_path / f"{name}.safetensors", families()[name][0], {})
        for name in ("kohya", "loralib")
    ]
    pages = [opened(browser, address) for _ in range(2)]
    seeds = ("11", "22")
    for page, seed in zip(pages, seeds, strict=True):
        page.get_by_label("Seed", exact=True).fill(seed)
        page.get_by_label("Seed", exact=True).press("Tab")
    for page in pages:
        page.get_by_role("button", name="Draw faces").click()
    for page, seed in zip(pages, seeds, strict=True):
        wait_for_status(page, rf"seed {seed},")
    assert set(sources(pages[0])).isdisjoint(sources(pages[1]))
    for page, picture in zip(pages, (photo, other), strict=True):
        open_fit(page, picture)
    for page in pages:
        start_fit(page)
    for page in pages:
        wait_for_status(page, r"Done: [\d.]+ dB")
    shown = [page.locator("#preview img").first.get_attribute("src") for page in pages]
    assert shown[0] != shown[1]
    for page, lora in zip(pages, loras, strict=True):
        page.get_by_role("tab", name="LoRA evaluator").click()
        upload(page, "lora", lora)
    for page, family in zip(pages, ("kohya", "loralib"), strict=True):
        expect(page.locator("#passport")).to_contain_text(family, timeout=90_000)
    first, second = pages
    first.get_by_role("tab", name="Your own predictor").click()
    upload(first, "predictor-file", ROOT / "checkpoints/lol-face-fields.safetensors")
    first.locator("#predictor-use").click()
    first.get_by_text("Asked first from now on").wait_for(timeout=90_000)
    assert second.get_by_text("Asked first from now on").count() == 0
    for page in pages:
        page.context.close()
