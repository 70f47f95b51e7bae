"""What builders of collections share: order, shares of work, what is missing, the table."""

import csv

from tests.conftest import Clock
from wsdemo.train.loras import making
from wsdemo.train.loras.making import in_turn, make_missing, write_table
from wsdemo.train.workers import share_of


def test_every_beginning_of_a_collection_has_some_of_each_split():
    order = in_turn([[f"train {i}" for i in range(6)], [f"test {i}" for i in range(2)]])
    assert order == [
        "train 0", "test 0", "train 1", "train 2", "train 3", "test 1", "train 4", "train 5",
    ]  # fmt: skip


def test_the_shares_of_several_processes_are_all_of_the_work_once():
    shares = [share_of(f"{i}/3", list(range(8))) for i in range(3)]
    assert shares[0] == [0, 3, 6]
    assert sorted(i for share in shares for i in share) == list(range(8))


def test_what_is_there_is_not_made_again_and_none_is_begun_after_the_time(
    tmp_path, monkeypatch, capsys
):
    made = []

    def make(path, plan):
        path.touch()
        made.append(plan)
        return f"made {plan}"

    work = [(tmp_path / f"{i}", i) for i in range(5)]
    work[1][0].touch()
    make_missing(work, make, minutes=60, every=2)
    assert made == [0, 2, 3, 4]
    said = capsys.readouterr().err
    assert "2 LoRAs" in said
    assert "made 4" in said
    for path, _ in work:
        path.unlink()
    monkeypatch.setattr(making, "time", Clock(25.0))  # a look at every LoRA's beginning
    made.clear()
    make_missing(work, make, minutes=1, every=100)
    assert made == [0, 1]


def test_the_table_has_every_column_that_any_row_has(tmp_path):
    write_table(tmp_path / "a.csv", [{"file": "x", "a": 1}, {"file": "y", "b": "two, or 3"}])
    with (tmp_path / "a.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert rows == [{"file": "x", "a": "1", "b": ""}, {"file": "y", "a": "", "b": "two, or 3"}]
