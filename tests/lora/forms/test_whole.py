"""Whole differences are kept as they are, or read where they are a matrix's."""

import torch

from tests.lora.files import rand
from tests.lora.forms.common import A, B, M, N, read
from wsdemo.lora.kept import read_kept, read_stored


def test_whole_differences_of_vectors_and_volumes_are_kept_as_they_are(tmp_path):
    name = "diffusion_model.blocks.0"
    whole = {
        f"{name}.norm3.diff": rand(M),
        f"{name}.norm3.diff_b": rand(M),
        f"{name}.modulation.diff": rand(1, 6, M),
        f"{name}.x.diff_m": rand(1, 6, M),
        "diffusion_model.patch_embedding.diff": rand(4, 3, 1, 2, 2),
        f"{name}.q.diff_b": rand(N),
    }
    tensors = {f"{name}.q.lora_down.weight": A, f"{name}.q.lora_up.weight": B, **whole}
    lora = read(tmp_path, tensors)
    assert [m.name for m in lora.modules] == [f"{name}.q"]
    assert lora.is_exact
    found = read_kept(lora.kept)
    assert all(torch.equal(found[key], value) for key, value in whole.items())
    kinds = {k.key: (k.what, k.module) for k in lora.kept}
    assert kinds[f"{name}.q.diff_b"] == ("bias", f"{name}.q")
    assert kinds[f"{name}.modulation.diff"] == ("difference", "")
    assert any("whole differences (4" in w for w in lora.warnings)


def test_a_whole_difference_of_a_matrix_is_read_and_can_be_copied(tmp_path):
    W = rand(9, 7)
    lora = read(tmp_path, {"lora_unet_x.diff": W.half()})
    module = lora.modules[0]
    assert module.is_whole
    assert module.is_exact
    assert module.dtype == "F16"
    assert torch.equal(read_stored(lora, module)["lora_unet_x.diff"], W.half())
