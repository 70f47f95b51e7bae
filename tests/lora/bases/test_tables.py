"""The tables of base models: no contradictions, every spelling leads back, and they are true.

Truth is what diffusers builds, and what its converters of original checkpoints do with the rows.
"""

import warnings

import pytest
import torch

from wsdemo.lora.bases.spelled import spelled
from wsdemo.lora.bases.tables import Piece, all_tables, bases, flattened, parse_table

warnings.filterwarnings("ignore")
TABLES = all_tables()


@pytest.mark.parametrize("key", TABLES)
def test_every_spelling_leads_to_one_canonical_name(key):
    base = TABLES[key]
    assert base.source["facts"]
    for spelling in base.spellings:
        for name, pieces in base.namings[spelling.naming].items():
            full = name.replace("{n}", "3").replace("{m}", "5")
            own = spelled(spelling.of(full))
            entry = base.find(own.flat) or base.find(flattened(full))
            assert entry is not None, spelling.of(full)
            assert [p.module.replace("{n}", "3").replace("{m}", "5") for p in pieces] == [
                p.module for p in entry.pieces
            ]
            if own.prefix == spelling.prefix.removeprefix("base_model.model."):
                assert spelling.naming in entry.namings


@pytest.mark.parametrize("key", [b.key for b in bases() if not b.is_open])
def test_a_spelling_holds_every_row_once(key):
    base = TABLES[key]
    for naming, names in base.namings.items():
        rows: dict[str, list[tuple[int, int]]] = {}
        for pieces in names.values():
            for piece in pieces:
                rows.setdefault(piece.module, []).append((piece.index, piece.count))
        for module, found in rows.items():
            assert sorted(found) == [(i, found[0][1]) for i in range(found[0][1])], module
        if naming != "xlabs":
            assert rows.keys() == base.shapes.keys()


def test_two_bases_are_never_the_same_table():
    for part in ("words",):
        seen: dict[str, str] = {}
        for base in bases():
            for word in getattr(base, part):
                assert seen.setdefault(word, base.family) == base.family, word


BAD = {
    "two rules for one name": '"a.{n}.x" = "b.{n}.y"\n"a.{n}.{*}" = "b.{n}.{*}"',
    "two meanings": '"b.0.y" = ["b.0.x", "b.0.y"]\n"c.{n}.y" = "b.{n}.y"',
    "fits no module": '"a.{n}.x" = "q.{n}.y"',
}


@pytest.mark.parametrize("said", BAD)
def test_tables_that_contradict_themselves_are_found(said):
    text = (
        'name = "X"\norder = 0\n[source]\nfacts = ["x"]\n[spellings]\npeft = ["{other}"]\n'
        f'[modules]\n"b.{{0-1}}.x" = [4, 4]\n"b.{{0-1}}.y" = [4, 4]\n[naming.other]\n{BAD[said]}\n'
    )
    with pytest.raises(ValueError):
        _ = parse_table("x", text).entries


MODELS = [b.key for b in bases() if "model" in b.source]


@pytest.mark.parametrize("key", MODELS)
def test_modules_and_shapes_are_those_of_the_model_itself(key, monkeypatch):
    diffusers = pytest.importorskip("diffusers")
    monkeypatch.setattr(torch.Tensor, "uniform_", lambda self, *_, **__: self)  # no weights here
    base = TABLES[key]
    if not hasattr(diffusers, base.source["model"]):
        pytest.skip("this diffusers does not have it")
    with torch.device("meta"):
        model = getattr(diffusers, base.source["model"])(**base.source["config"])
    found = {}
    for name, module in model.named_modules():
        weight = getattr(module, "weight", None)
        is_matrix = isinstance(weight, torch.Tensor) and weight.dim() > 1
        if is_matrix and not isinstance(module, torch.nn.Embedding):
            found[name] = tuple(weight.shape)
    own = {k: v for k, v in base.shapes.items() if not k.startswith("text_conditioner.")}
    assert own == found


class Loose(dict):
    """A checkpoint that has every norm and bias that a converter asks for."""

    def pop(self, key, *default):
        return super().pop(key, torch.zeros(6))

    def __missing__(self, key):
        return torch.zeros(6)


CONVERTERS = {
    "flux1": "convert_flux_transformer_checkpoint_to_diffusers",
    "chroma": "convert_chroma_transformer_checkpoint_to_diffusers",
    "sd3": "convert_sd3_transformer_checkpoint_to_diffusers",
    "sd35_large": "convert_sd3_transformer_checkpoint_to_diffusers",
    "auraflow": "convert_auraflow_transformer_checkpoint_to_diffusers",
    "hunyuan_video": "convert_hunyuan_video_transformer_to_diffusers",
    "lumina2": "convert_lumina2_to_diffusers",
    "z_image": "convert_z_image_transformer_checkpoint_to_diffusers",
    "mochi": "convert_mochi_transformer_checkpoint_to_diffusers",
    "wan21_i2v_14b": "convert_wan_transformer_to_diffusers",
    "ltx": "convert_ltx_transformer_checkpoint_to_diffusers",
    "ltx2": "convert_ltx2_transformer_to_diffusers",
    "cosmos2_2b": "convert_cosmos_transformer_checkpoint_to_diffusers",
    "krea2": "convert_krea2_transformer_checkpoint_to_diffusers",
    "sana": "convert_sana_transformer_to_diffusers",
    "flux2_klein_4b": "convert_flux2_transformer_checkpoint_to_diffusers",
}


@pytest.mark.parametrize("key", CONVERTERS)
def test_rows_go_where_diffusers_own_converter_puts_them(key):
    """Every row of the original checkpoint has a number of its own, and is found again by it."""
    utils = pytest.importorskip("diffusers.loaders.single_file_utils")
    base = TABLES[key]
    prefix = "net." if key.startswith("cosmos") else ""
    checkpoint, numbers, start = Loose(), {}, 0
    for name, pieces in base.namings["original"].items():
        rows = sum(map(base.rows, pieces))
        values = torch.arange(start, start + rows, dtype=torch.float64)
        checkpoint[f"{prefix}{name}.weight"] = values[:, None]
        numbers[name], start = values, start + rows
    if key in ("flux1", "chroma"):  # which split biases too
        checkpoint |= {f"{name}.bias": values for name, values in numbers.items()}
    found = getattr(utils, CONVERTERS[key])(checkpoint)
    found = checkpoint if found is None else found
    checked = 0
    for name, pieces in base.namings["original"].items():
        offset = 0
        for piece in pieces:
            size = base.rows(piece)
            weight = found.get(f"{piece.module}.weight")
            assert weight is not None, piece
            there = weight.flatten()[piece.index * size : (piece.index + 1) * size]
            assert torch.equal(there, numbers[name][offset : offset + size]), (name, piece)
            offset, checked = offset + size, checked + 1
    assert checked >= len(base.shapes)


def test_pieces_of_a_fused_module_are_found_by_its_flattened_name():
    entry = TABLES["flux1"].find("single_blocks_7_linear1")
    assert entry is not None
    assert entry.pieces[-1] == Piece("single_transformer_blocks.7.proj_mlp")
    assert TABLES["flux1"].shape(entry) == (21504, 3072)
    swapped = TABLES["flux1"].find("final_layer_adaln_modulation_1")
    assert swapped is not None
    assert [p.index for p in swapped.pieces] == [1, 0]
