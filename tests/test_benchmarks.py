"""The benchmarks run from end to end, on made-up data and with tiny numbers."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import (
    common,
    connectivity,
    paper_a,
    report,
    report_weights,
)
from benchmarks.report_representations import PAPER_RATIO, REPRESENTATIONS
from wsdemo.train.faces.data import toy_faces

ROOT = Path(__file__).resolve().parent.parent


@pytest.mark.slow
@pytest.mark.timeout(480)
def test_the_tables_of_paper_a_are_measured_and_printed_and_nothing_is_kept():
    before = {p: p.read_bytes() for p in (ROOT / "docs/results").glob("*.json")}
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.paper_a", "--quick"], cwd=ROOT, text=True,
        capture_output=True, timeout=460,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    said = done.stdout.split("MADE-UP DATA")[1]
    for table in ("Table 1", "6,700 weights", "Generation", "Table 4", "Fig. 3", "Fig. 5"):
        assert table in said
    row = next(line for line in said.splitlines() if line.startswith("| mlora-asym"))
    assert all(float(cell.split()[0]) > 0 for cell in row.split("|")[2:5])
    assert before == {p: p.read_bytes() for p in (ROOT / "docs/results").glob("*.json")}


def test_the_page_of_results_is_what_the_report_writes_from_the_stored_figures():
    assert (ROOT / "docs/results.md").read_text() == report.text()


def test_every_table_of_representations_has_its_remarks():
    tables = [n for n in report.SECTIONS if n.endswith("-representations")]
    assert {n.removesuffix("-representations") for n in tables} == set(REPRESENTATIONS)
    assert set(PAPER_RATIO) == set(REPRESENTATIONS)


def stored(name: str) -> dict:
    return json.loads((ROOT / f"docs/results/{name}.json").read_text())


def test_what_is_missing_is_named_with_what_it_needs(tmp_path, monkeypatch, capsys):
    """No fits, no data, and a table that was stopped halfway."""
    monkeypatch.setattr(common, "RESULTS", tmp_path)
    result = stored("faces-reconstruction")
    values = result["values"] | {"rows": {"mlp": result["values"]["rows"]["mlp"]}}
    (tmp_path / "faces-reconstruction.json").write_text(json.dumps(result | {"values": values}))
    missing = paper_a.measure(None, None, False, tmp_path / "runs")
    assert missing == [name for name in paper_a.STEPS if " " not in name]
    said = capsys.readouterr().out
    assert "faces-reconstruction: not measured whole yet; give --faces." in said
    assert said.count("python -m wsdemo.train.shapes.fit shapes") == 12
    paper_a.measure(tmp_path / "nowhere.zip", None, False, tmp_path / "runs")
    assert "faces-reconstruction: not measured. No faces found" in capsys.readouterr().out
    assert "41.31 (35.11)" in paper_a.tables()


def test_connectivity_continues_after_the_rows_that_are_stored(tmp_path, monkeypatch):
    monkeypatch.setattr(common, "RESULTS", tmp_path)
    result = stored("connectivity")
    result["values"] |= {"faces": 2, "steps": 1}
    del result["values"]["rows"]["lora"]
    (tmp_path / "connectivity.json").write_text(json.dumps(result))
    fitted = []

    def start(adapter, grid, target, config, generator, origin):
        fitted.append(adapter.config.representation)
        return origin

    monkeypatch.setattr(connectivity, "fit_to_end", start)
    monkeypatch.setattr(connectivity, "load_faces", lambda *_: toy_faces(2))
    connectivity.main(["--faces=2", "--steps=1"])
    assert set(fitted) == {"lora"}
    rows = json.loads((tmp_path / "connectivity.json").read_text())["values"]["rows"]
    assert rows.pop("lora")["barrier"][0] == pytest.approx(0, abs=1e-6)  # one start, twice
    assert rows == result["values"]["rows"]


def test_remarks_follow_from_the_figures():
    v = stored("connectivity")["values"]
    said = " ".join(report_weights.connectivity_against_paper(v).split())
    assert "Lowest barrier: lora at λ = 0, 0.1, 0.3; lora-asym at λ = 0.5, 0.7, 0.9, 1." in said
    assert "lowest at every λ, as in the paper, is not reached" in said
    v["rows"]["mlora-asym"]["barrier"] = [-1.0] * len(v["lambdas"])
    assert "in the paper, is reached" in report_weights.connectivity_against_paper(v)
    values = stored("clusters")["values"]
    said = " ".join(report_weights.clusters_against_paper(values).split())
    assert "1-NN 92.3 = 92.3 > 86.2, not the paper's order" in said
    values["lora"]["forms"]["raw"]["knn_accuracy"] = 0.9
    said = " ".join(report_weights.clusters_against_paper(values).split())
    assert "1-NN 92.3 > 90.0 > 86.2, the paper's order" in said
