"""From opening the page to a result: by how many clicks; benchmarks/first_steps.py takes the time.

It is the same code that the benchmark runs, so that what it measures keeps working.
"""

import pytest

from benchmarks import first_steps
from benchmarks.first_steps import FIRST, TASKS, Visitor
from tests.browser.visitor import NEEDS_CHROMIUM

pytestmark = NEEDS_CHROMIUM

CLICKS = {
    "a new face": 1,
    "an own photo as weights": 3,
    "an edited own face": 4,
    "the report of a LoRA": 2,
    "a smaller file": 4,
}


BEGINNINGS = {"an own photo as weights": "own_photo", "the report of a LoRA": "report"}
"""Tasks that others begin with: counted there, on their way."""


@pytest.mark.parametrize("task", [task for task in TASKS if task not in BEGINNINGS])
def test_a_task_takes_so_many_clicks(page, tmp_path, monkeypatch, task):
    first_steps.inputs(tmp_path)
    counted = {}
    for name, function in BEGINNINGS.items():

        def begun(visitor, folder, name=name, begin=TASKS[name]):
            begin(visitor, folder)
            counted[name] = visitor.clicks

        monkeypatch.setattr(first_steps, function, begun)
    visitor = Visitor(page)
    TASKS[task](visitor, tmp_path)
    counted[task] = visitor.clicks
    assert counted.items() <= CLICKS.items()
    assert task == "a new face" or len(counted) == 2


def test_every_tab_opens_on_a_result(page):
    for tabs, result in FIRST.values():
        for tab in tabs:
            page.get_by_role("tab", name=tab, exact=True).click()
        page.locator(result).first.wait_for(timeout=5_000)
