"""Which base a file is for: each by its own, no neighbour by another's name, and no guess."""

import pytest

from wsdemo.lora.bases.recognise import recognise
from wsdemo.lora.bases.tables import all_tables, bases, flattened

TABLES = all_tables()
TWINS = {
    "cosmos2_2b": {"Cosmos", "Anima"},  # Anima is that model with an adapter of its own
    "bart": {"BART", "Whisper"},
}


def whole(key, program):
    """All modules of a base, as a program writes them, and their shapes."""
    base = TABLES[key]
    spelling = base.writes(program)
    shapes = {}
    for name, pieces in base.namings[spelling.naming].items():
        full = name.replace("{n}", "3").replace("{m}", "5")
        rows = sum(map(base.rows, pieces))
        shape = base.shapes[pieces[0].module]
        shapes[spelling.of(full).removeprefix("base_model.model.")] = (
            (rows, *shape[1:]) if shape else (48, 32)
        )
    return shapes


PAIRS = [
    (b.key, p)
    for b in bases()
    for p in ("diffusers", "comfyui", "kohya", "musubi", "peft")
    if b.writes(p)
]


@pytest.mark.parametrize(("key", "program"), PAIRS)
def test_a_whole_file_names_its_base_and_no_other(key, program):
    shapes = whole(key, program)
    found = recognise(list(shapes), shapes)
    assert TABLES[key] in found.bases
    assert {b.family for b in found.bases} <= TWINS.get(key, {TABLES[key].family})
    assert found.unknown == 0
    assert not found.mixed


NAMED = {
    "SDXL": {"lora_unet_input_blocks_4_1_transformer_blocks_0_attn2_to_k": (640, 2048)},
    "SD 1": {"unet.down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k": (320, 768)},
    "SD 2": {"unet.down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k": (320, 1024)},
    "SD 3": {"lora_unet_joint_blocks_0_x_block_attn_qkv": (4608, 1536)},
    "SD 3.5 large": {"transformer.transformer_blocks.30.attn.add_q_proj": (2432, 2432)},
    "FLUX": {"lora_unet_double_blocks_0_img_mod_lin": (18432, 3072)},
    "FLUX or Chroma": {"lora_unet_double_blocks_0_img_mlp_0": (12288, 3072)},
    "FLUX.2 Klein 4B": {"diffusion_model.single_blocks.0.linear1": (27648, 3072)},
    "FLUX.2 Klein 9B": {"diffusion_model.double_blocks.0.img_attn.qkv": (12288, 4096)},
    "FLUX.2 dev": {"diffusion_model.single_blocks.47.linear2": (6144, 24576)},
    "Chroma": {"diffusion_model.distilled_guidance_layer.layers.0.in_layer": (5120, 5120)},
    "AuraFlow": {"transformer.joint_transformer_blocks.0.attn.to_q": (3072, 3072)},
    "Qwen-Image": {"transformer.transformer_blocks.0.img_mlp.net.2": (3072, 12288)},
    "Z-Image": {"diffusion_model.layers.0.attention.to_q": (3840, 3840)},
    "Lumina 2": {"diffusion_model.layers.0.attention.qkv": (3840, 2304)},
    "Wan 2.1 1.3B": {"diffusion_model.blocks.0.self_attn.q": (1536, 1536)},
    "Wan": {"diffusion_model.blocks.0.ffn.0": (13824, 5120)},
    "Wan 2.1 image to video 14B": {"diffusion_model.blocks.0.cross_attn.k_img": (5120, 5120)},
    "LTX-2": {"diffusion_model.transformer_blocks.0.audio_attn1.to_q": (2048, 2048)},
    "HunyuanVideo": {"lora_unet_txt_in_individual_token_refiner_blocks_0_mlp_fc1": (12288, 3072)},
    "HiDream": {"transformer.double_stream_blocks.0.block.attn1.to_q": (2560, 2560)},
    "Mochi": {"blocks.0.attn.qkv_x": (9216, 3072)},
    "Krea 2": {"lora_unet_blocks_0_attn_wq": (6144, 6144)},
    "Anima": {"diffusion_model.llm_adapter.blocks.0.self_attn.q_proj": (1024, 1024)},
    "Kandinsky 5": {"transformer.visual_transformer_blocks.0.self_attention.to_query": (6, 6)},
    "Stable Cascade": {"lora_prior_unet_down_blocks_1_14_attention_attn_to_q": (2048, 2048)},
    "SD 3, Qwen-Image or HunyuanVideo 1.5": {
        "transformer.transformer_blocks.0.attn.add_q_proj": (6, 6)},
    "OPT, Whisper or BART": {"model.decoder.layers.0.self_attn.q_proj": (6, 6)},
    "Whisper or BART": {"model.decoder.layers.0.encoder_attn.q_proj": (6, 6)},
    "Llama-like": {"model.layers.0.mlp.gate_proj": (6, 6)},
    "Qwen3-Next or Qwen3.5": {"model.layers.0.linear_attn.in_proj_qkvz": (6, 6)},
    "GPT-2": {"transformer.h.0.attn.c_attn": (6, 6)},
    "BLOOM or Falcon": {"transformer.h.0.self_attention.query_key_value": (6, 6)},
    "T5": {"encoder.block.0.layer.0.SelfAttention.q": (6, 6)},
    "RoBERTa": {"roberta.encoder.layer.0.attention.self.query": (6, 6)},
    "": {"some.layer.7.of_its_own": (6, 6)},
}  # fmt: skip


@pytest.mark.parametrize("name", NAMED)
def test_one_cue_is_enough_where_there_is_one_and_else_all_are_named(name):
    shapes = NAMED[name]
    assert recognise(list(shapes), shapes).name == name


def test_a_file_of_two_bases_is_called_so():
    shapes = {**whole("wan_14b", "comfyui"), **whole("sdxl", "kohya")}
    found = recognise(list(shapes), shapes)
    assert not found.bases
    assert set(found.mixed) == {"SDXL", "Wan"}


def test_text_encoders_alone_say_which_bases_have_them():
    name = "lora_te2_text_model_encoder_layers_31_mlp_fc1"
    found = recognise([name], {name: (5120, 1280)})
    assert {b.key for b in found.bases} >= {"sdxl", "sd3"}
    assert "flux1" not in {b.key for b in found.bases}


def test_flattening_keeps_names_apart():
    for base in bases():
        for names in base.namings.values():
            assert len({flattened(n) for n in names}) == len(names)
