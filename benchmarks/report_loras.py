"""Sections of docs/results.md on reading LoRAs."""

from textwrap import fill
from typing import Any

from benchmarks.report_table import measured_by, table


def loras(result: dict[str, Any]) -> str:
    rows = []
    for label, r in result["values"]["rows"].items():
        if "refused" in r:
            rows.append([label, f"refused: {r['refused']}", "", "", "", "", ""])
            continue
        rows.append([
            label, r["family"], r["base"] or "–", str(r["modules"]),
            ", ".join(map(str, r["ranks"])), "yes" if r["exact"] else "no",
            f"{r['ratio']:.1f}",
        ])  # fmt: skip
    head = ["file", "read as", "base", "modules", "ranks", "exact", "time / load_file"]
    return f"""## Reading real LoRA files

{measured_by(result)}

Public files under Apache-2.0 or MIT (pickles converted first), and key tables of larger files
filled with random values, up to 120 million numbers: the largest have fewer modules here than their
tables. Ranks of LoKr with whole factors are the columns that were kept. The last column is the time
to read and measure a file against `safetensors.torch.load_file` alone, in one run; small files pay
for the singular values. *Exact* is no where the scale is not in the file, the base's weights are
needed (DoRA), or ranks were cut.

{table(head, rows)}
"""


LOADING = {
    "bytes_alone": "reading the bytes alone",
    "load_file": "safetensors' load_file, which only maps the file",
    "load_file_all_used": "the same, every number used once",
    "load_file_float32": "the same, copied to float32",
    "diffusers_load_lora_adapter": "diffusers' load_lora_adapter into a ready UNet",
    "peft_new_model_and_state_dict": "PEFT, new adapter and its weights into a ready UNet",
    "peft_state_dict_into_ready_model": "PEFT, weights into an adapter that is there",
}


def lora_loading(result: dict[str, Any]) -> str:
    """Time and memory of reading a LoRA."""
    v = result["values"]
    rows = [
        [said, f"{v['others'][name]['processor_ms']:.1f} ms", f"{r['processor_ms']:.2f}"]
        for name, said in LOADING.items() if (r := v["wsdemo_divided_by"].get(name))
    ]  # fmt: skip
    large = v["large"]
    peft, diffusers, ready = (
        1 / v["wsdemo_divided_by"][name]["processor_ms"]
        for name in (
            "peft_new_model_and_state_dict",
            "diffusers_load_lora_adapter",
            "peft_state_dict_into_ready_model",
        )
    )
    raw = v["wsdemo_divided_by"]["load_file"]["processor_ms"]
    return f"""## Time and memory of reading a LoRA

{measured_by(result)}

`{v["file"]}`, {v["bytes"] / 2**20:.1f} MB, {v["modules"]} modules. From the file to passport and
geometry wsdemo takes {v["wsdemo"]["processor_ms"]:.1f} ms of processor time, one thread, best of
seven; {v["reading"]["processor_ms"] / v["wsdemo"]["processor_ms"]:.0%} of that are reading and
geometry, the rest says what the file is and where it loads. In one run with:

{table(["what", "takes", "wsdemo takes so many times as long"], rows)}

A file of {large["gigabytes"]:.2f} GB ({LARGE}) is inspected in
{large["peak_gigabytes"]:.2f} GB of memory and {large["seconds"]:.0f} s, start of Python included.

{fill(loading_aims(peft, diffusers, ready, raw), 100)}
"""


def loading_aims(peft: float, diffusers: float, ready: float, raw: float) -> str:
    """What was aimed at, and what came of it."""
    return (
        f"The aim of ten times faster than PEFT is {'met' if peft >= 10 else 'missed'} where PEFT"
        f" has to build its adapter ({peft:.1f} times; diffusers {diffusers:.1f}); where the"
        " adapter is there already, PEFT only copies numbers into place, and the ratio is"
        f" {ready:.1f}. The aim of at most twice the time of load_file is"
        f" {'met' if raw <= 2 else 'missed'} ({raw:.2f} times) on an idle machine; larger ranks"
        " take longer, as their singular values do (the table above)."
    )


LARGE = "SDXL's 986 modules at rank 144, random values"


def lora_kinds(result: dict[str, Any]) -> str:
    """Kinds of files, read by an older checkout and now."""
    v = result["values"]
    rows = [[kind, v["before"].get(kind, "–"), word] for kind, word in v["after"].items()]
    right = {when: sum(w == "right" for w in v[when].values()) for when in ("before", "after")}
    return f"""## Kinds of LoRA files, before and now

{measured_by(result)}

Files made by the benchmark, one a kind, with the ΔW that the program that writes it means by it,
to 1e-4. OLD is a checkout of 739b511, before bases and forms were tables.
Right there: {right["before"]} of {len(rows)}; now: {right["after"]}.

{table(["kind", "before", "now"], rows)}
"""


def lora_extraction(result: dict[str, Any]) -> str:
    """Time and memory of extracting a LoRA."""
    v = result["values"]
    return f"""## Extracting a LoRA from two checkpoints

{measured_by(result)}

Two checkpoints of {v["gigabytes"][0]:.2f} GB in bfloat16, TinyLlama's sizes, random weights and
updates of rank 8: {v["modules"]} weights at rank {v["rank"]} in {v["seconds"]:.0f} s
({v["processor_seconds"]:.0f} processor seconds; two cores, with other work beside it) and
{v["peak_gigabytes"]:.2f} GB of resident memory at most. {v["found_of_added"]:.4f} of what was added
is found; the rest is the rounding of bfloat16.
"""


def answer_time(result: dict[str, Any]) -> str:
    """From dropping a LoRA to its whole answer, before and now."""
    rows = [
        [name, *(f"{1000 * r[when][what]:.0f} ms" for what in ("processor", "clock")
                 for when in ("before", "now")),
         f"{r['now']['processor'] / r['before']['processor']:.2f}"]
        for name, r in result["values"]["rows"].items()
    ]  # fmt: skip
    head = ["file", "processor before", "now", "clock before", "now", "now / before"]
    return f"""## From dropping a LoRA to its whole answer

{measured_by(result)}

All that the page computes for a dropped file: card, passport, network, table, and where a predictor
knows the family the prediction, evidence, dose curves and model-index. *Before*: the tree in which
each part read and factored the file for itself. Medians of {result["values"]["answers"]} answers,
both trees in turn in one run, one thread; the clock's figures also hold what else the machine did.

{table(head, rows)}
"""
