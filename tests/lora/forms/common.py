"""What the tests of forms share: one pair, and a reader that misses no tensor."""

import json

import torch

from tests.lora.files import rand, write
from wsdemo.lora.reader import read_lora

N, M, R = 5, 6, 2
A, B = rand(R, M, seed=1), rand(N, R, seed=2)
BA = B @ A


def read(folder, tensors, config=None, metadata=None):
    tensors = {k: v.clone() for k, v in tensors.items()}  # none of one memory
    path = write(folder / "adapter_model.safetensors", tensors, metadata)
    if config is not None:
        (folder / "adapter_config.json").write_text(json.dumps(config))
    lora = read_lora(path)
    keys = [k.key for k in lora.kept]
    for used in {m.keys for m in lora.modules}:
        keys += used
    assert sorted(keys) == sorted(tensors)  # every tensor is a module's or kept, once
    return lora


def update(lora, name=None):
    module = next(m for m in lora.modules if name in (None, m.name))
    return module.U @ module.V.T


def close(found, wanted):
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)


PEFT = {"peft_type": "LORA", "r": R, "lora_alpha": 4}
