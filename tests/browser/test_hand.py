"""The thing in hand in a real browser: one row of actions takes a face or a shape everywhere."""

import pytest

from tests.browser.visitor import NEEDS_CHROMIUM, open_shapes

pytestmark = NEEDS_CHROMIUM


@pytest.fixture
def page(visited):
    """One visitor's, in all tests here."""
    return visited


def act(page, name):
    page.get_by_role("button", name=name, exact=True).locator("visible=true").first.click()


def is_open(page, *tabs):
    for tab in tabs:
        page.get_by_role("tab", name=tab, exact=True).and_(
            page.locator("[aria-selected=true]")
        ).wait_for(timeout=180_000)


def to_sample(page):
    page.get_by_role("tab", name="Sample", exact=True).click()
    page.locator("#faces img").first.wait_for()


def test_a_face_of_the_gallery_goes_everywhere(page):
    page.locator("#faces button:has(img)").nth(2).click()
    page.get_by_text("Face 3").wait_for(timeout=180_000)
    act(page, "Show large")
    is_open(page, "Fit", "Open faces")
    page.locator("#decoded img").locator("visible=true").wait_for(timeout=180_000)
    to_sample(page)
    act(page, "Edit")
    is_open(page, "Clusters", "Edit a face")
    page.locator("#edit-drop a, #edit-drop .file-preview").first.wait_for(timeout=180_000)
    page.locator("#edit-said", has_text="Changed by").wait_for(timeout=180_000)
    act(page, "Place on the map")  # the edited face
    is_open(page, "Map")
    page.locator("#map-said", has_text="Edited").wait_for(timeout=180_000)
    to_sample(page)
    act(page, "Walk to …")
    is_open(page, "Clusters", "Map")
    page.locator("#map-begins", has_text="The walk begins at face 3").wait_for(timeout=180_000)
    page.locator("#map-near button:has(img)").nth(1).click()
    page.locator("#map-said", has_text=".jpg").wait_for(timeout=180_000)
    page.locator("#map-to-here").click()
    page.locator("#map-begins", has_text="The walk goes from face 3").wait_for(timeout=90_000)
    to_sample(page)
    act(page, "Read by GL-net")
    is_open(page, "LoRA evaluator", "Report")
    page.locator("#card", has_text="wsdemo instance").wait_for(timeout=180_000)


def test_a_face_read_where_no_lora_was_yet_is_read_once(newcomer):
    """Its file is handed over before the area for it is on screen."""
    asked = []
    newcomer.on("request", lambda r: asked.append(r.url) if "queue/join" in r.url else None)
    newcomer.locator("#faces button:has(img)").first.click()
    newcomer.get_by_text("Face 1").wait_for(timeout=180_000)
    act(newcomer, "Read by GL-net")
    newcomer.locator("#card", has_text="wsdemo instance").wait_for(timeout=180_000)
    newcomer.locator("#prediction", has_text="No prediction").wait_for(timeout=180_000)
    newcomer.get_by_role("tab", name="Make smaller or convert", exact=True).click()
    before = len(asked)
    said = ""
    for seed in range(3):  # while these are asked for, nothing else is
        newcomer.get_by_label("Seed of R").locator("visible=true").fill(str(seed))
        act(newcomer, "Re-gauge by a random R")
        answer = newcomer.get_by_text("factors moved by up to").filter(has_not_text=said or "\0")
        answer.wait_for()
        said = answer.inner_text()
    assert len(asked) == before + 3


def test_the_nearest_training_face_takes_the_place_of_a_face(page):
    page.get_by_role("tab", name="Sample", exact=True).click()
    page.get_by_role("tab", name="Faces", exact=True).click()
    page.locator("#faces button:has(img)").nth(4).click()
    page.get_by_text("Face 5").wait_for(timeout=180_000)
    act(page, "Show it instead")
    page.get_by_text("the training face whose weights lie nearest").wait_for(timeout=180_000)
    act(page, "Place on the map")
    page.locator("#map-said", has_text=", placed by its").wait_for(timeout=180_000)


def test_a_fit_that_cannot_be_edited_stays_where_it_is(newcomer):
    page = newcomer
    page.get_by_role("tab", name="Fit", exact=True).click()
    page.get_by_label("Fine: 20 s, rank 18").check()
    act(page, "Fit")
    page.get_by_text("s left").first.wait_for(timeout=180_000)
    act(page, "Stop")
    page.get_by_text("Stopped after").first.wait_for(timeout=90_000)
    page.get_by_text("mlora-asym, rank 18").wait_for(timeout=90_000)
    act(page, "Edit")
    page.get_by_text("Cannot be edited").first.wait_for(timeout=90_000)
    is_open(page, "Fit")


def test_a_shape_is_varied_and_has_no_direction_to_be_edited_along(page):
    open_shapes(page)
    assert page.get_by_role("button", name="Edit", exact=True).locator("visible=true").count() == 0
    act(page, "Variations")
    is_open(page, "Clusters", "Variations")
    page.get_by_text("Variations of shape 3").wait_for(timeout=180_000)  # the one recorded large
    assert page.get_by_role("button", name="Edit", exact=True).locator("visible=true").count() == 0
    page.get_by_text("some noise, seed").locator("visible=true").first.wait_for(timeout=120_000)
    page.locator("#varied img").first.wait_for(timeout=180_000)
