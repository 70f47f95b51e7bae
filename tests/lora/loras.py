"""Small LoRAs as the reader gives them, and their products."""

from tests.lora.files import rand, write
from wsdemo.lora.reader import read_lora


def lora_of(tmp_path, seed: int = 0, rank: int = 4, modules: int = 3):
    tensors = {}
    for i in range(modules):
        tensors[f"m{i}.lora_down.weight"] = rand(rank, 20, seed=seed + i)
        tensors[f"m{i}.lora_up.weight"] = rand(24, rank, seed=seed + i + 9)
    return read_lora(write(tmp_path / f"l{seed}-{rank}.safetensors", tensors))


def dense(lora):
    return {m.name: m.U @ m.V.T for m in lora.modules}
