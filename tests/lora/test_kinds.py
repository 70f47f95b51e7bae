"""Every kind of file that the results list is read right, or refused by its name."""

from pathlib import Path

from benchmarks.lora_kinds import kinds, reader


def test_every_kind_is_right(tmp_path):
    found = reader(Path.cwd(), tmp_path)
    assert found.keys() == kinds().keys()
    assert {label: word for label, word in found.items() if word != "right"} == {}
