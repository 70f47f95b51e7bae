"""Every form that PEFT writes: its own merge gives U Vᵀ to 1e-5; the rest is refused by name."""

import warnings

import pytest
import torch
from torch import nn

from wsdemo.errors import WsdemoError
from wsdemo.lora.kept import read_kept
from wsdemo.lora.reader import read_lora

warnings.filterwarnings("ignore")
peft = pytest.importorskip("peft")

CLOSE = 1e-5


class Layer(nn.Module):
    def __init__(self):
        super().__init__()
        self.q_proj, self.v_proj, self.fc = nn.Linear(8, 12), nn.Linear(8, 8), nn.Linear(12, 8)


class Model(nn.Module):
    """Two layers, an embedding and a head, with names that patterns can tell apart."""

    def __init__(self):
        super().__init__()
        self.emb, self.layers = nn.Embedding(11, 8), nn.ModuleList([Layer(), Layer()])
        self.fc, self.lm_head = nn.Linear(8, 12), nn.Linear(8, 11)
        self.config = {"model_type": "x"}

    def forward(self, x):
        return self.lm_head(x)


def written(config, folder, model=None, prefixes=("lora_",)):
    """An adapter with random weights, saved; the model's weights before and merged."""
    torch.manual_seed(0)
    model = model or Model()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    adapted = peft.get_peft_model(model, config)
    for name, parameter in adapted.named_parameters():
        if any(p in name for p in prefixes):
            nn.init.normal_(parameter)
    adapted.save_pretrained(folder)
    after = adapted.merge_and_unload().state_dict()
    return before, after


def delta(module):
    return (module.U @ module.V.T).reshape(module.shape)


def check(folder, before, after, exact=True):
    """Every module is what the merge did, relative to its size."""
    lora = read_lora(folder)
    changed = [k for k in before if not torch.equal(before[k], after[k])]
    assert {f"{m.name}.weight" for m in lora.modules} == set(changed)
    for module in lora.modules:
        wanted = after[f"{module.name}.weight"] - before[f"{module.name}.weight"]
        if module.kind == "multiplicative":
            found = before[f"{module.name}.weight"] * (module.offset - 1 + delta(module))
        else:
            found = delta(module)
        assert float((found - wanted).norm() / wanted.norm()) < CLOSE, module.name
        assert module.is_exact == exact
    assert lora.is_exact == exact
    return lora


BOTH = ["q_proj", "v_proj"]
WRITTEN = {
    "patterns": (
        lambda: peft.LoraConfig(
            r=2, lora_alpha=4, target_modules=["q_proj", "fc"],
            rank_pattern={"^fc": 3, r"layers\.1\.(q_proj|fc)": 5},
            alpha_pattern={r"layers\.\d+\.fc": 32, "^q_proj": 7, "^fc$": 9},
        ),
        ("lora_",)),
    "rslora with patterns": (
        lambda: peft.LoraConfig(r=2, lora_alpha=4, target_modules=BOTH, use_rslora=True,
                                rank_pattern={"v_proj": 4}),
        ("lora_",)),
    "initialised by eva's rule": (
        lambda: peft.LoraConfig(r=2, lora_alpha=4, target_modules=BOTH,
                                init_lora_weights="gaussian"),
        ("lora_",)),
    "LoHa": (lambda: peft.LoHaConfig(r=2, alpha=8, target_modules=BOTH,
                                     alpha_pattern={r"layers\.1": 3, "v_proj": 5}), ("hada_",)),
    "LoKr": (lambda: peft.LoKrConfig(r=2, alpha=8, target_modules=BOTH), ("lokr_",)),
    "LoKr of whole factors": (
        lambda: peft.LoKrConfig(r=16, alpha=8, target_modules=BOTH), ("lokr_",)),
    "HiRA": (lambda: peft.HiraConfig(r=2, target_modules=BOTH), ("hira_",)),
    "GraLoRA": (lambda: peft.GraloraConfig(r=4, alpha=6, gralora_k=2, target_modules=BOTH),
                ("gralora_",)),
    "GraLoRA with a plain pair": (
        lambda: peft.GraloraConfig(r=4, hybrid_r=3, alpha=6, gralora_k=2, target_modules=BOTH),
        ("gralora_",)),
    "C3A": (lambda: peft.C3AConfig(block_size=4, target_modules=BOTH), ("c3a_",)),
    "BD-LoRA in A": (
        lambda: peft.LoraConfig(
            r=4, lora_alpha=6, target_modules=BOTH,
            use_bdlora=peft.tuners.lora.config.BdLoraConfig(
                target_modules_bd_a=["q_proj"], target_modules_bd_b=["v_proj"], nblocks=2),
        ),
        ("lora_",)),
}  # fmt: skip


@pytest.mark.parametrize("label", WRITTEN)
def test_peft_merges_what_is_read(label, tmp_path):
    make, prefixes = WRITTEN[label]
    before, after = written(make(), tmp_path, prefixes=prefixes)
    lora = check(tmp_path, before, after)
    assert lora.kind == ("multiplicative" if label == "HiRA" else "additive")


def test_shira_is_read_up_to_its_last_place(tmp_path):
    config = peft.ShiraConfig(r=2, target_modules=BOTH)
    before, after = written(config, tmp_path, prefixes=("shira_weight",))
    for module in read_lora(tmp_path).modules:
        wanted = after[f"{module.name}.weight"] - before[f"{module.name}.weight"]
        n, m = module.shape
        assert not wanted[n:].any()
        assert not wanted[:, m:].any()
        assert float((delta(module) - wanted[:n, :m]).norm() / wanted.norm()) < CLOSE


class Experts(nn.Module):
    def __init__(self):
        super().__init__()
        self.gate_up_proj = nn.Parameter(torch.randn(3, 8, 6))
        self.down_proj = nn.Parameter(torch.randn(3, 6, 4))


class Mixture(nn.Module):
    def __init__(self):
        super().__init__()
        self.experts = Experts()
        self.config = {"model_type": "x"}

    def forward(self, x):
        return x


@pytest.mark.parametrize(
    "targets", [["experts.down_proj"], ["experts.gate_up_proj", "experts.down_proj"]]
)
def test_experts_that_share_a_pair_are_read_one_by_one(targets, tmp_path):
    config = peft.LoraConfig(r=2, lora_alpha=4, target_parameters=targets, target_modules=[],
                             alpha_pattern={r"experts\.gate_up_proj": 10})  # fmt: skip
    before, after = written(config, tmp_path, Mixture())
    lora = read_lora(tmp_path)
    assert len(lora.modules) == 3 * len(targets)
    for module in lora.modules:
        _, number, parameter = module.name.split(".")
        key = f"experts.{parameter}"
        wanted = (after[key] - before[key])[int(number)]
        assert module.shape == tuple(wanted.shape)
        assert float((delta(module) - wanted).norm() / wanted.norm()) < CLOSE
        assert module.piece == (int(number), 3)
        assert len(module.keys) == 2
    assert lora.is_exact
    assert lora.used_keys == 2 * len(targets)


def test_experts_without_the_configuration_are_not_read_as_one_large_pair(tmp_path):
    config = peft.LoraConfig(r=2, lora_alpha=4, target_parameters=["experts.down_proj"],
                             target_modules=[])  # fmt: skip
    written(config, tmp_path, Mixture())
    (tmp_path / "adapter_config.json").unlink()
    with pytest.raises(WsdemoError, match="configuration that says their rank is missing"):
        read_lora(tmp_path)


def test_a_pruned_adalora_is_read_and_its_pruned_module_is_nothing(tmp_path):
    config = peft.AdaLoraConfig(
        init_r=4, target_r=2, lora_alpha=8, target_modules=BOTH, total_step=10, tinit=1, tfinal=1
    )
    torch.manual_seed(0)
    model = Model()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    adapted = peft.get_peft_model(model, config)
    pattern = {}
    for name, parameter in adapted.named_parameters():
        if "lora_" in name:
            nn.init.normal_(parameter)
        if "lora_E" in name:
            kept = [False] * 4 if "layers.0.v" in name else [True, False, True, False]
            parameter.data[[not k for k in kept]] = 0
            pattern[name.removeprefix("base_model.model.").removesuffix(".default")] = kept
    adapted.peft_config["default"].rank_pattern = pattern
    adapted.save_pretrained(tmp_path)
    after = adapted.merge_and_unload().state_dict()
    lora = read_lora(tmp_path)
    assert "layers.0.v_proj" not in {m.name for m in lora.modules}
    assert any("pruned to rank 0" in w for w in lora.warnings)
    for module in lora.modules:
        wanted = after[f"{module.name}.weight"] - before[f"{module.name}.weight"]
        # PEFT divides by the rank before pruning in memory, by that of the file once it is loaded.
        ratio = (delta(module) * wanted).sum() / wanted.square().sum()
        assert float((delta(module) - ratio * wanted).norm() / wanted.norm()) < CLOSE
        assert float(ratio) == pytest.approx(2.0, rel=1e-4)
    assert lora.is_exact


def test_a_trained_head_and_new_tokens_are_kept_and_said(tmp_path):
    config = peft.LoraConfig(
        r=2, lora_alpha=4, target_modules=["q_proj"], modules_to_save=["lm_head"], lora_bias=True,
        trainable_token_indices={"emb": [1, 3]},
    )  # fmt: skip
    written(config, tmp_path)
    lora = read_lora(tmp_path)
    kinds = {k.what for k in lora.kept}
    assert kinds == {"head", "tokens", "bias"}
    bias = next(k for k in lora.kept if k.key.endswith("lora_B.bias"))
    assert bias.module == "layers.0.q_proj"
    tensors = read_kept(lora.kept)
    assert {k.key: k.shape for k in lora.kept} == {k: tuple(v.shape) for k, v in tensors.items()}
    said = " ".join(lora.warnings)
    assert "lm_head" in said
    assert "new rows of an embedding (trainable_token_indices)" in said
    assert lora.is_exact


DOUBTFUL = {
    "pissa": lambda: peft.LoraConfig(r=2, target_modules=BOTH, init_lora_weights="pissa"),
    "olora": lambda: peft.LoraConfig(r=2, target_modules=BOTH, init_lora_weights="olora"),
    "KaSA": lambda: peft.LoraConfig(
        r=2, target_modules=BOTH, kasa_config=peft.tuners.lora.config.KasaConfig()),
    "alora_invocation_tokens": lambda: peft.LoraConfig(
        r=2, target_modules=BOTH, alora_invocation_tokens=[1, 2]),
}  # fmt: skip


@pytest.mark.parametrize("label", DOUBTFUL)
def test_what_changes_the_base_or_acts_sometimes_is_not_exact(label, tmp_path):
    torch.manual_seed(0)
    peft.get_peft_model(Model(), DOUBTFUL[label]()).save_pretrained(tmp_path)
    lora = read_lora(tmp_path)
    assert not lora.is_exact
    assert any(label.lower() in w.lower() for w in lora.warnings)


METHODS = {
    "LILY": {"r": 2, "stride_A": 1, "num_B": 2},
    "PSOFT": {"r": 2},
    "DELORA": {"r": 2},
    "RANDLORA": {"r": 2},
    "ROAD": {"group_size": 2},
    "VBLORA": {"r": 2, "num_vectors": 4, "vector_length": 4, "topk": 2},
    "OSF": {},
    "TINYLORA": {},
    "SUPERTUNING": {"sparsity": 0.5},
    "DEFT": {},
    "FROD": {},
    "PEANUT": {},
    "WAVEFT": {"n_frequency": 8},
    "ADAMSS": {},
    "BEFT": {},
    "PVERA": {"r": 2},
    "VERA": {"r": 2},
    "HRA": {"r": 2},
    "FOURIERFT": {"n_frequency": 8},
    "BOFT": {"boft_block_size": 4},
    "OFT": {"r": 2, "oft_block_size": 0},
    "IA3": {"feedforward_modules": []},
    "UNILORA": {},
    "GLORA": {},
    "MISS": {"r": 2},
}


@pytest.mark.parametrize("kind", METHODS)
def test_methods_whose_update_is_not_in_the_file_are_refused_by_name(kind, tmp_path):
    from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING as configurations

    torch.manual_seed(0)
    target = ["v_proj"]  # square, which some of them need
    config = configurations[kind](target_modules=target, **METHODS[kind])
    try:
        peft.get_peft_model(Model(), config).save_pretrained(tmp_path)
    except (ValueError, TypeError, ImportError, RuntimeError, NotImplementedError) as error:
        pytest.skip(f"PEFT does not write it for this model: {str(error)[:80]}")
    with pytest.raises(WsdemoError, match=f"peft_type {kind}"):
        read_lora(tmp_path)
    (tmp_path / "adapter_config.json").unlink()
    with pytest.raises(WsdemoError) as caught:
        read_lora(tmp_path)
    name = caught.value.message.replace("-", "").replace(" ", "").lower()
    assert kind.replace("_", "").lower() in name, caught.value.message
