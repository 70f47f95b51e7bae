"""Fuzzes the reader of LoRAs with Atheris, guided by coverage; not part of the suite.

    pip install atheris
    python -m tests.hostile.fuzz /tmp/corpus -rss_limit_mb=1024 -timeout=10 -max_total_time=600

Starts from the files of ``tests/hostile/build.py`` and ``tests/lora/files.py``. Four inputs in
five are a change that keeps the format whole (a tensor's shape, type, name or values, the
metadata), the others any bytes. Anything but a WsdemoError ends the run with its traceback; the
input stays in ``crash-…``. libFuzzer itself ends it at a time-out or beyond the limit of memory.
"""

import contextlib
import json
import os
import random
import struct
import sys
import tempfile
from pathlib import Path
from typing import Any

import atheris
import torch
from safetensors.torch import save

from tests.hostile.build import BAD, ODD
from tests.lora.files import families

with atheris.instrument_imports(include=["wsdemo"]):
    from wsdemo.cli.lora import passport
    from wsdemo.errors import WsdemoError
    from wsdemo.lora.geometry import read_and_measure
    from wsdemo.lora.reader import judge_header
    from wsdemo.runtime import choose_threads
    from wsdemo.safetensors_header import read_header

PLACE = Path(tempfile.gettempdir()) / f"fuzz-{os.getpid()}.safetensors"
ROLES = (
    "lora_down.weight", "lora_up.weight", "lora_mid.weight", "alpha", "dora_scale", "diff",
    "lora_A.weight", "lora_B.weight", "lora_E", "ranknum", "lora_magnitude_vector",
    "lora_embedding_A", "hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b", "hada_t1", "lokr_w1",
    "lokr_w2", "lokr_w2_a", "lokr_t2", "scale", "lora_down.scale_weight", "lora_down.0.weight",
    "lora_up.0.weight", "lora_A.other.weight", "lora_diag", "gralora_A", "gralora_B", "c3a_kernel",
    "shira_weight", "shira_indices", "hira_A", "hira_B", "A", "B", "lora_a", "lora_b",
)  # fmt: skip
BYTES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "F8_E4M3": 1, "I64": 8, "I32": 4, "U8": 1,
         "BOOL": 1}  # fmt: skip
TEXTS = (
    ("lora_adapter_metadata", '{"r": 4, "lora_alpha": 8, "rank_pattern": {"a": 3}}'),
    ("config", '{"r": 0, "lora_alpha": 1e300, "use_rslora": true}'),
    ("config", '{"lora_parameters": {"scale": Infinity}, "base_model_name_or_path": 7}'),
    ("wsdemo", '{"base": {"name": 1, "hash": null}, "representation": "mlora"}'),
)
SIDES = (1, 2, 3, 4, 5, 8, 16, 64)
VALUES = (0.0, 1e-45, 1e38, -3e38, float("nan"), float("inf"))
Entry = tuple[str, str, list[int], bytes]


def one(data: bytes) -> None:
    """Header, judgement, reading, geometry: all that a dropped file goes through."""
    PLACE.write_bytes(data)
    with contextlib.suppress(WsdemoError):
        header = read_header(PLACE)
        with contextlib.suppress(WsdemoError):
            judge_header(header)
        config = None
        with contextlib.suppress(ValueError, RecursionError):
            config = json.loads(header.metadata.get("config", "null"))
        found = read_and_measure(PLACE, config if isinstance(config, dict) else None)
        json.dumps(passport(*found))


def rebuilt(entries: list[Entry], meta: dict[str, Any]) -> bytes:
    """A file of the format; contents are repeated or cut to their tensors' size."""
    header: dict[str, Any] = {"__metadata__": meta} if meta else {}
    body = b""
    for name, dtype, shape, content in entries:
        need = min(BYTES.get(dtype, 4) * torch.Size(shape).numel(), 60_000)
        content = ((content or b"\0") * (need // len(content or b"\0") + 1))[:need]
        places = [len(body), len(body) + need]
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": places}
        body += content
    text = json.dumps(header).encode("utf-8", "surrogatepass")
    return struct.pack("<Q", len(text)) + text + body


def parsed(data: bytes) -> tuple[list[Entry], dict[str, Any]]:
    """What ``rebuilt`` takes."""
    length = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8 : 8 + length])
    meta = dict(header.pop("__metadata__", None) or {})
    body = data[8 + length :]
    return [
        (n, e["dtype"], list(e["shape"]), body[slice(*e["data_offsets"])])
        for n, e in header.items()
    ], meta


def mutate(data: bytes, limit: int, seed: int) -> bytes:
    """Any bytes, or a change that keeps the format whole."""
    chance = random.Random(seed)
    try:
        if chance.random() < 0.2:
            raise ValueError
        entries, meta = parsed(data)
        for _ in range(chance.choice((1, 1, 2, 4))):
            i = chance.randrange(len(entries))
            name, dtype, shape, content = entries[i]
            what = chance.randrange(6)
            if what == 0:
                role = chance.choice(ROLES)
                entries.append((f"{name.split('.')[0]}.{role}", dtype, [chance.choice(SIDES)] * 2,
                                chance.randbytes(64)))  # fmt: skip
            elif what == 1:
                shape = [chance.choice(SIDES) for _ in range(chance.randrange(6))]
            elif what == 2:
                dtype = chance.choice(tuple(BYTES))
            elif what == 3:
                name = atheris.Mutate(name.encode("utf-8", "replace"), 200).decode(
                    "utf-8", "replace"
                )
            elif what == 4:
                content = struct.pack("<f", chance.choice(VALUES))
            else:
                key, text = chance.choice(TEXTS)
                meta[key] = atheris.Mutate(text.encode(), 400).decode("utf-8", "replace")
            entries[i] = (name, dtype, shape, content)
        made = rebuilt(list({e[0]: e for e in entries}.values())[:60], meta)
        return made if len(made) <= limit else data
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, struct.error):
        return atheris.Mutate(data, limit)


def write_seeds(folder: Path) -> None:
    """The start corpus."""
    folder.mkdir(parents=True, exist_ok=True)
    made = {name: save(tensors) for name, (tensors, _, _) in families().items()}
    for i, (name, content) in enumerate({**made, **BAD, **ODD}.items()):
        if len(content) < 20_000:
            (folder / f"seed-{i:03d}").write_bytes(content)


if __name__ == "__main__":
    choose_threads(1)
    write_seeds(Path(sys.argv[1]))
    atheris.Setup(sys.argv, one, custom_mutator=mutate)
    atheris.Fuzz()
