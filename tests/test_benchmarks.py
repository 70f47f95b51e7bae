"""The benchmarks run from end to end, on made-up data and with tiny numbers."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import report

ROOT = Path(__file__).resolve().parent.parent


@pytest.mark.timeout(480)
def test_the_tables_of_paper_a_are_measured_and_printed_and_nothing_is_kept():
    before = {p: p.read_bytes() for p in (ROOT / "docs/results").glob("*.json")}
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.paper_a", "--quick"], cwd=ROOT, text=True,
        capture_output=True, env={**os.environ, "OMP_NUM_THREADS": "1"}, timeout=460,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    said = done.stdout.split("MADE-UP DATA")[1]
    for table in ("Table 1", "Generation", "Table 4", "Fig. 3"):
        assert table in said
    row = next(line for line in said.splitlines() if line.startswith("| mlora-asym"))
    assert all(float(cell.split()[0]) > 0 for cell in row.split("|")[2:5])
    assert before == {p: p.read_bytes() for p in (ROOT / "docs/results").glob("*.json")}


def test_the_page_of_results_is_what_the_report_writes_from_the_stored_figures():
    assert (ROOT / "docs/results.md").read_text() == report.text()


def test_every_table_of_representations_has_its_remarks():
    tables = [n for n in report.SECTIONS if n.endswith("-representations")]
    assert {n.removesuffix("-representations") for n in tables} == set(report.REPRESENTATIONS)
    assert set(report.PAPER_RATIO) == set(report.REPRESENTATIONS)
