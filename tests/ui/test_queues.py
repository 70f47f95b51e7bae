"""Whoever waits for something quick does not wait for what takes long."""

from wsdemo.ui.blocks import build_blocks
from wsdemo.ui.shared.events import COMPUTE, QUICK

APART = (
    ("many.batch", "report.inspect"),
    ("many.batch", "prediction.predict"),
    ("many.batch", "hub_row.fetch"),
    ("own_predictor.use_predictor", "prediction.predict"),
    ("hub_row.fetch", "report.inspect"),
    ("hub_row.look", "pairing.both"),
    ("shape_fit_tab.fit", "shape_fit_tab.look"),
)
"""Pairs of handlers of which none waits for the other: ``module.function``."""
SLOW = {"report", "prediction", "pairing", "convert", "many", "own_predictor", "hub_row"}
"""Modules whose handlers read what visitors bring, or download it."""


def test_slow_jobs_do_not_hold_up_quick_ones_nor_each_other():
    queues: dict[str, set[str]] = {}
    for event in build_blocks().fns.values():
        if event.fn is not None and event.queue is not False:
            name = f"{event.fn.__module__.rsplit('.', 1)[-1]}.{event.fn.__name__}"
            queues.setdefault(name, set()).add(str(event.concurrency_id))
    quick = {name for name, own in queues.items() if QUICK["concurrency_id"] in own}
    assert quick
    of_loras = {name for name in quick if name.split(".")[0] in SLOW}
    assert not of_loras
    assert "shape_fit_tab.look" not in quick
    for one, other in APART:
        assert not queues[one] & queues[other], (one, other)
    assert queues["shape_fit_tab.fit"] == {COMPUTE["concurrency_id"]}
