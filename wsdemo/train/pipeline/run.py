"""Makes every checkpoint that is stale, stages side by side: ``make models DATA=FOLDER``.

    python -m wsdemo.train.pipeline.run --data FOLDER --jobs 2
    python -m wsdemo.train.pipeline.run --toy
    python -m wsdemo.train.pipeline.run --data FOLDER faces-diffusion      # and what it needs

The stages are those of dvc.yaml, and ``dvc repro`` runs each; it runs one after the other, so this
starts as many as there are jobs, each as soon as what it needs is there. A stage that fails stops
those behind it; the others go on. ``--toy`` makes all of it from made-up data in runs/toy.
"""

import argparse
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Collection, Iterable, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any

from wsdemo.errors import WsdemoError
from wsdemo.train.loop import log
from wsdemo.train.pipeline.code import PACKAGE

ROOT = PACKAGE.parent
TOY = Path("runs/toy")
CODE = "code"
"""The stage that says which code the others run."""

Graph = Mapping[str, set[str]]
"""Stage → the stages that it needs."""


def stage_graph(folder: Path) -> Graph:
    """The stages of a folder's dvc.yaml."""
    from dvc.repo import Repo

    with Repo(str(folder)) as repo:
        graph = repo.index.graph
        return {s.name: {d.name for d in graph.successors(s)} for s in graph}


def needed(graph: Graph, targets: Iterable[str]) -> Graph:
    """The part of a graph that some stages need; all of it without targets.

    Raises:
        WsdemoError: There is no such stage.
    """
    waiting, needed = list(targets) or list(graph), dict[str, set[str]]()
    while waiting:
        name = waiting.pop()
        members = [s for s in graph if s == name or s.startswith(f"{name}@")]
        if not members:
            raise WsdemoError(
                "No such stage", f"Found {name!r}.", f"There are {', '.join(sorted(graph))}."
            )
        for one in members:
            if one not in needed:
                needed[one] = set(graph[one])
                waiting += graph[one]
    return needed


def status_of(folder: Path) -> tuple[set[str], set[str]]:
    """The stages that are stale, and those of which only something in runs/ is missing.

    A clone has no runs/: what lies there is made again if a stale stage needs it, and only then.
    """
    from dvc.repo import Repo

    with Repo(str(folder)) as repo:
        status = repo.status()
    stale, lost = set[str](), set[str]()
    for address, reasons in status.items():
        name = address.rpartition("dvc.yaml:")[2]  # the rest of it is the folder, if any
        changes = [c for c in reasons if c != "always changed" and not _is_missing_data(c)]
        if changes and all(_is_lost(change) for change in changes):
            lost.add(name)
        elif changes:
            stale.add(name)
    return stale, lost


def _is_lost(change: Any) -> bool:
    """Whether what changed is that outputs in runs/ are gone, or inputs from there."""
    if not isinstance(change, dict):
        return False
    entries = [pair for each in change.values() for pair in each.items()]
    return all(how == "deleted" and Path(path).parts[0] == "runs" for path, how in entries)


def _is_missing_data(change: Any) -> bool:
    """Whether what changed is that data, which a clone has not, are gone."""
    inputs = change.get("changed deps", {}) if isinstance(change, dict) else {}
    return bool(inputs) and all(
        how == "deleted" and Path(path).parts[0] == "data" for path, how in inputs.items()
    )


def made_again(graph: Graph, stale: set[str], lost: set[str]) -> set[str]:
    """Stages whose lost outputs something needs that is stale, or may become so."""
    order = list(TopologicalSorter(graph).static_order())
    runs = set(stale)
    for name in order:
        if graph[name] & runs:
            runs.add(name)
    again: set[str] = set()
    for name in reversed(order):
        if name in runs | again:
            again |= graph[name] & lost
    return again - stale


def toy_folder(folder: Path) -> None:
    """Writes the pipeline with the toy's parameters to a folder of its own."""
    (folder / ".dvc").mkdir(parents=True, exist_ok=True)
    shutil.copy(ROOT / ".dvc" / "config", folder / ".dvc" / "config")
    shutil.copy(ROOT / "dvc.yaml", folder / "dvc.yaml")
    shutil.copy(ROOT / "params-toy.yaml", folder / "params.yaml")
    note = "The toy's data are made up by the recipes themselves: toy_faces, toy_shapes and others."
    (folder / "toy.txt").write_text(note + "\n")


def link_data(data: Path | None) -> None:
    """Makes ``data`` the folder of data.

    Raises:
        WsdemoError: There is no such folder, or ``data`` is another one already.
    """
    link = Path("data")
    if data is None or (link.exists() and link.resolve() == data.resolve()):
        return
    if not data.is_dir():
        raise WsdemoError("No data", f"{data} is no folder.", "Give DATA=FOLDER.")
    if link.is_symlink():
        link.unlink()
    elif link.exists():
        raise WsdemoError("Data is there already", "data is a folder.", "Move it, or leave DATA.")
    link.symlink_to(data.resolve())


def run_stage(name: str, folder: Path, environment: Mapping[str, str], again: bool) -> int:
    """Runs a stage if it is stale; its output goes to runs/logs. Returns the status.

    Args:
        name: The stage.
        folder: With dvc.yaml.
        environment: Of the recipe.
        again: Whether it is stale too if its outputs are missing.
    """
    path = folder / "runs" / "logs" / f"{name}.log"
    path.parent.mkdir(parents=True, exist_ok=True)
    options = ["--single-item", *([] if again else ["--allow-missing"])]
    command = [sys.executable, "-m", "dvc", "--wait-for-lock", "repro", *options, name]
    began = time.monotonic()
    with path.open("w") as out:
        status = subprocess.run(
            command, cwd=folder, env=environment, stdout=out, stderr=subprocess.STDOUT
        ).returncode
    lines = path.read_text(errors="replace").splitlines()
    did_run = any(line.startswith("Running stage") for line in lines)
    took = f"{time.monotonic() - began:.0f} s"
    if status:
        log(f"{name}: FAILED after {took}; {path}:\n  " + "\n  ".join(lines[-12:]))
    else:
        log(f"{name}: made in {took}" if did_run else f"{name}: up to date")
    return status


def run_all(
    graph: Graph, folder: Path, jobs: int, environment: Mapping[str, str], again: Collection[str]
) -> tuple[list[str], list[str]]:
    """Runs stages as soon as what they need is there; those of ``again`` if outputs are missing.

    Returns:
        The stages that failed, and those that were not tried because of them.
    """
    order = TopologicalSorter(graph)
    order.prepare()
    failed: list[str] = []
    behind: list[str] = []
    running: dict[Future[int], str] = {}
    with ThreadPoolExecutor(jobs) as pool:
        while order.is_active():
            for name in order.get_ready():
                if graph[name] & {*failed, *behind}:
                    behind.append(name)
                    order.done(name)
                else:
                    one = pool.submit(run_stage, name, folder, environment, name in again)
                    running[one] = name
            if running:
                for one in wait(running, return_when=FIRST_COMPLETED).done:
                    name = running.pop(one)
                    if one.result():
                        failed.append(name)
                    order.done(name)
    return failed, behind


def environment_of(folder: Path) -> dict[str, str]:
    """What stages find in their environment: this code, and their checkpoints."""
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(paths),
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]),
        "WSDEMO_CHECKPOINTS": str((folder / "checkpoints").resolve()),
        "DVC_NO_ANALYTICS": "true",
    }


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("stages", nargs="*", help="only these and what they need; default: all")
    parser.add_argument("--data", type=Path, default=None, help="folder of data")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="stages at a time")
    parser.add_argument("--toy", action="store_true", help="from made-up data, in a folder")
    parser.add_argument("--folder", type=Path, default=TOY, help="of the toy")
    args = parser.parse_args(arguments)
    began, folder = time.monotonic(), args.folder if args.toy else Path()
    try:
        if args.toy:
            toy_folder(folder)
        else:
            link_data(args.data)
        graph = needed(stage_graph(folder), args.stages)
    except WsdemoError as error:
        log(f"{error}\n{error.hint}")
        return 2
    log(f"{len(graph)} stages, {args.jobs} at a time; logs in {folder / 'runs/logs'}")
    environment = environment_of(folder)
    failed, behind = run_all({CODE: graph[CODE]}, folder, 1, environment, [CODE])
    if not failed:
        again = made_again(graph, *status_of(folder))
        rest = {name: needs - {CODE} for name, needs in graph.items() if name != CODE}
        failed, behind = run_all(rest, folder, args.jobs, environment, again)
    done = len(graph) - len(failed) - len(behind)
    log(f"{done} of {len(graph)} stages are up to date after {time.monotonic() - began:.0f} s")
    if failed:
        log(f"failed: {', '.join(failed)}; not tried: {', '.join(behind) or 'none'}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
