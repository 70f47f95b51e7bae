"""Sections of docs/results.md on what is tried of fits: odd inputs, and the time that they take."""

from textwrap import fill
from typing import Any

from benchmarks.report_table import measured_by, table


def field_cases(result: dict[str, Any]) -> str:
    """Kinds of inputs that were read wrong, before and after."""
    rows, total, right = [], 0, 0
    wrong = []
    for kind, r in result["values"]["rows"].items():
        good = r["cases"] - len(r["wrong"])
        rows.append([kind, str(r["cases"]), str(r["before"]), str(good)])
        total, right = total + r["cases"], right + good
        wrong += [f"{w['case']}: {w['says']}" for w in r["wrong"]]
    rows.append(["all", str(total), "0", str(right)])
    words = "\n".join(f"- {line}" for line in wrong)
    return f"""## Pictures, meshes, files and the shell as people have them

{measured_by(result)}

Inputs and commands after public reports of other projects, each a script that knows the right
value. *Before*: commit 739b511.

{table(["kind", "cases", "right before", "right"], rows)}
{f"{chr(10)}Not right by their own measure:{chr(10)}{chr(10)}{words}{chr(10)}" if wrong else ""}"""


def budgets(result: dict[str, Any]) -> str:
    """Steps beside a busy process, and seconds kept."""
    rows = [
        [kind, f"{r['asked']:g} s", f"{r['shortest']:.2f} to {r['longest']:.2f} s",
         f"{r['alone']:.0f}", f"{r['beside']:.0f}", f"{r['beside'] / r['alone']:.2f}",
         " and ".join(f"{load:.1f}" for load in r["loads"])]
        for kind, r in result["values"]["rows"].items()
    ]  # fmt: skip
    head = ["fit", "asked", "taken", "steps alone", "steps beside", "ratio", "load before"]
    return f"""## Time that fits take, and steps beside a busy process

{measured_by(result)}

By the command line, *beside*: a process that multiplies matrices with two threads. *Load*: what the
machine did besides before each round, which falls on both columns.

{table(head, rows)}
"""


def upright(result: dict[str, Any]) -> str:
    """How often the upward axis is guessed right."""
    v = result["values"]
    rows = [
        [kind, f"{r['odds']:g}", f"{r['standing']:.0%}", f"{r['lying']:.0%}"]
        for kind, r in v["formats"].items()
    ]
    by = sorted(v["categories"].items(), key=lambda row: -row[1])
    words = ", ".join(f"{name} {share:.0%}" for name, share in by)
    return f"""## Which way is up

{measured_by(result)}

{v["meshes"]} meshes of {len(by)} categories, each as it stands and lying on its back, by a
regression that has not seen its category. *Odds*: how much likelier y is beforehand (an estimate by
format).

{table(["format", "odds", "standing ones left so", "lying ones turned"], rows)}

{fill(f"At even odds, right by category: {words}.", 100)}
"""
