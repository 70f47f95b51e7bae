"""LoRAs in a real browser: dropped, fetched by name, predicted, and refused."""

import re

import pytest
from playwright.sync_api import expect

from tests.browser.visitor import NEEDS_CHROMIUM, upload
from tests.lora.files import families, rand, write

pytestmark = NEEDS_CHROMIUM


@pytest.fixture
def page(visited):
    """One visitor's, in all tests here."""
    return visited


def test_a_lora_shows_its_passport_and_markup_in_it_stays_text(page, tmp_path):
    tensors, _, _ = families()["kohya"]
    meta = {"ss_base_model_version": "sdxl <img src=x onerror=alert(1)>"}
    lora = write(tmp_path / "lora.safetensors", tensors, meta)
    page.on("dialog", lambda dialog: pytest.fail("a text of the file ran as script"))
    page.get_by_role("tab", name="LoRA evaluator").click()
    upload(page, "lora", lora)
    page.get_by_text("Size of the update").wait_for(timeout=90_000)
    page.get_by_text("sdxl <img src=x onerror").first.wait_for()
    assert page.locator("#passport img, #card img").count() == 0
    page.get_by_role("tab", name="Make smaller or convert").click()
    page.get_by_role("button", name="Re-gauge by a random R").click()
    page.get_by_text("cosine of the updates 1.0000").wait_for(timeout=90_000)
    page.get_by_role("tab", name="Report").click()


def test_what_is_no_lora_is_refused_in_the_tab(page, tmp_path):
    path = write(tmp_path / "x.safetensors", {"m.ia3_l": rand(4, 1)})
    page.get_by_role("tab", name="LoRA evaluator").click()
    upload(page, "lora", path)
    page.get_by_text("IA3 adapter").first.wait_for(timeout=90_000)


def test_a_lora_from_the_hub_is_judged_chosen_fetched_and_read(page):
    page.get_by_role("tab", name="LoRA evaluator").click()
    page.locator("#hub-reference textarea, #hub-reference input").first.fill("acme/none")
    page.locator("#hub-look").click()
    page.get_by_text("No such repository").first.wait_for(timeout=90_000)
    page.locator("#hub-reference textarea, #hub-reference input").first.fill("acme/lora")
    page.locator("#hub-look").click()
    page.get_by_text("It holds 2 files: choose one").wait_for(timeout=90_000)
    page.locator("#hub-file input").click()
    page.get_by_role("option", name=re.compile("b.safetensors")).click()
    page.get_by_text(re.compile(r"\d+ modules of rank")).wait_for(timeout=90_000)
    page.locator("#hub-fetch").click()
    page.get_by_text("Size of the update").wait_for(timeout=90_000)
    page.locator("#hub-reference textarea, #hub-reference input").first.fill("acme/other")
    page.locator("#hub-fetch:disabled").wait_for(timeout=90_000)


def test_a_fitted_face_is_predicted_explained_and_gauge_invariant(page, tmp_path):
    from wsdemo.maps import weight_map as maps

    found = maps.weight_map("faces")
    path = tmp_path / "face.safetensors"
    maps.point_instance(found, len(found) - 1).save(path)
    page.get_by_role("tab", name="LoRA evaluator").click()
    upload(page, "lora", path)
    expect(page.locator("#prediction tbody tr")).to_have_count(40, timeout=90_000)
    page.get_by_role("button", name="Re-gauge and predict again").click()
    page.locator("#gauge table").wait_for(timeout=90_000)
    for row in page.locator("#gauge tbody tr").all():
        cells = row.locator("td").all_inner_texts()
        assert cells[0] == cells[1]
        assert cells[2] != cells[3]


def test_a_foreign_lora_gets_no_prediction_and_the_reason(page, tmp_path):
    tensors, _, _ = families()["kohya"]
    page.get_by_role("tab", name="LoRA evaluator").click()
    example = page.locator("#lora-example input")
    example.click()
    page.get_by_role("option").first.click()
    page.get_by_text("True labels of this example").first.wait_for(timeout=90_000)
    expect(example).not_to_have_value("")
    upload(page, "lora", write(tmp_path / "lora.safetensors", tensors, {}))
    page.locator("#prediction", has_text="No prediction").wait_for(timeout=90_000)
    expect(example).to_have_value("")  # no example is shown any more
    assert "lol train" in page.locator("#prediction").inner_text()
