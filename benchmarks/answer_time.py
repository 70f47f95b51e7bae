"""From dropping a LoRA to its whole answer, now and in an earlier checkout, in one run.

    git worktree add --detach /tmp/before 739b511
    python -m benchmarks.answer_time --before /tmp/before sd.safetensors

Measured is what the page does when a file is dropped, without the browser: card, passport, network
and table, then prediction, evidence, dose curves and model-index. Of each
family that ships examples the first is measured, besides the files that are given. Both trees run
in processes of their own, in turn; of each file the first answer of a process, which loads its
predictor, is not counted.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

HERE = Path(__file__).resolve().parent.parent
EARLIEST = "739b511"
"""Before a LoRA was read once for all."""


def answerer() -> Callable[[str], None]:
    """What the page of the tree on the path does with a dropped file."""
    try:
        from wsdemo.ui.lora import prediction, readings, report
    except ImportError:
        from wsdemo.ui import lora_tab, predict_section

        def before(path: str) -> None:
            lora_tab.inspect(path, None)
            predict_section.predict_file(lora_tab.opened(path))

        return before

    def now(path: str) -> None:
        readings.HELD.clear()
        report.inspect(path, None)
        prediction.predict(path, None, ())

    return now


def examples(folder: Path) -> list[Path]:
    """The first shipped LoRA of each family that ships some."""
    from safetensors.torch import save_file

    from wsdemo.checkpoints import DIRECTORY, load_checkpoint

    tensors, meta = load_checkpoint(DIRECTORY / "lora-examples.safetensors")
    backwards = reversed(list(enumerate(meta["loras"])))
    titled = {e["title"].partition(":")[0]: i for i, e in backwards if "title" in e}
    paths = []
    for title, i in titled.items():
        path = folder / f"{title.replace(' ', '-').lower()}.safetensors"
        own = {k.partition("/")[2]: v for k, v in tensors.items() if k.startswith(f"{i}/")}
        save_file(own, path, metadata=meta["loras"][i]["metadata"])
        paths.append(path)
    return paths


def measure(paths: list[str], repeats: int) -> dict[str, list[list[float]]]:
    """Seconds of processor and of the clock of every answer, by file."""
    answer, found = answerer(), {}
    for path in paths:
        answer(path)
        rows = []
        for _ in range(repeats):
            cpu, clock = time.process_time(), time.perf_counter()
            answer(path)
            rows.append([time.process_time() - cpu, time.perf_counter() - clock])
        found[Path(path).stem] = rows
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("files", nargs="*", help="LoRAs besides the shipped examples")
    parser.add_argument("--before", type=Path, help=f"a checkout of {EARLIEST}")
    parser.add_argument("--repeats", type=int, default=5, help="of a file in a process")
    parser.add_argument("--rounds", type=int, default=3, help="processes of each tree")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        print(json.dumps(measure(args.files, args.repeats)))
        return
    from benchmarks.common import store_result

    trees = {"before": args.before, "now": HERE} if args.before else {"now": HERE}
    with tempfile.TemporaryDirectory() as folder:
        files = [*map(str, examples(Path(folder))), *(str(Path(f).resolve()) for f in args.files)]
        taken: dict[str, dict[str, list[list[float]]]] = {name: {} for name in trees}
        for _ in range(args.rounds):
            for name, tree in trees.items():
                done = subprocess.run(
                    [sys.executable, __file__, "--child", "--repeats", str(args.repeats), *files],
                    cwd=tree, env=os.environ | {"PYTHONPATH": str(tree), "OMP_NUM_THREADS": "1"},
                    check=True, stdout=subprocess.PIPE, text=True,
                )  # fmt: skip
                for file, rows in json.loads(done.stdout.splitlines()[-1]).items():
                    taken[name].setdefault(file, []).extend(rows)
    values = {
        file: {
            name: {"processor": statistics.median(r[0] for r in rows[file]),
                   "clock": statistics.median(r[1] for r in rows[file])}
            for name, rows in taken.items()
        }
        for file in taken["now"]
    }  # fmt: skip
    print(json.dumps(values, indent=1))
    if args.before:
        command = f"python -m benchmarks.answer_time --before CHECKOUT_OF_{EARLIEST} FILE"
        store_result(
            "answer-time", command, {"rows": values, "answers": args.rounds * args.repeats}
        )


if __name__ == "__main__":
    main()
