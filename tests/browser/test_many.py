"""Many LoRAs in a real browser: dropped or named, as rows, groups, a map and files."""

import json

import duckdb
import pytest
from playwright.sync_api import expect

from tests.browser.visitor import NEEDS_CHROMIUM, upload
from tests.library.test_library import NAMES, lora
from wsdemo.lora.arithmetic import regauge
from wsdemo.lora.reader import read_lora
from wsdemo.lora.writing import save_lora

pytestmark = NEEDS_CHROMIUM


@pytest.fixture
def page(visited):
    """One visitor's, in all tests here."""
    return visited


@pytest.fixture
def dropped(tmp_path):
    """Four LoRAs, one of them again in other factors and names, and a file that is none."""
    files = [lora(tmp_path / f"{c}.safetensors", i, names=NAMES[:4]) for i, c in enumerate("abcd")]
    again = tmp_path / "again.safetensors"
    save_lora(regauge(read_lora(files[0]), 3), again, "kohya")
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(b"<html>not found</html>")
    return [*files, again, broken]


def open_many(page):
    page.get_by_role("tab", name="LoRA evaluator").click()
    page.get_by_role("tab", name="Many files").click()


def test_dropped_files_are_rows_groups_a_map_and_files_to_take_away(page, dropped):
    open_many(page)
    upload(page, "lora-batch", dropped)
    page.get_by_text("5 of 6 read").wait_for(timeout=90_000)
    groups = page.locator("#many-groups")
    assert "The same update, in other factors" in groups.inner_text()
    assert {"a.safetensors", "again.safetensors"} <= set(groups.inner_text().split("\n"))
    assert page.locator("#many-map circle").count() == 5
    page.locator("#many-map circle").first.focus()
    assert "rank 4" in page.locator("#many-map circle").first.get_attribute("aria-label")
    expect(page.locator("#batch-table")).to_contain_text("web page")
    page.locator("#many-show input").click()
    page.get_by_role("option", name="not read").click()
    expect(page.locator("#batch-table")).not_to_contain_text("again.safetensors")
    for area, check in (
        ("many-csv", lambda path: len(path.read_text().splitlines()) == 7),
        ("many-json", lambda path: len(json.loads(path.read_text())["loras"]) == 6),
        ("many-parquet", lambda path: duckdb.read_parquet(str(path)).shape[0] == 6),
    ):
        with page.expect_download() as download:
            page.locator(f"#{area}").click()
        place = dropped[0].with_name(download.value.suggested_filename)
        download.value.save_as(place)
        assert check(place), area


def test_an_owner_and_a_name_that_is_not_there_are_rows(page):
    open_many(page)
    page.locator("#many-names textarea").fill("acme\nnobody/nothing")
    page.locator("#many-ask").click()
    page.get_by_text("2 of 3 read").wait_for(timeout=60_000)
    table = page.locator("#batch-table")
    expect(table).to_contain_text("acme/lora:a.safetensors")
    expect(table).to_contain_text("nobody/nothing")
    expect(table).to_contain_text("No such repository")
    assert "The same file" in page.locator("#many-groups").inner_text()
