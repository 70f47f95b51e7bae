"""The table of the page: how far it is to a result."""

from typing import Any

from benchmarks.report_table import table


def first_steps(result: dict[str, Any]) -> str:
    """Clicks and seconds to results, and how soon each tab shows one."""
    v = result["values"]
    low, high = sorted(v["load"])
    tasks = [[name, f"{t['clicks']}", f"{t['seconds']:.1f}"] for name, t in v["tasks"].items()]
    first = [[name, f"{seconds:.2f}"] for name, seconds in v["first"].items()]
    return f"""## From opening the page to a result

`{result["command"]}` · {result["machine"]}

In Debian's chromium on the machine that serves the page: {v["cores"]} cores, of which other work
kept a load of {low:.1f} to {high:.1f} while this was measured. Seconds count from the page's
answer; a file handed over counts as a click. The seconds of a fit's preset (4) are in them.

{table(["to", "clicks", "seconds"], tasks)}

{table(["first result of", "seconds"], first)}

The longest time from a click on a tab to the next painting: {v["answer_ms"]:.0f} ms.
"""
