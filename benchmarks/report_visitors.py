"""Section of docs/results.md on the app under load."""

from typing import Any

from benchmarks.report_table import measured_by, table

DONE = {
    "faces": "four faces drawn",
    "passport": "a LoRA's report",
    "prediction": "what its weights say",
    "fit": "a photo fitted (4 s of it are the fit)",
    "edit": "a face edited",
    "page": "the page itself",
}


def visitors(result: dict[str, Any]) -> str:
    """Latencies of what visitors do beside each other."""
    v = result["values"]
    rows = [
        [DONE.get(kind, kind), f"{r['count']:.0f}", f"{r['median']:.2f} s", f"{r['p95']:.2f} s",
         f"{r['longest']:.2f} s"]
        for kind, r in v["seconds"].items()
    ]  # fmt: skip
    memory = v["memory_mb"]
    flat = "flat" if memory["is_flat"] else "not flat"
    return f"""## The app under load

{measured_by(result)}

{v["visitors"]} visitors for {v["minutes"]:g} minutes on {v["cores"]} cores, each with a LoRA, a
photo and seeds of their own, pausing {v["pause_seconds"]:g} s on average: {v["requests"]:,}
requests, {v["errors"]} errors, {v["crossed"]} results of somebody else. Of the
{v["waited_over_half_a_second"]} who waited in a queue for more than half a second,
{v["of_them_told_place_and_time"]} were told their place and the time. Memory {memory["start"]:,} MB
at the start, {memory["most"]:,} at most, {memory["end"]:,} at the end: {flat}. Load of the machine
{v["load"]["before"]:g} before the visitors came, {v["load"]["median"]:g} with them (the visitors'
own program is part of it); where others used the cores too, the times are upper bounds.

{table(["what", "times", "median", "95 %", "longest"], rows)}
"""
