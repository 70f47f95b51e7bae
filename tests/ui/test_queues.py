"""Whoever waits for something quick does not wait for what takes long."""

import inspect
from functools import partial

from wsdemo.ui.blocks import build_blocks
from wsdemo.ui.shared.events import COMPUTE, QUICK, READING

APART = (
    ("many.batch", "report.inspect"),
    ("many.batch", "prediction.predict"),
    ("many.batch", "hub_row.fetched"),
    ("own_predictor.use_predictor", "prediction.predict"),
    ("hub_row.fetched", "report.inspect"),
    ("hub_row.look", "pairing.both"),
    ("fit_tab.fit_one", "fit_tab.look_at"),
    ("fit_tab.fit_one", "sample_tab.draw_one"),
    ("hub_row.follow", "report.inspect"),
)
"""Pairs of handlers of which none waits for the other: ``module.function``."""
SLOW = {"report", "prediction", "pairing", "convert", "many", "own_predictor", "hub_row"}
"""Modules whose handlers read what visitors bring, or download it."""


def test_slow_jobs_do_not_hold_up_quick_ones_nor_each_other():
    queues: dict[str, set[str]] = {}
    for event in build_blocks().fns.values():
        if event.fn is not None and event.queue is not False:
            handler = inspect.unwrap(event.fn)
            handler = handler.func if isinstance(handler, partial) else handler
            name = f"{handler.__module__.rsplit('.', 1)[-1]}.{handler.__name__}"
            queues.setdefault(name, set()).add(str(event.concurrency_id))
    quick = {name for name, own in queues.items() if QUICK["concurrency_id"] in own}
    assert quick
    of_loras = {name for name in quick if name.split(".")[0] in SLOW}
    assert not of_loras
    # A photo is read at once, a mesh may take minutes.
    assert queues["fit_tab.look_at"] == {QUICK["concurrency_id"], READING["concurrency_id"]}
    for one, other in APART:
        assert not queues[one] & queues[other], (one, other)
    assert queues["fit_tab.fit_one"] == {COMPUTE["concurrency_id"]}
