"""A library of LoRAs: built, resumed, queried, and what holds the same in it."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from wsdemo.cli.main import main
from wsdemo.errors import WsdemoError
from wsdemo.library import build as building
from wsdemo.library import members, table
from wsdemo.library.build import build
from wsdemo.library.duplicates import duplicates
from wsdemo.library.query import find, like, positions, sketches
from wsdemo.library.sketch import sketch
from wsdemo.lora.arithmetic import Size, regauge, resize
from wsdemo.lora.merging import merge
from wsdemo.lora.reader import read_lora
from wsdemo.lora.writing import save_lora

NAMES = [f"model.layers.{i}.self_attn.{p}_proj" for i in range(6) for p in "qkv"]
SIDE = 48


def lora(path, seed, rank=4, names=NAMES, dtype=torch.float32):
    g = torch.Generator().manual_seed(seed)
    tensors = {}
    for name in names:
        # Singular values that fall, so that a cut keeps most.
        fall = 0.3 ** torch.arange(rank)
        tensors[f"base_model.model.{name}.lora_A.weight"] = torch.randn(rank, SIDE, generator=g)
        up = torch.randn(SIDE, rank, generator=g) * fall
        tensors[f"base_model.model.{name}.lora_B.weight"] = up
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({k: v.to(dtype).contiguous() for k, v in tensors.items()}, path)
    path.with_name(f"{path.stem}.json")
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Twelve unrelated LoRAs, and one of each kind of copy of the first three."""
    root = tmp_path_factory.mktemp("loras")
    for i in range(12):
        lora(root / f"plain-{i:02d}.safetensors", i)
    first, second = (read_lora(root / f"plain-{i:02d}.safetensors") for i in (0, 1))
    (root / "copy.safetensors").write_bytes((root / "plain-02.safetensors").read_bytes())
    save_lora(regauge(first, 3), root / "regauged.safetensors", "kohya")
    lora(root / "half.safetensors", 3, dtype=torch.float16)
    save_lora(merge([second], [-0.4]), root / "rescaled.safetensors", "kohya")
    save_lora(resize(read_lora(root / "plain-04.safetensors"), Size(1.0, 2))[0],
              root / "shrunk.safetensors", "kohya")  # fmt: skip
    parts = [read_lora(root / f"plain-{i:02d}.safetensors") for i in (5, 6)]
    save_lora(merge(parts, [0.7, 0.5]), root / "merged.safetensors", "kohya")
    (root / "broken.safetensors").write_bytes(b"<html>not found</html>")
    return root


@pytest.fixture(scope="module")
def library(folder, tmp_path_factory):
    out = tmp_path_factory.mktemp("library") / "lib"
    done = build(folder, out, lambda text: None)
    assert (done.read, done.failed) == (19, 1)
    return out


def test_a_sketch_is_linear_and_does_not_see_the_factors(folder):
    a, b = (read_lora(folder / f"plain-{i:02d}.safetensors") for i in (0, 1))
    sa, sb = sketch(a), sketch(b)
    np.testing.assert_allclose(sketch(regauge(a, 1)), sa, rtol=1e-3, atol=1e-4)
    together = sketch(merge([a, b], [0.5, -2.0]))
    np.testing.assert_allclose(together, 0.5 * sa - 2 * sb, rtol=1e-3, atol=1e-3)
    norm = sum(float((m.U.T @ m.U * (m.V.T @ m.V)).sum()) for m in a.modules) ** 0.5
    assert np.linalg.norm(sa) == pytest.approx(norm, rel=0.15)
    assert abs(sa @ sb) < 0.15 * np.linalg.norm(sa) * np.linalg.norm(sb)


def test_a_refused_file_is_a_row_that_says_why(library):
    (row,) = find(library, "error <> ''")
    assert row["file"] == "broken.safetensors"
    assert "web page" in row["error"]
    (row,) = find(library, "file = 'plain-00.safetensors'")
    assert (row["modules"], row["rank"], row["exact"]) == (18, 4, False)  # no α: assumed


def test_every_planted_duplicate_is_found_and_nothing_else(library):
    found = {(g.kind, g.files) for g in duplicates(library)}
    assert found == {
        ("same file", ("copy.safetensors", "plain-02.safetensors")),
        ("same update", ("plain-00.safetensors", "regauged.safetensors")),
        ("same update", ("half.safetensors", "plain-03.safetensors")),
        ("rescaled", ("plain-01.safetensors", "rescaled.safetensors")),
        ("shrunk", ("plain-04.safetensors", "shrunk.safetensors")),
        ("merge", ("merged.safetensors", "plain-05.safetensors", "plain-06.safetensors")),
    }
    (merged,) = (g for g in duplicates(library) if g.kind == "merge")
    assert merged.factors == pytest.approx((0.7, 0.5), abs=0.01)
    (scaled,) = (g for g in duplicates(library) if g.kind == "rescaled")
    assert scaled.factors == pytest.approx((-0.4,), abs=0.01)


def test_the_most_alike_comes_first(library, folder):
    names = [name for name, _ in like(library, folder / "merged.safetensors", 3)]
    assert names == ["merged.safetensors", "plain-05.safetensors", "plain-06.safetensors"]
    assert len(positions(library)) == len(sketches(library).files) == 18


def test_only_what_is_new_or_changed_is_read_again(tmp_path):
    root, out = tmp_path / "loras", tmp_path / "lib"
    for i in range(3):
        lora(root / f"{i}.safetensors", i)
    assert build(root, out, print).read == 3
    again = build(root, out, print)
    assert (again.read, again.kept) == (0, 3)
    lora(root / "1.safetensors", 77)
    assert build(root, out, print).read == 1
    assert len(find(out, "true")) == 3
    assert len(table.parts(out)) == 2


def test_a_build_that_is_killed_goes_on_where_it_was(tmp_path, monkeypatch):
    root, out = tmp_path / "loras", tmp_path / "lib"
    for i in range(5):
        lora(root / f"{i}.safetensors", i, names=NAMES[:2])
    monkeypatch.setattr(building, "ROWS_A_PART", 2)
    original = members.row_of

    def dies(path, name, predictors):
        if name.startswith("4"):
            raise KeyboardInterrupt
        return original(path, name, predictors)

    monkeypatch.setattr(members, "row_of", dies)
    with pytest.raises(KeyboardInterrupt):
        build(root, out, print)
    assert len(find(out, "true")) == 4
    monkeypatch.setattr(members, "row_of", original)
    assert build(root, out, print).read == 1
    assert len(find(out, "true")) == 5


def test_two_workers_read_the_same_as_one(folder, library, tmp_path):
    done = build(folder, tmp_path / "lib", print, workers=2)
    assert done.read == 19
    one, two = sketches(library), sketches(tmp_path / "lib")
    assert one.files == two.files
    np.testing.assert_array_equal(one.vectors, two.vectors)


def test_a_library_that_another_process_builds_is_refused(tmp_path):
    root, out = tmp_path / "loras", tmp_path / "lib"
    lora(root / "0.safetensors", 0)
    out.mkdir()
    with table.building(out), pytest.raises(WsdemoError, match="Another process is building"):
        build(root, out, print)


def test_a_refusal_leaves_no_folder_and_says_what_stands_there(folder, tmp_path):
    with pytest.raises(WsdemoError, match="Nothing there"):
        building.build(tmp_path / "none", tmp_path / "library", print)
    (tmp_path / "empty").mkdir()
    with pytest.raises(WsdemoError, match="No LoRAs"):
        building.build(tmp_path / "empty", tmp_path / "library", print)
    assert not (tmp_path / "library").exists()
    (tmp_path / "file").touch()
    with pytest.raises(WsdemoError, match="is a file"):
        building.build(folder, tmp_path / "file", print)


@pytest.mark.parametrize(
    "condition",
    [
        "true); DROP TABLE loras; SELECT (true",
        "file IN (SELECT content FROM read_text('/etc/passwd'))",
        "EXISTS (SELECT * FROM read_csv('/etc/passwd'))",
        "true); COPY loras TO '/tmp/stolen.csv'; SELECT * FROM loras WHERE (true",
        "no_such_column = 1",
        "",
    ],
)
def test_a_condition_reaches_no_file_and_changes_nothing(library, condition):
    with pytest.raises(WsdemoError):
        find(library, condition)
    assert len(find(library, "true")) == 19


def test_a_list_of_paths_is_a_source_and_nothing_is_refused(tmp_path):
    lora(tmp_path / "a.safetensors", 0, names=NAMES[:2])
    listed = tmp_path / "list.txt"
    listed.write_text("# mine\na.safetensors\nmissing.safetensors\n")
    done = build(listed, tmp_path / "lib", print)
    assert (done.read, done.failed) == (2, 1)
    assert "not accessible" in find(tmp_path / "lib", "error <> ''")[0]["error"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(WsdemoError, match=r"holds no \.safetensors"):
        build(tmp_path / "empty", tmp_path / "other", print)
    with pytest.raises(WsdemoError, match=r"holds no part"):
        find(tmp_path / "other", "true")


def test_the_command_line_builds_and_asks(folder, tmp_path, capsys):
    out = str(tmp_path / "lib")
    assert main(["library", "build", str(folder), "--out", out, "--json"]) == 0
    built = json.loads(capsys.readouterr().out)
    assert (built["read"], built["failed"]) == (19, 1)
    assert main(["library", "find", "rank = 2", "--library", out, "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)["loras"]
    assert row["file"] == "shrunk.safetensors"
    assert main(["library", "duplicates", out, "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["groups"]) == 6
    first = str(folder / "plain-00.safetensors")
    assert main(["library", "like", first, "--library", out, "-k", "2", "--json"]) == 0
    near = json.loads(capsys.readouterr().out)["neighbours"]
    assert {n["file"] for n in near} == {"plain-00.safetensors", "regauged.safetensors"}
    assert main(["library", "find", "rank =", "--library", out, "--json"]) == 2
    assert "Condition not understood" in capsys.readouterr().out
