"""Updates made of blocks: parts of fused layers, pooled inputs."""

import pytest
import torch

from tests.lora.files import rand
from tests.lora.forms.common import PEFT, A, B, M, N, R, close, read, update


@pytest.mark.parametrize("enabled", [(True, False, True), (True, True, True), (False, True)])
def test_merged_linear_adapts_some_parts_of_a_fused_layer(enabled, tmp_path):
    g, rows = sum(enabled), 4
    a, b = rand(g * R, M), rand(g * rows, R)
    name = "transformer.h.0.self_attention.query_key_value"
    tensors = {f"base_model.model.{name}.lora_A.weight": a,
               f"base_model.model.{name}.lora_B.weight": b[..., None]}  # fmt: skip
    wanted, group = torch.zeros(len(enabled) * rows, M), 0
    for i, is_on in enumerate(enabled):
        if is_on:
            own = slice(group * rows, (group + 1) * rows)
            wanted[i * rows : (i + 1) * rows] = b[own] @ a[group * R : (group + 1) * R]
            group += 1
    if g == 1:
        return  # one group is a plain pair of fewer rows, which nothing tells from any other
    lora = read(tmp_path, tensors, {**PEFT, "enable_lora": list(enabled)})
    close(update(lora), 2 * wanted)
    assert lora.modules[0].shape == tuple(wanted.shape)
    assert lora.is_exact


def test_merged_linear_without_its_configuration_has_the_norm_and_a_doubt(tmp_path):
    a, b = rand(2 * R, M), rand(8, R)
    lora = read(tmp_path, {"h.0.attn.c_attn.lora_A": a, "h.0.attn.c_attn.lora_B": b})
    close(update(lora), torch.cat([b[:4] @ a[:R], b[4:] @ a[R:]]))
    assert not lora.is_exact
    assert any("enable_lora" in w for w in lora.warnings)


def test_qalora_sees_pooled_inputs(tmp_path):
    tensors = {"base_model.model.l.q.lora_A.weight": A, "base_model.model.l.q.lora_B.weight": B}
    lora = read(tmp_path, tensors, {**PEFT, "use_qalora": True, "qalora_group_size": 4})
    x = rand(7, 4 * M)
    wanted = 2 * (x.view(7, M, 4).mean(2) * M) @ A.T @ B.T
    close(x @ update(lora).T, wanted)
    assert lora.modules[0].shape == (N, 4 * M)
    assert lora.is_exact
