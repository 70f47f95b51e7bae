"""Runs one recipe as a stage of dvc.yaml: ``python -m wsdemo.train.pipeline.stage RECIPE …``.

A recipe that was killed goes on from what it left in runs/. That is right only for the same data,
code and parameters: this notes what the stage depends on before the recipe starts, and if that
was something else the last time, moves what was left there to runs/earlier/. So a checkpoint is
made by what dvc.lock says, and by nothing before it.
"""

import json
import os
import runpy
import shutil
import sys
from pathlib import Path
from typing import Any

from wsdemo.errors import WsdemoError
from wsdemo.files import write_whole
from wsdemo.train.loop import log
from wsdemo.train.pipeline.code import listing

RUNS = Path("runs")


def dependencies(stage: Any) -> dict[str, Any]:
    """The command, the parameters, and the hash of every file and folder that a stage reads."""
    known: dict[str, Any] = {"command": stage.cmd}
    for one in stage.deps:
        if not one.exists:
            raise WsdemoError(
                "A stage lacks what it reads",
                f"{stage.name} reads {one.def_path}, which is not there.",
                "See CONTRIBUTING.md for how DATA is laid out.",
            )
        known[one.def_path] = one.get_hash().value
    return known


def left_behind(stage: Any) -> list[Path]:
    """What an earlier attempt may have left: outputs in runs/, and the state that meta names."""
    outputs = [Path(out.def_path) for out in stage.outs]
    state = [Path(path) for path in (stage.meta or {}).get("state", [])]
    return [p for p in (*outputs, *state) if p.parts[0] == str(RUNS) and p.exists()]


def begin(name: str, known: dict[str, Any], left: list[Path]) -> None:
    """Keeps what is left of an attempt that depended on the same, and moves away anything else."""
    note = RUNS / "stages" / f"{name}.json"
    before = json.loads(note.read_text()) if note.is_file() else None
    if before != known:
        for path in left:
            place = RUNS / "earlier" / name / path.relative_to(RUNS)
            log(f"{name}: {path} was made from something else; moved to {place}")
            shutil.rmtree(place, ignore_errors=True)
            place.unlink(missing_ok=True)
            place.parent.mkdir(parents=True, exist_ok=True)
            path.rename(place)
    write_whole(note, json.dumps(known, indent=1, sort_keys=True))


def check_code(recipe: str, folder: Path) -> None:
    """Refuses to run other code than dvc.lock will name.

    Raises:
        WsdemoError: It was changed after the stage ``code`` had run.
    """
    path = folder / f"{recipe.removeprefix('wsdemo.train.')}.txt"
    if not path.is_file() or path.read_text() != listing(recipe):
        raise WsdemoError(
            "The code has changed",
            f"{recipe} is not what {path} says it was when the pipeline began.",
            "Start the pipeline again.",
        )


def main() -> None:
    recipe, *options = sys.argv[1:]
    if "DVC_STAGE" in os.environ:
        from dvc.repo import Repo

        stage = Repo(os.environ["DVC_ROOT"]).stage.load_one(name=os.environ["DVC_STAGE"])
        check_code(recipe, RUNS / "code")
        begin(stage.name, dependencies(stage), left_behind(stage))
    sys.argv = [recipe, *options]
    runpy.run_module(recipe, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
