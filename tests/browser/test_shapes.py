"""Shapes in a real browser: drawn and turned around, fitted, and refused."""

import re

import pytest
from playwright.sync_api import expect

from tests.browser.visitor import NEEDS_CHROMIUM, open_shapes, upload, wait_for_status

pytestmark = NEEDS_CHROMIUM


@pytest.fixture
def page(visited):
    """One visitor's, in all tests here."""
    return visited


def test_shapes_are_drawn_and_one_can_be_turned_around(page, tmp_path):
    open_shapes(page)
    page.get_by_role("button", name="Draw shapes").click()
    wait_for_status(page, r"8 shapes, seed 7")
    page.locator("#shapes button:has(img)").nth(1).click()
    page.get_by_text("Nearest training shape in weight space").wait_for(timeout=180_000)
    page.get_by_role("button", name="Resolution and files").locator("visible=true").click()
    page.locator('a[href*="shape.stl"]').first.wait_for(state="attached", timeout=90_000)
    with page.expect_download() as download:
        page.get_by_role("button", name="Download its weights").or_(
            page.get_by_role("link", name="Download its weights")
        ).locator("visible=true").first.click()
    saved = tmp_path / "shape.safetensors"
    download.value.save_as(saved)
    from wsdemo.domains.instances import open_instance

    assert open_instance(saved).domain == "sdf"


def test_a_mesh_becomes_weights_while_one_watches(page, mesh):
    page.get_by_role("tab", name="Fit").click()
    page.get_by_role("tab", name="A mesh").click()
    upload(page, "mesh", mesh)
    page.get_by_text("watertight").first.wait_for(timeout=90_000)
    page.get_by_role("button", name="Fit the mesh").click()
    wait_for_status(page, r"dB after \d+ steps, \d+ s left")
    page.locator("#surface img").wait_for()
    wait_for_status(page, r"Done: F-score [\d.]+%, IoU [\d.]+%")
    page.get_by_text("Chamfer distance").first.wait_for()


def test_a_file_that_is_no_mesh_is_refused_in_the_place_of_one_that_is(page, mesh, tmp_path):
    bad = tmp_path / "bad.obj"
    bad.write_text("v 0 0 0\n")
    page.get_by_role("tab", name="Fit").click()
    page.get_by_role("tab", name="A mesh").click()
    upload(page, "mesh", mesh)
    page.get_by_text("watertight").first.wait_for(timeout=90_000)
    page.locator("#mesh input[type=file]").first.set_input_files(bad)  # beside the other
    page.get_by_text(re.compile("No faces|Mesh unreadable|Empty mesh")).first.wait_for(
        timeout=90_000
    )
    expect(page.locator("#mesh")).not_to_contain_text(mesh.stem, timeout=90_000)
