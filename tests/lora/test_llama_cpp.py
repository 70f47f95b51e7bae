"""llama.cpp's names are its library's; its order of rows is turned back where the sizes say how."""

import json

import pytest

from tests.lora.files import rand, write
from wsdemo.lora.bases.recognise import recognise
from wsdemo.lora.bases.sizes import fitting
from wsdemo.lora.bases.tables import all_tables
from wsdemo.lora.comparison import compare
from wsdemo.lora.export import export
from wsdemo.lora.loads import loads_in
from wsdemo.lora.reader import read_lora

TABLES = all_tables()
LLAMA = TABLES["llama_like"]
ARCHITECTURES = {
    "llama_like": ("LLAMA", "QWEN3MOE"), "qwen3_next": ("QWEN3NEXT",), "deepseek": ("DEEPSEEK2",),
    "phi3": ("PHI3",), "phi": ("PHI2",), "gpt2": ("GPT2",), "gptj": ("GPTJ",),
    "bloom": ("BLOOM", "FALCON"), "gpt_neox": ("GPTNEOX",), "chatglm": ("CHATGLM",),
    "mpt": ("MPT",),
}  # fmt: skip


@pytest.mark.parametrize("key", ARCHITECTURES)
def test_names_are_those_of_the_library(key):
    """Of experts llama.cpp has one name for all; here the number of each follows it."""
    gguf = pytest.importorskip("gguf")
    maps = [gguf.get_tensor_name_map(getattr(gguf.MODEL_ARCH, a), 4) for a in ARCHITECTURES[key]]
    for name, (piece,) in TABLES[key].namings["gguf"].items():
        if name.startswith(("blk", "output", "token_embd")):
            ours = name.replace("{n}", "3").replace(".{m}", "")
            theirs = piece.module.replace("{n}", "3").replace(".{m}", "")
            spelled = (theirs, theirs.removeprefix("transformer."))  # which its converter drops
            found = {own.get_name(text) for own in maps for text in spelled} - {None}
            if "shared_expert." in theirs:  # Qwen2-MoE's, of which neither map tells
                found |= {ours}
            assert found == {ours}, (name, piece.module)


def model_shapes(name, layers=None):
    sizes = LLAMA.sizes[name]
    return {
        f"model.layers.{i}.{ending}": (sizes[rows], sizes[columns])
        for i in range(layers or sizes["layers"])
        for ending, (rows, columns) in LLAMA.dimensions.items()
    }


def test_a_model_is_named_by_its_sizes_only_where_all_of_them_fit():
    for name in LLAMA.sizes:
        shapes = model_shapes(name)
        assert name in fitting(LLAMA, list(shapes), shapes)
    both = model_shapes("Mistral 7B")
    assert fitting(LLAMA, list(both), both) == ("Llama 3 8B", "Mistral 7B")
    less = model_shapes("Llama 3.2 1B", layers=15)
    assert fitting(LLAMA, list(less), less) == ()
    other = model_shapes("Llama 3.2 1B") | {"model.layers.0.mlp.up_proj": (8000, 2048)}
    assert fitting(LLAMA, list(other), other) == ()
    alone = {k: v for k, v in model_shapes("Llama 3.2 1B").items() if "k_proj" in k}
    assert fitting(LLAMA, list(alone), alone) == ("Llama 3.2 1B",)
    square = {k: v for k, v in model_shapes("Llama 3.2 1B").items() if "o_proj" in k}
    assert fitting(LLAMA, list(square), square) == ("Llama 3.2 1B", "OLMo 1B")


@pytest.mark.parametrize(
    ("model", "kind", "settings"),
    [
        ("Llama 2 7B", "LlamaConfig", {}),
        ("Mistral 7B", "MistralConfig", {}),
        ("Gemma 7B", "GemmaConfig", {}),
        ("Gemma 2 2B", "Gemma2Config", {}),
    ],
)
def test_sizes_are_those_of_the_models_that_transformers_has_as_defaults(model, kind, settings):
    transformers = pytest.importorskip("transformers")
    config = getattr(transformers, kind)(**settings)
    head = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    assert dict(LLAMA.sizes[model]) == {
        "layers": config.num_hidden_layers,
        "hidden": config.hidden_size,
        "q": config.num_attention_heads * head,
        "kv": config.num_key_value_heads * head,
        "ffn": config.intermediate_size,
        "head": head,
    }


def adapter(folder, model, config, seed=0, rank=2):
    """A PEFT adapter on q and v of all layers; its factors are what a GGUF file is made of."""
    sizes, tensors = LLAMA.sizes[model], {}
    for i in range(sizes["layers"]):
        for j, (part, rows) in enumerate((("q", "q"), ("v", "kv"))):
            name = f"base_model.model.model.layers.{i}.self_attn.{part}_proj"
            tensors[f"{name}.lora_A.weight"] = rand(rank, sizes["hidden"], seed=seed + 2 * i + j)
            tensors[f"{name}.lora_B.weight"] = rand(sizes[rows], rank, seed=seed + 90 + 2 * i + j)
    path = write(folder / "adapter_model.safetensors", tensors)
    (folder / "adapter_config.json").write_text(json.dumps(config))
    return path, tensors


def gguf_of(path, tensors, head, architecture, alpha):
    """As convert_lora_to_gguf.py writes it: with the rows of q turned for Llama."""
    gguf = pytest.importorskip("gguf")
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_type("adapter")
    writer.add_string("adapter.type", "lora")
    writer.add_float32("adapter.lora.alpha", alpha)
    for key, X in tensors.items():
        layer, part = key.split(".")[4], key.split(".")[6][0]
        side = "a" if "lora_A" in key else "b"
        if part == "q" and side == "b" and architecture == "llama":
            X = X.reshape(-1, 2, head // 2, X.shape[1]).transpose(1, 2).reshape(X.shape)
        writer.add_tensor(f"blk.{layer}.attn_{part}.weight.lora_{side}", X.contiguous().numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


@pytest.mark.parametrize(
    ("model", "architecture"), [("SmolLM2 135M", "llama"), ("Qwen2.5 0.5B", "qwen2")]
)
def test_a_gguf_adapter_is_the_peft_adapter_that_it_was_made_from(model, architecture, tmp_path):
    config = {"peft_type": "LORA", "r": 2, "lora_alpha": 4, "target_modules": ["q_proj", "v_proj"]}
    path, tensors = adapter(tmp_path / "peft", model, config)
    gguf_of(tmp_path / "x.gguf", tensors, LLAMA.sizes[model]["head"], architecture, 4.0)
    first, second = read_lora(path), read_lora(tmp_path / "x.gguf")
    found = compare(first, second)
    assert found.cosine == pytest.approx(1, abs=1e-5)
    assert found.ratio == pytest.approx(1, rel=1e-5)
    assert found.verdict.word == "same"
    assert second.is_exact
    assert second.base.candidates[0] == "llama_like"
    assert model in dict(second.base.evidence)["layers and dimensions"]
    (tmp_path / "out").mkdir()
    out = tmp_path / "out" / "adapter_model.safetensors"
    export(second, "peft", out, "float32")
    assert compare(first, read_lora(out)).cosine == pytest.approx(1, abs=1e-5)


def test_rows_in_an_unknown_order_are_said(tmp_path):
    tensors = {
        f"base_model.model.model.layers.0.self_attn.q_proj.lora_{s}.weight": rand(*shape)
        for s, shape in (("A", (2, 64)), ("B", (64, 2)))
    }
    gguf_of(tmp_path / "x.gguf", tensors, 8, "llama", 4.0)
    lora = read_lora(tmp_path / "x.gguf")
    assert lora.is_exact  # for llama.cpp's own weights
    assert any("order of its own" in w for w in lora.warnings)


def test_a_text_of_another_size_is_a_contradiction(tmp_path):
    config = {"peft_type": "LORA", "r": 2, "lora_alpha": 2,
              "base_model_name_or_path": "HuggingFaceTB/SmolLM2-360M-Instruct"}  # fmt: skip
    path, _ = adapter(tmp_path, "SmolLM2 135M", config)
    said = read_lora(path).base.disagreement
    assert said == ("adapter_config.json says SmolLM2 360M, its sizes are those of SmolLM2 135M")


def test_names_that_many_architectures_share_are_told_apart_by_the_file():
    found = recognise(["blk.0.attn_qkv", "blk.1.attn_qkv"], {})
    assert len(found.bases) > 3


def test_llama_cpp_reads_its_own_file_and_what_its_converter_takes(tmp_path):
    """The converter stops at whole weights, which it has no place for."""
    config = {"peft_type": "LORA", "r": 2, "lora_alpha": 4, "target_modules": ["q_proj", "v_proj"]}
    path, tensors = adapter(tmp_path / "peft", "SmolLM2 135M", config)
    gguf_of(tmp_path / "x.gguf", tensors, 64, "llama", 4.0)
    for file in (path, tmp_path / "x.gguf"):
        found = loads_in(read_lora(file))["llama.cpp"]
        assert (found.ok, found.strength, found.lost) == (True, 1.0, ())
    assert loads_in(read_lora(tmp_path / "x.gguf"))["peft"].ok is False
    head = {"base_model.model.lm_head.weight": rand(4, 4)}
    write(path, tensors | head)
    found = loads_in(read_lora(path))["llama.cpp"]
    assert (found.ok, found.strength) == (False, None)
    assert "lm_head" in found.why
