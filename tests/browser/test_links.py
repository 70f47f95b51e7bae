"""Links into the page in a real browser: a LoRA's report, a sample, what cannot be opened."""

import re

import pytest
from playwright.sync_api import expect

from tests.browser.visitor import NEEDS_CHROMIUM, sources

pytestmark = NEEDS_CHROMIUM


@pytest.fixture
def opened(browser, address):
    """Opens the page at a query, as a visitor who follows a link, and another after it."""
    context = browser.new_context(viewport={"width": 1280, "height": 1000})
    page = context.new_page()

    def at(query):
        page.goto(address + query)
        return page

    yield at
    context.close()


def selected(page):
    tabs = page.locator("button[role=tab][aria-selected=true]").all_inner_texts()
    return [text.strip() for text in tabs]


def status(page, text):
    page.locator("#hub-status").get_by_text(re.compile(text)).wait_for(timeout=60_000)


def test_a_link_opens_the_report_of_a_lora_of_the_hub(opened):
    page = opened("?lora=acme/lora:a.safetensors")
    status(page, "Downloaded")
    assert "LoRA evaluator" in selected(page)
    expect(page.locator("#prediction")).to_contain_text("No prediction", timeout=60_000)
    smollm = re.compile("smollm", re.IGNORECASE)  # what the tab opened on
    expect(page.locator("#card")).not_to_contain_text(smollm, timeout=60_000)
    reference = page.locator("#hub-reference textarea, #hub-reference input").first
    assert reference.input_value() == "acme/lora:a.safetensors"
    page.locator("#share").click()
    box = page.locator("#share-address textarea, #share-address input").first
    box.wait_for(timeout=90_000)
    assert box.input_value().endswith("?lora=acme/lora:a.safetensors")


def test_a_link_that_leads_nowhere_says_so(opened):
    """What else a Hub can answer: tests/hub/test_hub.py."""
    status(opened("?lora=acme/absent"), "No such repository")
    status(opened("?lora=acme/lora"), "It holds 2 files: choose one")
    status(opened("?lora=%3Cscript%3Ealert(1)%3C/script%3E"), "name|reference|address")
    page = opened("?tab=nowhere")
    page.get_by_text("No such tab").first.wait_for(timeout=60_000)
    page = opened("?tab=faces&seed=minus")
    page.get_by_text("Link not understood").first.wait_for(timeout=60_000)


def test_a_link_draws_the_same_faces_and_the_address_follows_the_visitor(opened):
    page = opened("")
    page.locator("img[src*='sample-faces']").first.wait_for(timeout=60_000)
    page = opened("?tab=faces&seed=12&count=2&steps=5")
    page.get_by_text(re.compile("2 faces, seed 12")).wait_for(timeout=90_000)
    first = sources(page)
    assert len(first) == 2
    # The first of them is shown large, in the place of what the page opened on.
    expect(page.locator("img[src*='sample-faces']")).to_have_count(0, timeout=60_000)
    page.get_by_role("tab", name="Fit", exact=True).click()
    page.wait_for_url(re.compile(r"\?tab=fit$"))
    page.reload()
    page.get_by_role("tab", name="Fit", exact=True).wait_for(timeout=60_000)
    page.wait_for_function(
        "() => [...document.querySelectorAll('button[role=tab][aria-selected=true]')]"
        ".some((b) => b.textContent.trim() === 'Fit')",
        timeout=90_000,
    )
