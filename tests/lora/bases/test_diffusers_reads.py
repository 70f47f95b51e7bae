"""diffusers' own loaders, on a model of each architecture: ΔW, what is lost, what is exported.

The models have the real widths, two blocks of each kind, and weights that take no memory.
"""

import dataclasses
import math

import pytest
import torch
from safetensors.torch import load_file

from tests.lora.files import write
from wsdemo.lora.bases.canonical import by_table, spelled_for
from wsdemo.lora.bases.readers import Rule, loader_of, rules
from wsdemo.lora.bases.tables import Spelling, all_tables, bases, numberless
from wsdemo.lora.export import export
from wsdemo.lora.loads import loads_in
from wsdemo.lora.modules import BaseModel, Lora
from wsdemo.lora.programs.diffusers import in_diffusers
from wsdemo.lora.reader import read_lora

diffusers = pytest.importorskip("diffusers")
peft = pytest.importorskip("peft")
models = pytest.importorskip("benchmarks.diffusers_models")
reads = pytest.importorskip("benchmarks.diffusers_reads")
encoders = pytest.importorskip("benchmarks.diffusers_encoders")
TABLES = all_tables()
ALL = [b.key for b in bases() if "model" in b.source]
ONE_EACH = [b.key for b in reads.representatives()]
CLOSE = 1e-5


def known(lora, key):
    """A LoRA whose base is said: some have the same kinds of modules."""
    return dataclasses.replace(lora, base=BaseModel("", candidates=(key,), sizes_fit=True))


def canonical_of(keys, lora, base):
    """What the modules that keys belong to update, by canonical names."""
    keys = set(keys)
    modules = tuple(m for m in lora.modules if keys & set(m.keys))
    assert keys == {k for m in modules for k in m.keys}
    return without_part(dataclasses.replace(lora, modules=modules), base).keys()


def without_part(lora, base):
    return {n.removeprefix("model."): m for n, m in by_table(lora, base).items()}


def attention(modules):
    return {n: m for n, m in modules.items() if "attn" in n or "attention" in n}


@pytest.mark.parametrize("key", ONE_EACH)
def test_what_is_read_and_what_is_lost_are_what_is_said(key, tmp_path):
    base = TABLES[key]
    modules = models.one_a_kind(base, models.build(base), seed=1)
    assert rules(base) or not hasattr(models.build(base), "load_lora_adapter")
    for rule in rules(base):
        spelling = Spelling("diffusers", rule.prefix, rule.naming)
        form = sorted(rule.forms)[-1]
        is_small = form.startswith("lokr") or form == "processors"
        own = attention(modules) if is_small else modules
        check(base, {n: m for n, m in own.items() if numberless(n) not in rule.refused},
              spelling, form, tmp_path)  # fmt: skip
        if rule.refused:
            check(base, own, spelling, form, tmp_path)


def check(base, modules, spelling, form, folder):
    """Reads a file by diffusers and here, and compares all that is said of it."""
    named, _ = spelled_for(modules, base, spelling)
    path = write(folder / "x.safetensors", models.tensors_of(named, form))
    lora = known(read_lora(path), base.key)
    said = loads_in(lora)["diffusers"]
    model = models.build(base)
    try:
        models.loader(base, model)(load_file(path))
    except Exception:
        assert (said.ok, said.strength) == (False, None)
        return
    there = models.applied(model)
    ours = without_part(lora, base)
    read = []
    for name, module in ours.items():
        if form.startswith("lokr"):
            is_same = name in there
        else:
            is_same = name in there and models.apart((module.U, module.V), there[name]) < CLOSE
        read += [name] if is_same else []
    assert canonical_of(said.lost, lora, base) == ours.keys() - set(read), (spelling, form)
    assert said.ok is (len(read) == len(ours))
    assert said.strength == (pytest.approx(1) if read else None)


@pytest.mark.parametrize("key", ONE_EACH)
def test_other_spellings_are_not_read(key, tmp_path):
    base = TABLES[key]
    modules = attention(models.one_a_kind(base, models.build(base)))
    seen = {(r.prefix, r.naming) for r in rules(base)}
    for spelling in base.spellings:
        if (spelling.prefix, spelling.naming) not in seen:
            seen.add((spelling.prefix, spelling.naming))
            form = "down up alpha" if spelling.is_flat else "A B"
            check(base, modules, spelling, form, tmp_path)


@pytest.mark.parametrize("key", ALL)
def test_what_is_exported_is_applied(key, tmp_path):
    """With another rank in one module, so that ranks and α are written for each."""
    base = TABLES[key]
    modules = attention(models.one_a_kind(base, models.build(base), seed=2))
    first = next(iter(modules))
    modules[first] = dataclasses.replace(
        modules[first], U=modules[first].U[:, :1], V=modules[first].V[:, :1], stored_rank=1
    )
    own = tuple(dataclasses.replace(m, name=f"{base.component}.{n}") for n, m in modules.items())
    lora = known(Lora("diffusers", own, BaseModel(""), (), {}, 0, (), ()), key)
    for program in ("diffusers", "peft"):
        out = tmp_path / program / "adapter_model.safetensors"
        out.parent.mkdir()
        export(lora, program, out, "float32")
        model = models.build(base)
        if program == "diffusers" and not hasattr(model, "load_lora_adapter"):
            continue  # its pipeline takes no LoRAs but through PEFT
        if program == "peft":
            peft.PeftModel.from_pretrained(model, out.parent, low_cpu_mem_usage=True)
            said = loads_in(known(read_lora(out), key))["peft"]
            assert {n for n, m in model.named_modules()
                    if hasattr(m, "lora_A")} == modules.keys()  # fmt: skip
        else:
            models.loader(base, model)(str(out))
            said = in_diffusers(known(read_lora(out), key), base)
        there = models.applied(model)
        assert there.keys() == modules.keys()
        for name, module in modules.items():
            assert models.apart((module.U, module.V), there[name]) < CLOSE, (program, name)
        assert (said.ok, said.strength) == (True, pytest.approx(1)), said


def test_the_scale_that_is_not_read_is_the_ratio_of_the_applied_norm(tmp_path):
    """A configuration beside the file says α, which diffusers does not look at."""
    base = TABLES["flux1"]
    name = "transformer.single_transformer_blocks.0.attn.to_q"
    modules = models.one_a_kind(base, models.build(base))
    module = modules["single_transformer_blocks.0.attn.to_q"]
    tensors = models.tensors_of({name: module}, "A B")
    path = write(tmp_path / "adapter_model.safetensors", tensors)
    (tmp_path / "adapter_config.json").write_text('{"peft_type": "LORA", "r": 2, "lora_alpha": 8}')
    lora = read_lora(path)
    model = models.build(base)
    models.loader(base, model)(load_file(path))
    (pair,) = models.applied(model).values()

    def norm(U, V):
        return math.sqrt(float(((U.T @ U) * (V.T @ V)).sum()))

    ours = lora.modules[0]
    found = loads_in(lora)["diffusers"]
    assert found.strength == pytest.approx(norm(*pair) / norm(ours.U, ours.V), rel=1e-5)
    assert found.strength == pytest.approx(0.25)


def test_doras_magnitudes_are_dropped_and_listed(tmp_path):
    base = TABLES["flux1"]
    modules = attention(models.one_a_kind(base, models.build(base)))
    named, _ = spelled_for(modules, base, Spelling("kohya", "lora_unet_", "original"))
    tensors = models.tensors_of(named, "down up alpha")
    scales = {f"{n}.dora_scale": torch.ones(1, m.shape[1]) for n, m in named.items()}
    path = write(tmp_path / "x.safetensors", tensors | scales)
    found = loads_in(known(read_lora(path), "flux1"))["diffusers"]
    assert found.ok is False
    assert set(found.lost) == scales.keys()
    model = models.build(base)
    models.loader(base, model)(load_file(path))
    assert models.applied(model).keys() >= modules.keys()  # a fused layer has further parts


@pytest.mark.parametrize("key", ["sdxl", "sd35_medium", "qwen_image", "flux1"])
def test_a_key_without_lora_in_it_is_refused_but_by_one_loader(key, tmp_path):
    base = TABLES[key]
    spelling = Spelling("diffusers", f"{base.component}.", "canonical")
    named, _ = spelled_for(attention(models.one_a_kind(base, models.build(base))), base, spelling)
    tensors = models.tensors_of(named, "A B")
    tensors[f"{next(iter(named))}.diff_b"] = torch.ones(3)
    path = write(tmp_path / "x.safetensors", tensors)
    found = loads_in(known(read_lora(path), key))["diffusers"]
    model = models.build(base)
    try:
        models.loader(base, model)(load_file(path))
        is_loaded = True
    except ValueError:
        is_loaded = False
    assert is_loaded is (found.strength is not None)
    assert found.ok is False
    assert any(k.endswith("diff_b") for k in found.lost) or not is_loaded


def asked_of_encoders():
    """A base and how its text encoders' modules are written in its programs' own files."""
    for key in ("sdxl", "sd35_medium", "flux1"):
        for question in encoders.questions(TABLES[key]):
            is_usual = question.form == ("down up alpha" if question.prefix[-1] == "_" else "A B")
            if is_usual and question.naming == "canonical" and "prior" not in question.prefix:
                yield pytest.param(key, question, id=f"{key}-{question.prefix}{question.encoder}")


@pytest.mark.parametrize(("key", "question"), asked_of_encoders())
def test_what_text_encoders_get_is_what_is_said(key, question, tmp_path):
    base, modules = TABLES[key], encoders.of_encoder(question.encoder, seed=3)
    path = write(tmp_path / "x.safetensors", encoders.file_of(base, question, modules))
    lora = known(read_lora(path), key)
    said = loads_in(lora)["diffusers"]
    read = encoders.read_of(base, question, modules)
    if read is None:
        assert (said.ok, said.strength) == (False, None)
        return
    part = f"text_encoder_{1 + base.encoders.index(question.encoder)}."
    there = {n.removeprefix(part): m for n, m in by_table(lora, base).items() if n.startswith(part)}
    assert there.keys() == modules.keys()
    lost = {n for n, m in there.items() if set(m.keys) & set(said.lost)}
    assert lost == modules.keys() - set(read)
    assert said.ok is not bool(lost)


def test_every_architecture_of_the_tables_has_facts():
    assert {loader_of(TABLES[k]) for k in ALL} == {loader_of(TABLES[k]) for k in ONE_EACH}
    for key in ALL:
        assert all(isinstance(r, Rule) for r in rules(TABLES[key]))
        own = [r for r in rules(TABLES[key]) if r.prefix == f"{TABLES[key].component}."]
        assert own or not hasattr(
            getattr(diffusers, TABLES[key].source["model"]), "load_lora_adapter"
        )
