"""The pipeline of all checkpoints: complete, in order, resumable, honest about what made them."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import yaml

from wsdemo.checkpoints import load_checkpoint
from wsdemo.errors import WsdemoError
from wsdemo.train.pipeline import code, run, stage
from wsdemo.train.pipeline.run import made_again, needed, run_all, stage_graph

ROOT = Path(__file__).resolve().parent.parent.parent
PARTS = "0123456789"


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    """A folder with the toy's pipeline, of which nothing has run."""
    folder = tmp_path_factory.mktemp("toy")
    run.toy_folder(folder)
    return folder


# ---- what dvc.yaml says ------------------------------------------------------------------


def resolved(folder):
    """Every stage of a folder, as DVC reads it: name → stage."""
    from dvc.repo import Repo

    with Repo(str(folder)) as repo:
        return {one.name: one for one in repo.index.stages}


def test_every_checkpoint_has_one_stage_that_makes_it(toy):
    made = [
        Path(out.def_path).name
        for one in resolved(toy).values()
        for out in one.outs
        if out.def_path.startswith("checkpoints/")
    ]
    assert len(made) == len(set(made))
    shipped = {p.stem.rstrip(PARTS).rstrip("-") for p in (ROOT / "checkpoints").glob("*.safet*")}
    stems = {name.removesuffix(".safetensors") for name in made}
    assert {stem.rstrip(PARTS).rstrip("-") for stem in stems} == shipped


def test_stages_keep_what_is_there_and_put_nothing_into_a_cache(toy):
    for one in resolved(toy).values():
        for out in one.outs:
            assert out.persist, f"{one.name} would delete {out.def_path} before it runs"
            assert not out.use_cache


def test_every_stage_depends_on_the_code_of_its_own_recipe(toy):
    for name, one in resolved(toy).items():
        if name == "code":
            continue
        commands = one.cmd if isinstance(one.cmd, list) else [one.cmd]
        words = [command.split() for command in commands]
        recipes = {w[3] if w[2].endswith("pipeline.stage") else w[2] for w in words}
        for recipe in recipes:
            assert code.module_path(recipe) is not None, f"{name} runs {recipe}"
            listed = f"runs/code/{recipe.removeprefix('wsdemo.train.')}.txt"
            assert listed in {dep.def_path for dep in one.deps}, f"{name} lacks {listed}"


def test_what_a_stage_reads_is_given_or_made_by_another(toy):
    stages = resolved(toy)
    outputs = {out.def_path for one in stages.values() for out in one.outs}
    for name, one in stages.items():
        for dep in one.deps:
            path = Path(dep.def_path)
            is_made = any(
                path == Path(out) or Path(out) in path.parents or path in Path(out).parents
                for out in outputs
            )
            assert is_made or path.name in ("toy.txt", "params.yaml"), f"{name} reads {path}"


def keys(values, above=""):
    """Dotted names of the tables of parameters that stages are given."""
    found = set()
    for key, value in values.items():
        name = f"{above}{key}"
        inner = [v for v in value.values() if isinstance(v, dict)] if isinstance(value, dict) else 0
        found |= keys(value, f"{name}.") if inner else {name}
    return found


def test_in_the_toy_what_is_given_data_makes_its_own(toy):
    """toy.txt holds no faces: a recipe that is not told --toy would try to read it."""
    for name, one in resolved(toy).items():
        commands = one.cmd if isinstance(one.cmd, list) else [one.cmd]
        for command in commands:
            assert "toy.txt" not in command or "--toy" in command, f"{name}: {command}"


def test_the_toy_has_the_same_parameters():
    real, made_up = (
        yaml.safe_load((ROOT / name).read_text()) for name in ("params.yaml", "params-toy.yaml")
    )
    assert keys(real) == keys(made_up)


# ---- which code ---------------------------------------------------------------------------


def test_code_is_named_with_all_that_it_imports_and_only_that():
    listed = code.listing("wsdemo.train.faces.base")
    modules = {line.split()[1] for line in listed.splitlines()}
    assert {"wsdemo.train.autodecoder", "wsdemo.fields.encoder", "wsdemo.errors"} <= modules
    assert not any(name.startswith(("wsdemo.ui", "wsdemo.lol", "wsdemo.cli")) for name in modules)


def test_sentences_change_no_digest_and_statements_do(tmp_path):
    texts = {
        "plain": "X = 1\n\n\ndef f(a):\n    return a\n",
        "described": '"""A module."""\n\nX = 1  # one\n"""One."""\n\n\ndef f(a):\n'
        '    """Says a."""\n    return a\n',
        "changed": "X = 1\n\n\ndef f(a):\n    return a + 1\n",
        "empty": 'def f(a):\n    """Nothing."""\n',
    }
    digests = {}
    for name, text in texts.items():
        (tmp_path / f"{name}.py").write_text(text)
        digests[name] = code.digest(tmp_path / f"{name}.py")
    assert digests["plain"] == digests["described"]
    assert len(set(digests.values())) == 3


# ---- resuming -----------------------------------------------------------------------------


def test_a_stage_goes_on_with_its_own_state_and_never_with_another_ones(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    state, fits = Path("runs/x.pt"), Path("runs/fits/train")
    known = {"command": "x --minutes 1", "data": "a1"}
    fits.mkdir(parents=True)
    state.write_text("of unknown origin")
    stage.begin("x", known, [state, fits])
    assert not state.exists()
    assert not fits.exists()
    assert Path("runs/earlier/x/x.pt").read_text() == "of unknown origin"
    state.write_text("half of a run")
    stage.begin("x", known, [state])  # the same again, after a kill
    assert state.read_text() == "half of a run"
    stage.begin("x", known | {"data": "b2"}, [state])
    assert not state.exists()
    assert Path("runs/earlier/x/x.pt").read_text() == "half of a run"


# ---- the order ----------------------------------------------------------------------------

GRAPH = {"a": set(), "b": {"a"}, "c": {"a"}, "d": {"b", "c"}, "e": set()}


def test_stages_run_side_by_side_and_after_what_they_need(tmp_path, monkeypatch):
    order, together = [], threading.Barrier(2, timeout=20)

    def fake(name, *_):
        if name in "bc":
            together.wait()  # neither ends before the other has begun
        order.append(name)
        return 0

    monkeypatch.setattr(run, "run_stage", fake)
    assert run_all(GRAPH, tmp_path, 2, {}, ()) == ([], [])
    assert sorted(order) == list("abcde")
    assert order.index("a") < min(order.index("b"), order.index("c"))
    assert order.index("d") > max(order.index("b"), order.index("c"))


def test_a_failure_stops_those_behind_it_and_nothing_else(tmp_path, monkeypatch):
    order = []

    def fake(name, *_):
        order.append(name)
        return int(name == "b")

    monkeypatch.setattr(run, "run_stage", fake)
    assert run_all(GRAPH, tmp_path, 1, {}, ()) == (["b"], ["d"])
    assert sorted(order) == list("abce")


def test_targets_bring_what_they_need(toy):
    graph = stage_graph(toy)
    some = needed(graph, ["faces-diffusion"])
    assert {"code", "faces-base", "faces-fit@train", "faces-diffusion"} <= set(some)
    assert not any(name.startswith(("set-", "lol-")) for name in some)
    assert set(needed(graph, ["set-base"])) >= {"set-base@airplane", "set-base@shapes"}
    assert needed(graph, []) == graph
    with pytest.raises(WsdemoError, match="'faces'"):
        needed(graph, ["faces"])


def test_what_a_clone_lacks_is_made_again_only_where_it_is_needed():
    lost = {"a", "b"}
    assert made_again(GRAPH, set(), lost) == set()
    assert made_again(GRAPH, {"e"}, lost) == set()
    assert made_again(GRAPH, {"c"}, lost) == {"a", "b"}  # d reads b, and may change with c
    assert made_again(GRAPH, {"d"}, {"b"}) == {"b"}


def test_a_missing_folder_of_data_is_refused(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert run.main(["--data", str(tmp_path / "none")]) == 2
    assert "No data" in capsys.readouterr().err


# ---- all together --------------------------------------------------------------------------


def pipeline(folder, *stages):
    """Runs the toy's pipeline in a process; returns what it said."""
    command = [sys.executable, "-m", "wsdemo.train.pipeline.run", "--toy", "--folder", str(folder)]
    done = subprocess.run(
        [*command, "--jobs", "2", *stages],
        cwd=ROOT, env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stderr


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_some_stages_make_their_checkpoints_once_and_the_lock_says_from_what(toy):
    """Five stages of 42; CONTRIBUTING.md has the command that runs all of them."""
    said = pipeline(toy, "faces-fit@train", "smollm2-texts")
    assert "faces-base: made in" in said
    assert load_checkpoint(toy / "checkpoints/faces-base.safetensors")[1]["toy"]
    locked = yaml.safe_load((toy / "dvc.lock").read_text())["stages"]
    assert set(locked) == {"code", "faces-base", "faces-fit@train", "smollm2-texts"}
    base = locked["faces-base"]
    deps = {dep["path"] for dep in base["deps"] if len(dep["md5"]) >= 32}
    assert deps == {"toy.txt", "runs/code/faces.base.txt"}
    toys = yaml.safe_load((ROOT / "params-toy.yaml").read_text())
    assert base["params"]["params.yaml"]["faces.base"] == toys["faces"]["base"]
    made = {out["path"]: out["md5"] for out in base["outs"]}
    fit = {dep["path"]: dep["md5"] for dep in locked["faces-fit@train"]["deps"]}
    for name in ("checkpoints/faces-base.safetensors", "checkpoints/faces-encoder.safetensors"):
        assert fit[name] == made[name]
    assert not (ROOT / "checkpoints/toy.txt").exists()

    again = pipeline(toy, "faces-fit@train")
    assert "faces-base: up to date" in again
    assert "faces-fit@train: up to date" in again
