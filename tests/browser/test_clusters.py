"""The map of weight space in a real browser: opened, walked, edited, re-gauged."""

import re

from playwright.sync_api import expect

from tests.browser.visitor import NEEDS_CHROMIUM, open_fit, start_fit, wait_for_status
from wsdemo.maps.weight_map import weight_map

pytestmark = NEEDS_CHROMIUM


def test_the_map_opens_points_by_mouse_and_by_keyboard(page):
    page.get_by_role("tab", name="Clusters").click()
    canvas = page.locator(".wm-canvas")
    canvas.wait_for()
    canvas.focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    page.locator("#map-point img").wait_for(timeout=90_000)
    first = page.locator("#map-said").inner_text()
    page.locator("#map-near img").first.wait_for(timeout=90_000)
    page.get_by_role("button", name="Walk to …").locator("visible=true").first.click()
    page.get_by_text("The walk begins").wait_for(timeout=90_000)
    page.get_by_role("button", name="How well the groups come apart").click()
    page.locator("#map-measure").click()
    page.get_by_text("k-means ARI").wait_for(timeout=180_000)
    page.get_by_role("button", name="The map as a table").click()
    page.locator("#map-table [role=gridcell]").first.wait_for()
    page.locator("#map-containing").locator("input, textarea").press_sequentially("held out")
    expect(page.locator("#map-table")).to_contain_text("of 500 points", timeout=90_000)
    page.locator("#map-table [role=gridcell]").nth(7).click()
    expect(page.locator("#map-said")).not_to_have_text(first, timeout=90_000)
    page.get_by_role("button", name="The map as a table").click()  # closed, it costs nothing
    page.locator("#map-table [role=gridcell]").first.wait_for(state="detached")
    page.get_by_role("button", name="Variations").locator("visible=true").first.click()
    page.get_by_text("seed 2").locator("visible=true").first.wait_for(timeout=90_000)
    page.locator("#varied img").first.wait_for(timeout=180_000)


def walked_to(page, *keys):
    """The face that arrow keys and Enter open; the words of the last one go first."""
    said = page.locator("#map-said")
    before = re.search(r"\d{6}\.jpg", said.inner_text())
    page.locator(".wm-canvas").focus()
    for key in (*keys, "Enter"):
        page.keyboard.press(key)
    if before:
        expect(said).not_to_contain_text(before[0], timeout=90_000)
    expect(said).to_have_text(re.compile(r"^\s*\d{6}\.jpg"), timeout=90_000)
    return re.search(r"\d{6}\.jpg", said.inner_text())[0]


def test_the_map_of_faces_by_lora_shows_and_opens_what_was_fitted_so(page):
    """Only some faces were fitted as LoRA; keys and Enter stay among them."""
    faces = weight_map("faces")
    page.get_by_role("tab", name="Clusters").click()
    page.locator(".wm-canvas").wait_for()
    page.locator("#map-set input[value='faces']").click()
    page.locator(".wm-legend", has_text="male").wait_for(timeout=90_000)
    page.get_by_role("combobox", name="Weights").click()
    page.get_by_role("option", name="lora", exact=True).click()
    canvas = page.locator(".wm-canvas")
    expect(canvas).to_have_attribute(
        "data-points", str(int(faces.covered("lora").sum())), timeout=90_000
    )
    opened = walked_to(page, "ArrowRight", "ArrowDown", "ArrowRight")
    assert faces.covered("lora")[faces.names.index(opened)]
    page.get_by_role("button", name="How well the groups come apart").click()
    page.locator("#map-measure").click()
    page.get_by_text("500 held-out instances against 2,000").wait_for(timeout=180_000)
    page.get_by_role("button", name="Walk to …").locator("visible=true").first.click()
    page.get_by_text("The walk begins").wait_for(timeout=90_000)
    assert walked_to(page, "ArrowLeft", "ArrowLeft", "ArrowDown") != opened
    page.locator("#map-to-here").click()
    page.locator("#map-walk img").first.wait_for(timeout=90_000)
    page.get_by_role("button", name="The same walk").click()
    page.locator("#map-beside").click()
    page.locator("#map-walks img").nth(27).wait_for(timeout=180_000)
    page.get_by_text("mlora-asym: PSNR").wait_for(timeout=90_000)


def test_the_last_fit_on_the_map_brings_its_controls_along_and_ends_a_walk(page, photo):
    open_fit(page, photo)
    page.get_by_text("As the training faces").first.click()
    start_fit(page)
    wait_for_status(page, r"Done: [\d.]+ dB")
    page.get_by_role("tab", name="Clusters").click()
    page.locator(".wm-canvas").wait_for()
    page.get_by_role("button", name="The map as a table").click()
    page.get_by_role("button", name="Your own instance on the map").click()
    page.locator("#map-mine").click()
    page.locator("#map-said", has_text="Your fit").wait_for(timeout=90_000)
    page.locator("#map-table th", has_text="Male").first.wait_for(timeout=90_000)
    page.get_by_role("button", name="Walk to …").locator("visible=true").first.click()
    page.get_by_text("The walk begins at fit").wait_for(timeout=90_000)
    page.locator("#map-table [role=gridcell]").nth(7).click()
    page.locator("#map-said", has_text=".jpg").wait_for(timeout=90_000)  # a face, not a shape
    page.locator("#map-to-here").click()
    page.get_by_text("At 50% of the way").wait_for(timeout=90_000)
    page.locator("#map-share input[type=range]").focus()
    page.keyboard.press("ArrowRight")
    page.get_by_text("At 52% of the way").wait_for(timeout=90_000)
    page.locator("#map-set input[value='shapes']").click()
    page.locator("#map-table th", has_text="category").first.wait_for(timeout=90_000)
    assert page.locator("#map-begins").inner_text() == ""
    assert page.locator("#map-mixed img").count() == 0


def test_a_face_of_the_map_is_edited_and_regauged(page):
    page.get_by_role("tab", name="Clusters").click()
    page.get_by_role("tab", name="Edit a face").click()
    page.locator("#edit-go").click()
    page.locator("#edited img").wait_for(timeout=90_000)
    page.locator("#edit-said", has_text="Changed by").wait_for(timeout=90_000)
    page.get_by_role("tab", name="Symmetry").click()
    page.locator("#symmetry-go").click()
    page.locator("#symmetry-said", has_text="canonical factors by 0.00%").wait_for(timeout=90_000)
