"""Section of docs/results.md on the ground plan."""

from typing import Any

from benchmarks.report_table import table

TITLES = {
    "top": "modules at the top of the package",
    "branches": "places outside of the domains and their recipes where the name of one decides",
    "half_files": "files of pipeline, fitting, Fit tab and Sample tab of all domains",
    "half_lines": "lines of these",
    "files": "files of the package",
    "lines": "lines of the package",
}


def house(result: dict[str, Any]) -> str:
    """The ground plan before and now."""
    v = result["values"]
    rows = [[said, f"{v['before'][key]:,}", f"{v['now'][key]:,}"] for key, said in TITLES.items()]
    return f"""## The ground plan

`{result["command"]}`

{table(["", "before", "now"], rows)}

*Before*: the tree in which faces and shapes were two copies of each part. Now they are two values
of one `Domain`, and a third, signals in one dimension, is one file
(tests/domains/test_third_domain.py).
"""
