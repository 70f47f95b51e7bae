"""Tokens: rank-one pairs per layer, and an exact way back."""

import pytest
import torch

from tests.conftest import SMALL, make_base
from wsdemo.fields.adapters import REPRESENTATIONS, Adapter, AdapterConfig
from wsdemo.generate.tokens import TokenLayout


@pytest.mark.parametrize("name", REPRESENTATIONS)
@pytest.mark.parametrize("rank", [4, 7])
def test_there_and_back_is_exact(name, rank, generator):
    adapter = Adapter(make_base(), AdapterConfig(name, rank))
    layout = TokenLayout(adapter)
    x = torch.randn(3, adapter.size, generator=generator)
    assert torch.equal(layout.from_tokens(layout.to_tokens(x)), x)


def test_token_i_of_a_layer_is_its_ith_rank_one_pair(generator):
    adapter = Adapter(make_base(), AdapterConfig("mlora", 5))
    x = torch.randn(2, adapter.size, generator=generator)
    tokens = TokenLayout(adapter).to_tokens(x)
    tensors = adapter.tensors(x)
    assert tokens.shape[:3] == (2, 4, 5)
    for index, (layer, d_out, d_in) in enumerate(SMALL.layer_shapes()):
        for rank in range(5):
            token = tokens[:, index, rank]
            assert torch.equal(token[:, :d_in], tensors[f"{layer}.A"][:, rank])
            assert torch.equal(token[:, d_in : d_in + d_out], tensors[f"{layer}.B"][:, :, rank])
            assert float(token[:, d_in + d_out :].abs().sum()) == 0
