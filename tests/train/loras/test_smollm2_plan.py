"""Recipes are drawn as people make LoRAs, and nothing crosses a split."""

from collections import Counter

from wsdemo.train.loras import smollm2_plan as plans
from wsdemo.train.loras.smollm2_texts import GENERAL, SOURCES, UNSEEN

QUEUE = plans.queue(list(SOURCES), list(UNSEEN))


def by_split() -> dict[str, list[plans.Plan]]:
    return {s: [p for p in QUEUE if p.split == s] for s in plans.COUNTS}


def test_a_recipe_is_drawn_from_its_name_alone() -> None:
    again = plans.make_plan("train", 7, list(SOURCES), list(UNSEEN))
    assert again == next(p for p in QUEUE if p.name == again.name)


def test_no_set_of_sources_is_in_two_splits() -> None:
    sets = {s: {p.sources for p in found} for s, found in by_split().items()}
    for a in sets:
        for b in sets:
            assert a == b or not sets[a] & sets[b], (a, b)


def test_only_the_unseen_split_has_an_unseen_source_and_always_one() -> None:
    for plan in QUEUE:
        assert bool(set(plan.sources) & set(UNSEEN)) == (plan.split == "unseen")
    assert len(SOURCES) >= 16
    assert not set(SOURCES) & {*UNSEEN, GENERAL}


def test_the_draws_are_those_that_were_asked_for() -> None:
    n = len(QUEUE)
    assert n >= 600
    assert sum(plans.COUNTS.values()) == n
    assert 0.45 < sum(p.rank in (8, 16) for p in QUEUE) / n < 0.62
    assert {p.rank for p in QUEUE} == set(plans.RANKS)
    assert {p.targets for p in QUEUE} == set(plans.TARGETS)
    assert 0.05 < sum(p.steps > 80 for p in QUEUE) / n < 0.15
    assert all(8 <= p.steps <= 200 and 5e-5 <= p.learning_rate <= 2e-3 for p in QUEUE)
    assert all(4 <= p.examples <= 2000 and 1 <= len(p.sources) <= 8 for p in QUEUE)
    assert all(p.alpha in (p.rank, 2 * p.rank, 16, 32) for p in QUEUE)
    assert all(p.learning_rate * p.scale <= plans.MOST_STRENGTH for p in QUEUE)
    assert any(p.rank_stabilised for p in QUEUE)
    assert any(p.first_layer for p in QUEUE)


def test_every_beginning_of_the_queue_has_all_splits_in_proportion() -> None:
    for n in (40, 80, 300):
        counts = Counter(p.split for p in QUEUE[:n])
        for split, total in plans.COUNTS.items():
            assert abs(counts[split] - n * total / len(QUEUE)) <= 1.5
