"""The section of docs/results.md on the library of LoRAs."""

from textwrap import fill
from typing import Any

from benchmarks.report_table import measured_by, table


def library(result: dict[str, Any]) -> str:
    """How fast it is built, what it finds, what it takes."""
    v = result["values"]
    bytes_rate = (v["bytes_before"]["files_a_second"] + v["bytes_after"]["files_a_second"]) / 2
    rows = [["reading the bytes alone", f"{bytes_rate:.0f}", "1", "", "", ""]]
    for workers, said in ((1, "one worker"), (2, "two workers")):
        own = v[f"workers_{workers}"]
        rows.append([
            f"library build, {said}", f"{own['files_a_second']:.1f}",
            f"1 : {bytes_rate / own['files_a_second']:.0f}", f"{own['processor_ms_a_file']:.0f} ms",
            f"{own['peak_gigabytes']:.2f} GB",
            f"{own['load_before']:.1f} to {own['load_after']:.1f}",
        ])  # fmt: skip
    d = v["duplicates"]
    found = ", ".join(f"{kind} {d['found'].get(kind, 0)}" for kind in KINDS)
    map_text = f", its map in {v['map_seconds']:.0f} s" if "map_seconds" in v else ""
    told = (
        f"Of {v['planted']} planted copies of each kind are found: {found}; of {d['groups']} groups"
        f" {d['false']} are of none that was planted. Duplicates are found in {d['seconds']:.1f} s,"
        f" a condition is answered in {v['find_seconds']:.2f} s, the ten most alike in"
        f" {v['like_seconds']:.2f} s{map_text}; building it again, when nothing has changed, takes"
        f" {v['again_seconds']:.1f} s. The library takes {v['library_megabytes']:.0f} MB."
    )
    size = v["bytes_before"]["gigabytes"]
    return f"""## A library of LoRAs

{measured_by(result)}

{v["count"]:,} files, {size:.1f} GB, {v["modules"]} modules of rank 4 each, half precision, random,
in the page cache as far as they fit. The machine's two cores were shared with other work: its load
stands in the last column, and the ratios are of one run.

{table(["", "files a second", "to the bytes alone", "processor a file", "memory", "load"], rows)}

{fill(told, 100)}
"""


KINDS = ("same file", "other factors", "other spelling", "shrunk", "rescaled", "merge")
