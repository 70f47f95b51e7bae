import pytest
import torch

from wsdemo.checkpoints import load_checkpoint, pack, save_checkpoint, unpack


def test_packed_parameters_come_back_within_half_a_step(tmp_path):
    generator = torch.Generator().manual_seed(0)
    matrix = (
        torch.randn(3, 64, 128, generator=generator) * torch.tensor([1e-3, 1, 50])[:, None, None]
    )
    given = {"large": matrix, "zero": torch.zeros(64, 128), "bias": torch.randn(128)}
    stored = {k: v for name, value in given.items() for k, v in pack(name, value).items()}
    assert stored["large"].dtype == torch.int8
    assert stored["bias"].dtype == torch.float16
    save_checkpoint(tmp_path / "x.safetensors", stored, {})
    found = unpack(load_checkpoint(tmp_path / "x.safetensors")[0])
    assert found.keys() == given.keys()
    step = matrix.abs().amax(-1, keepdim=True) / 127
    assert ((found["large"] - matrix).abs() <= 0.5001 * step).all()
    assert not found["zero"].any()
    torch.testing.assert_close(found["bias"], given["bias"], rtol=1e-3, atol=1e-3)


def test_a_step_that_would_multiply_the_size_is_refused():
    tensors = {"x": torch.zeros(3000, 1, dtype=torch.int8), "x.step": torch.ones(1, 3000)}
    with pytest.raises(ValueError, match="step of x"):
        unpack(tensors)
