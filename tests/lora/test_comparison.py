"""Comparing two LoRAs: equal to the dense computation."""

import dataclasses

import pytest
import torch

from tests.lora.files import rand
from tests.lora.loras import dense, lora_of
from wsdemo.errors import WsdemoError
from wsdemo.lora.comparison import compare, inner
from wsdemo.lora.merging import merge


def test_comparison_equals_the_dense_one(tmp_path):
    a, b = lora_of(tmp_path, 0, 4), lora_of(tmp_path, 50, 6)
    found = compare(a, b)
    A = torch.cat([W.flatten() for _, W in sorted(dense(a).items())]).double()
    B = torch.cat([W.flatten() for _, W in sorted(dense(b).items())]).double()
    assert found.cosine == pytest.approx(float(A @ B / A.norm() / B.norm()), abs=1e-6)
    assert found.ratio == pytest.approx(float(B.norm() / A.norm()), rel=1e-5)
    assert compare(a, a).cosine == pytest.approx(1)
    assert compare(a, a).modules[0].output_angle == pytest.approx(1, abs=1e-6)
    assert inner(a.modules[0], b.modules[0]) == pytest.approx(
        float((dense(a)["m0"] * dense(b)["m0"]).sum()), rel=1e-4
    )


def test_loras_without_a_common_module_do_not_compare(tmp_path):
    a = lora_of(tmp_path)
    b = dataclasses.replace(
        a, modules=tuple(dataclasses.replace(m, name=f"x{m.name}") for m in a.modules)
    )
    with pytest.raises(WsdemoError, match="share no module"):
        compare(a, b)
    multiplicative = tuple(dataclasses.replace(m, kind="multiplicative") for m in a.modules)
    with pytest.raises(WsdemoError, match="One is additive"):
        compare(a, dataclasses.replace(a, modules=multiplicative))


def test_a_common_origin_is_hinted_at_only_where_there_is_one(tmp_path):
    lora = lora_of(tmp_path)
    assert "same update" in compare(lora, lora).ancestry
    stronger = merge([lora], [3.0])
    assert "same update" in compare(lora, stronger).ancestry

    def changed(seed, keep_inputs):
        modules = tuple(
            dataclasses.replace(
                m,
                U=rand(*m.U.shape, seed=seed + i),
                V=keep_inputs * m.V + (0.05 if keep_inputs else 1) * rand(*m.V.shape, seed=seed),
            )
            for i, m in enumerate(lora.modules)
        )  # fmt: skip
        return dataclasses.replace(lora, modules=modules)

    assert "one random start" in compare(lora, changed(50, True)).ancestry
    assert "No sign" in compare(lora, changed(70, False)).ancestry
    near = tuple(
        dataclasses.replace(m, U=m.U + 0.3 * rand(*m.U.shape, seed=5)) for m in lora.modules
    )
    assert "continue" in compare(lora, dataclasses.replace(lora, modules=near)).ancestry
