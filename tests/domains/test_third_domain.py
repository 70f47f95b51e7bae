"""A third domain, made here in one file: rows of numbers as fields over a line.

It is trained by the recipes' own functions, and fitted, sampled, saved, decoded, walked and mapped
through the same code, the same commands and the same tabs as faces and shapes.
"""

import dataclasses
import io
import json
import math
from pathlib import Path

import gradio as gr
import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from wsdemo.checkpoints import save_checkpoint
from wsdemo.cli.main import main
from wsdemo.domains.domain import (
    Domain,
    FitOptions,
    Labels,
    Mapped,
    Measure,
    Option,
    Original,
    Signal,
    Walking,
)
from wsdemo.domains.instances import decode_one, open_instance
from wsdemo.domains.models import diffusion_of
from wsdemo.domains.registry import DOMAINS
from wsdemo.errors import WsdemoError
from wsdemo.fields.base import FieldConfig
from wsdemo.fields.fit import FitConfig
from wsdemo.maps.clusters import cluster_figures
from wsdemo.maps.place import place
from wsdemo.maps.weight_map import OWN, point_instance, weight_map
from wsdemo.train.autodecoder import Phase, train_base
from wsdemo.train.loop import recipe_parser
from wsdemo.train.maps import MapData, write_map
from wsdemo.train.population import population_parser, run_population
from wsdemo.train.release import load_model, save_neighbours
from wsdemo.train.weight_diffusion import diffusion_parser, train_diffusion
from wsdemo.ui.blocks import build_blocks
from wsdemo.ui.clusters import map_changes, map_view, map_walk, points, vary_tab
from wsdemo.ui.fields import closely, files_section, fit_tab, sample_tab

# ---- the domain ----------------------------------------------------------------------

KINDS = ("slow", "fast")
SIZE = 64


def line(points: int) -> torch.Tensor:
    """(points, 1) places in [-1, 1]."""
    return (torch.arange(points)[:, None] + 0.5) / points * 2 - 1


def open_row(domain: Domain, path: Path) -> Original:
    """A row of comma-separated numbers in [-1, 1]."""
    try:
        row = torch.from_numpy(np.loadtxt(path, delimiter=",", ndmin=1)).float()
    except ValueError as error:
        raise WsdemoError("Not a row", "Found no numbers.", "Give numbers.") from error
    return Original(row.clamp(-1, 1), (f"{len(row)} numbers.",))


def signal_of(original: Original, _: Path | None = None) -> Signal:
    row = original.value[None, None]
    inputs = torch.nn.functional.interpolate(row, SIZE, mode="linear")
    return Signal(line(row.shape[-1]), row.transpose(1, 2), inputs)


def decode(domain, instances, points=None):
    weights = torch.stack([one.weights for one in instances])
    values = instances[0].adapter.decode_points(weights, line(points or domain.size))
    return list(values[..., 0].clamp(-1, 1))


def plot(row: torch.Tensor, size: int) -> Image.Image:
    """The row as a curve."""
    picture = Image.new("RGB", (size, size), "white")
    x = np.linspace(0, size - 1, len(row))
    y = (1 - row.numpy()) / 2 * (size - 1)
    ImageDraw.Draw(picture).line(list(zip(x.tolist(), y.tolist(), strict=True)), "navy")
    return picture


def content(row: torch.Tensor, ending: str, _) -> bytes:
    buffer = io.StringIO()
    np.savetxt(buffer, row.numpy()[None], delimiter=",")
    return buffer.getvalue().encode()


def between(first, last):
    def measured(share, row):
        return {k: float((row - end).abs().mean())
                for k, end in (("to_first", first), ("to_second", last))}  # fmt: skip

    return measured


SIGNALS = Domain(
    name="signals",
    kind="row",
    title="Signals",
    one="signal",
    many="signals",
    original="row",
    holds="a row of numbers",
    intro_sample="Rows.",
    intro_fit="A row.",
    reads=(".csv",),
    writes=(".csv",),
    labels=Labels("kind", "kinds", are_exclusive=True),
    rates={"mlora": 0.03, "lora": 0.01, "mlp": 0.01},
    fitting=FitConfig(points=0, report_every=5),
    comparable=FitConfig(steps=30, points=0, learning_rate=0.02, pull=1.0),
    presets={"Quick": FitOptions(steps=30)},
    report_seconds=0.0,
    measures=(Measure("largest", "Largest error", "{:.3f}"),),
    walking=Walking(
        between, "mean difference", lambda m: min(m.values()), "Difference", {"lora": 4}
    ),
    open=open_row,
    signal=signal_of,
    grid=lambda domain: line(domain.size),
    decode=decode,
    picture=plot,
    measure=lambda row, shown: {"largest": float((row - shown).abs().max())},
    content=content,
    facts=lambda row, *_: {"points": len(row)},
    headline=lambda measured: f"largest error {measured['largest']:.3f}",
    detail=(Option("points", "Points", None, "of a row", shown=64, choices=(32, 64, 128)),),
    mapped=Mapped(landmarks=4, pixels=16),
)  # fmt: skip


# ---- its data and checkpoints ----------------------------------------------------------


class Rows:
    """Made-up waves: a recipe's training data, and a collection to fit."""

    absolute = False

    def __init__(self, count: int, seed: int) -> None:
        g = torch.Generator().manual_seed(seed)
        self.kinds = torch.arange(count) % 2
        phase, height = 6.28 * torch.rand(count, 1, generator=g), torch.rand(count, 1, generator=g)
        waves = math.pi * (0.7 + self.kinds[:, None]) * line(SIZE)[:, 0]
        self.values = (0.5 + 0.4 * height) * (waves + phase).sin()
        self.names = [f"{KINDS[k]}/{i:03d}" for i, k in enumerate(self.kinds.tolist())]

    def __len__(self) -> int:
        return len(self.values)

    def inputs(self, index):
        return self.values[index][:, None]

    def signal(self, index):
        return line(SIZE), self.values[index][..., None]

    def batch(self, index, inputs, phase, generator):
        chosen = torch.randint(SIZE, (len(index), phase.points), generator=generator)
        return line(SIZE)[chosen], inputs[:, 0].gather(1, chosen)[..., None]


def labels(names: list[str], _: str = "") -> tuple[torch.Tensor, list[str]]:
    rows = [[float(n.split("/")[0] == kind) for kind in KINDS] for n in names]
    return torch.tensor(rows).to(torch.uint8), list(KINDS)


@pytest.fixture(scope="module")
def signals(tmp_path_factory):
    """The domain with all its checkpoints, among the others."""
    root = tmp_path_factory.mktemp("signals")
    common = [f"--runs={root}/runs", f"--out={root}/out", "--toy"]
    (root / "runs").mkdir()
    (root / "out").mkdir()
    domain = dataclasses.replace(SIGNALS, folder=root / "out")
    splits = {"train": Rows(60, 0), "validation": Rows(20, 1), "test": Rows(40, 2)}
    cpu = torch.device("cpu")
    torch.manual_seed(0)
    args = recipe_parser("", 1).parse_args([*common, "--steps=300"])
    config = FieldConfig(1, 1, width=16, frequencies=8, blocks=1, fourier_scale=1.0, latent_dim=8,
                         mapping_width=16)  # fmt: skip
    phases = (Phase(1.0, 1, 16, 32, free_latents=False),)
    train_base(domain, splits["train"], config, phases, lambda _: 0.0, SIZE, args, cpu)
    for split, rows in splits.items():
        args = population_parser("", domain).parse_args([*common, f"--split={split}"])
        run_population(domain, rows, [], args, cpu)
    parser = diffusion_parser("", directions=16, width=64)
    parser.set_defaults(coordinates=True)
    args = parser.parse_args([*common, "--steps=60"])
    train_diffusion(domain, KINDS, lambda _, n: labels(n)[0], args, cpu)
    model, folder = load_model(domain, args)
    save_neighbours(domain, model, folder, args.out)
    args.compare = root / "none"
    write_map(domain, MapData(labels), args)
    save_checkpoint(domain.checkpoint("examples"), {"instances": model.draw(4, 1, steps=8)}, {})
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(DOMAINS, domain.name, domain)
        yield domain


@pytest.fixture
def row(tmp_path):
    path = tmp_path / "row.csv"
    np.savetxt(path, Rows(3, 7).values[1].numpy()[None], delimiter=",")
    return path


# ---- the same functions, commands and tabs -----------------------------------------------


def test_its_size_comes_from_its_base(signals):
    assert signals.size == SIZE
    assert diffusion_of(signals).attribute_names == KINDS


def test_commands_fit_save_decode_sample_walk_and_map_it(signals, row, tmp_path, capsys):
    def run(*arguments: object) -> dict:
        assert main([*map(str, arguments), "--json"]) == 0, capsys.readouterr()
        return json.loads(capsys.readouterr().out)

    out = tmp_path / "x.safetensors"
    fitted = run("fit", row, "--steps", 60, "--out", out)
    assert (fitted["domain"], fitted["steps"]) == ("row", 60)
    assert fitted["largest"] < 0.3
    decoded = run("decode", out, "--points", 32, "--out", tmp_path / "y.csv")
    assert decoded["points"] == 32
    shown = np.loadtxt(tmp_path / "y.csv", delimiter=",")
    original = np.loadtxt(row, delimiter=",").reshape(32, 2).mean(1)
    assert np.abs(shown - original).max() < 0.3
    run("canonical", out, "--out", tmp_path / "c.safetensors")
    assert open_instance(tmp_path / "c.safetensors", "row").is_canonical

    given = ["sample", "signals", "--kind", "fast", "--count", 2, "--steps", 8, "--out"]
    first, again = (run(*given, tmp_path / name) for name in ("a", "b"))
    for one, other in zip(first["instances"] + first["files"], again["instances"] + again["files"],
                          strict=True):  # fmt: skip
        assert Path(one).read_bytes() == Path(other).read_bytes()
    walked = run("walk", *first["instances"], "--steps", 3, "--out", tmp_path / "walk")
    assert len(walked["files"]) == 3
    assert walked["steps"][0]["to_first"] == walked["steps"][2]["to_second"] == 0

    run("fit", row, "--comparable", "--out", tmp_path / "z.safetensors")
    near = run("neighbours", tmp_path / "z.safetensors", "--count", 5)
    assert near["map"] == "signals"
    assert [n["labels"] for n in near["neighbours"]].count(["fast"]) >= 3
    assert run("clusters", "signals")["classes"] == list(KINDS)


def test_commands_refuse_what_it_does_not_have(signals, row, tmp_path, capsys):
    def refused(*arguments: object) -> str:
        assert main([*map(str, arguments), "--json"]) == 2
        return json.loads(capsys.readouterr().out)["error"]["message"]

    assert "Signals have no attributes" in refused("sample", "signals", "--attribute", "Smiling")
    assert "Found square; this model knows slow, fast" in refused(
        "sample", "signals", "--kind", "square"
    )
    assert "are not fitted from the start carried" in refused("fit", row, "--start", "carried")
    bad = tmp_path / "bad.csv"
    bad.write_text("one, two")
    assert "no numbers" in refused("fit", bad)
    face = tmp_path / "face.safetensors"
    point_instance(weight_map("faces"), 0).save(face)
    with pytest.raises(WsdemoError, match="holds a picture; expected a row of numbers"):
        open_instance(face, "row")


def test_its_map_tells_kinds_apart_and_places_what_is_fitted(signals):
    found = weight_map("signals")
    assert cluster_figures(found, OWN)["knn_accuracy"] > 0.8
    index = len(found) - 1
    assert place(found, point_instance(found, index)).neighbours[0][0] == index
    value = map_view.map_value("signals", OWN, "t-SNE", None, has_pictures=True)
    drawn = json.loads(value["points"])
    assert {len(drawn[key]) for key in ("x", "y", "c", "names")} == {100}
    assert (len(drawn["x"]), len(value["pictures"]), value["classes"]) == (100, 4, list(KINDS))


def test_the_tabs_draw_fit_and_compare_it(signals, row):
    values = {"kind": "fast", "count": 2, "seed": 3, "steps": 6, "guidance": 1.0, "temperature": 1}
    *_, (pictures, status, drawn) = sample_tab.draw(signals, values)
    assert len(pictures) == len(drawn[1]) == 2
    assert status.startswith("2 signals, seed 3")
    shown, _, _, words, file, _ = closely.inspect([signals], drawn, 0, {"points": 128})
    assert isinstance(shown, Image.Image)
    assert "Nearest training signal" in words
    drawn_again = open_instance(Path(file), "row")
    assert np.array_equal(drawn_again.weights.numpy(), drawn[1][0])
    assert len(decode_one(drawn_again, points=128)) == 128

    *_, last = fit_tab.fit(signals, {"path": str(row), "preset": "Quick"})
    fitted = dict(zip(fit_tab.OUTPUTS, last, strict=True))
    assert fitted["status"].startswith("Done: largest error")
    assert "Largest error" in fitted["facts"]
    assert len(fitted["trail"]) > 2  # its way on the map
    picture, facts, _ = files_section.open_file("row", fitted["file"], {"points": 64})
    assert isinstance(picture, Image.Image)
    assert "mlora-asym" in facts
    assert files_section.blend("row", file, fitted["file"], 0.5).size == (256, 256)
    assert len(files_section.barrier("row", file, fitted["file"])) == 18


def test_the_tab_of_maps_walks_varies_and_takes_a_fit_over(signals, row):
    *_, last = fit_tab.fit(signals, {"path": str(row), "preset": "Quick"})
    fitted = dict(zip(fit_tab.OUTPUTS, last, strict=True))
    taken = map_changes.placed_in(fitted["last"], fitted["trail"], "faces", "Male", False)
    assert taken["name"] == "signals"
    tiles, curve, _ = map_walk.walk("signals", 0, 1)
    assert len(tiles) == map_walk.STEPS
    assert "Difference to the nearer end" in curve
    varied, _, _ = vary_tab.variations(fitted["last"], 0.5, 1)
    assert len(varied.value) == map_walk.NEAR
    rows, _ = map_walk.walk_side_by_side("signals", 0, 1)
    assert len(rows) == map_walk.STEPS  # one representation
    assert "kind" in points.listed("signals", OWN, "PCA", "Male")


def test_the_page_gets_its_tabs_and_endpoints(signals):
    page = build_blocks()
    tabs = [b.label for b in page.blocks.values() if isinstance(b, gr.Tab)]
    assert {"Signals", "A row"} <= set(tabs)
    assert {"/sample_signals", "/fit_row", "/decode_signal", "/blend_signals", "/walk_signals"} <= {
        *page.get_api_info()["named_endpoints"]
    }
