"""ΔW as the libraries that write these files compute it: peft, diffusers, lycoris-lora.

Relative error at most 1e-5 in float32. These libraries are for development only.
"""

import warnings

import pytest
import torch
from torch import nn

from wsdemo.errors import WsdemoError
from wsdemo.lora.arithmetic import regauge, resize
from wsdemo.lora.reader import read_lora
from wsdemo.lora.writing import save_lora

warnings.filterwarnings("ignore")
peft = pytest.importorskip("peft")

CLOSE = 1e-5


class Tiny(nn.Module):
    def __init__(self):
        super().__init__()
        self.emb = nn.Embedding(11, 8)
        self.q_proj, self.v_proj = nn.Linear(8, 12), nn.Linear(8, 6)
        self.conv, self.head = nn.Conv2d(3, 5, 3), nn.Linear(12, 2)

    def forward(self, x):
        return self.head(self.q_proj(self.emb(x)))


def apart(module, delta):
    """Relative distance of U Vᵀ to an update of any layout."""
    found = module.U @ module.V.T
    if delta.dim() == 2 and found.shape != delta.shape:
        found = found.T  # an embedding is stored as (words, width)
    return float((found.reshape(delta.shape) - delta).norm() / delta.norm())


@pytest.mark.parametrize(
    "options",
    [
        {"target_modules": ["q_proj", "v_proj"]},
        {"target_modules": ["q_proj", "v_proj"], "use_rslora": True},
        {"target_modules": ["q_proj", "v_proj"], "rank_pattern": {"q_proj": 2},
         "alpha_pattern": {"v_proj": 16}},
        {"target_modules": ["conv", "emb"]},
        {"target_modules": ["q_proj"], "modules_to_save": ["head"]},
    ],
    ids=["plain", "rslora", "patterns", "conv-embedding", "modules-to-save"],
)  # fmt: skip
def test_peft_merges_what_is_read(options, tmp_path):
    torch.manual_seed(0)
    model = Tiny()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    adapted = peft.get_peft_model(model, peft.LoraConfig(r=4, lora_alpha=8, **options))
    for name, parameter in adapted.named_parameters():
        if "lora_" in name:
            nn.init.normal_(parameter)
    adapted.save_pretrained(tmp_path)
    (tmp_path / "again").mkdir()
    lora = read_lora(tmp_path / "adapter_model.safetensors")
    save_lora(regauge(lora, 1), tmp_path / "again" / "adapter_model.safetensors", "peft")
    after = adapted.merge_and_unload().state_dict()
    fresh = Tiny()
    fresh.load_state_dict(before)
    again = peft.PeftModel.from_pretrained(fresh, tmp_path / "again").merge_and_unload()
    for module in lora.modules:
        key = module.name + ".weight"
        delta = again.state_dict()[key] - before[key]
        assert apart(module, delta) < CLOSE
    assert len(lora.modules) == len(options["target_modules"])
    for module in lora.modules:
        key = module.name.removeprefix("base_model.model.") + ".weight"
        assert apart(module, after[key] - before[key]) < CLOSE
        assert module.is_exact
    if "modules_to_save" in options:
        assert any("head" in i.key for i in lora.ignored)


def test_peft_dora_is_read_with_its_magnitude_and_not_called_exact(tmp_path):
    torch.manual_seed(0)
    config = peft.LoraConfig(r=4, lora_alpha=8, target_modules=["q_proj"], use_dora=True)
    adapted = peft.get_peft_model(Tiny(), config)
    for name, parameter in adapted.named_parameters():
        if "lora_B" in name:
            nn.init.normal_(parameter)
    adapted.save_pretrained(tmp_path)
    (module,) = read_lora(tmp_path / "adapter_model.safetensors").modules
    layer = adapted.base_model.model.q_proj
    product = 2.0 * layer.lora_B["default"].weight @ layer.lora_A["default"].weight
    assert apart(module, product.detach()) < CLOSE
    assert module.magnitude is not None
    assert not module.is_exact


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("IA3Config", {"feedforward_modules": []}),
        ("VeraConfig", {"r": 4}),
        ("OFTConfig", {"r": 2, "oft_block_size": 0}),
    ],
)
def test_other_methods_of_peft_are_refused_by_name(name, options, tmp_path):
    config = getattr(peft, name)(target_modules=["q_proj"], **options)
    peft.get_peft_model(Tiny(), config).save_pretrained(tmp_path)
    with pytest.raises(WsdemoError) as caught:
        read_lora(tmp_path / "adapter_model.safetensors")
    assert name.removesuffix("Config").lower()[:3] in caught.value.message.lower()


def tiny_unet(diffusers):
    return diffusers.UNet2DConditionModel(
        block_out_channels=(8, 16), layers_per_block=1, sample_size=8, norm_num_groups=4,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"), cross_attention_dim=12,
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"), attention_head_dim=4,
    )  # fmt: skip


def test_diffusers_fuses_what_is_read_and_what_is_written(tmp_path):
    diffusers = pytest.importorskip("diffusers")
    from diffusers.utils import convert_state_dict_to_diffusers
    from peft.utils import get_peft_model_state_dict

    torch.manual_seed(0)
    unet = tiny_unet(diffusers)
    before = {k: v.clone() for k, v in unet.state_dict().items()}
    targets = ["to_q", "to_v", "conv1"]
    unet.add_adapter(peft.LoraConfig(r=3, lora_alpha=6, target_modules=targets))
    for name, parameter in unet.named_parameters():
        if "lora_" in name:
            nn.init.normal_(parameter)
    own = get_peft_model_state_dict(unet)
    save = diffusers.StableDiffusionPipeline.save_lora_weights
    save(tmp_path / "new", unet_lora_layers=own,
         unet_lora_adapter_metadata={"r": 3, "lora_alpha": 6})  # fmt: skip
    save(tmp_path / "old", unet_lora_layers=convert_state_dict_to_diffusers(own))
    for style in ("peft", "kohya"):
        again = tiny_unet(diffusers)
        again.load_state_dict(before)
        lora = resize(read_lora(tmp_path / "new" / "pytorch_lora_weights.safetensors"), 0.7)[0]
        assert len(lora.ranks) > 1
        save_lora(lora, tmp_path / f"{style}.safetensors", style)
        state, alphas, meta = diffusers.StableDiffusionPipeline.lora_state_dict(
            str(tmp_path), weight_name=f"{style}.safetensors", return_lora_metadata=True,
            unet_config=again.config,
        )  # fmt: skip
        diffusers.StableDiffusionPipeline.load_lora_into_unet(state, alphas, again, metadata=meta)
        again.fuse_lora()
        loaded = {k.replace(".base_layer", ""): v for k, v in again.state_dict().items()}
        for module in lora.modules:
            key = module.name.removeprefix("unet.") + ".weight"
            assert apart(module, loaded[key] - before[key]) < CLOSE
    unet.fuse_lora()
    after = {k.replace(".base_layer", ""): v for k, v in unet.state_dict().items()}
    new, old = (
        read_lora(tmp_path / folder / "pytorch_lora_weights.safetensors")
        for folder in ("new", "old")
    )
    assert len(new.modules) == len(old.modules) > 10
    for module, plain in zip(new.modules, old.modules, strict=True):
        key = module.name.removeprefix("unet.") + ".weight"
        delta = after[key] - before[key]
        assert apart(module, delta) < CLOSE
        # The second generation has nowhere to write α, and diffusers then takes scale 1.
        assert apart(plain, delta / 2) < CLOSE
    assert old.is_exact
    assert not old.warnings


@pytest.mark.parametrize(
    ("method", "alpha"), [("lora", 2.0), ("loha", 4.0), ("lokr", 2.0), ("full", 2.0)]
)
def test_lycoris_computes_what_is_read(method, alpha, tmp_path):
    """LoHa only at α = r: this library's own difference has the scale twice otherwise."""
    lycoris = pytest.importorskip("lycoris")
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(16, 24), nn.Conv2d(4, 8, 3))
    adapted = lycoris.create_lycoris(
        net, 1.0, linear_dim=4, linear_alpha=alpha, conv_dim=4, conv_alpha=alpha, algo=method,
        factor=4,
    )  # fmt: skip
    adapted.apply_to()
    for parameter in adapted.parameters():
        nn.init.normal_(parameter, std=0.3)
    path = tmp_path / "x.safetensors"
    adapted.save_weights(str(path), torch.float32, {})
    lora = read_lora(path)
    own = {layer.lora_name: layer for layer in adapted.loras}
    assert {m.name for m in lora.modules} == set(own)
    for module in lora.modules:
        delta = own[module.name].get_diff_weight(1.0)[0].detach()
        assert apart(module, delta) < CLOSE


@pytest.mark.parametrize(("method", "said"), [("glora", "GLoRA"), ("diag-oft", "OFT")])
def test_other_methods_of_lycoris_are_refused_by_name(method, said, tmp_path):
    lycoris = pytest.importorskip("lycoris")
    adapted = lycoris.create_lycoris(
        nn.Sequential(nn.Linear(16, 24)), 1.0, linear_dim=4, linear_alpha=2.0, algo=method
    )
    adapted.apply_to()
    path = tmp_path / "x.safetensors"
    adapted.save_weights(str(path), torch.float32, {})
    with pytest.raises(WsdemoError, match=said):
        read_lora(path)
