"""Bad LoRA files, each with what it is: executable documentation of what may be dropped.

``BAD`` must be refused; ``ODD`` are strange but readable, and must be read without a lie.
"""

import json
import math
import struct

import torch
from safetensors.torch import save

A, B = torch.ones(4, 16), torch.ones(24, 4)
PAIR = {"unet.a.to_q.lora_A.weight": A, "unet.a.to_q.lora_B.weight": B}


def raw(header: object, data: bytes = b"", length: int | None = None) -> bytes:
    """A safetensors file with this header, right or wrong."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def entry(shape: list, start: int, stop: int, dtype: str = "F32") -> dict:
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, stop]}


def good() -> bytes:
    return save(PAIR)


def with_value(value: float) -> bytes:
    bad = B.clone()
    bad[3, 1] = value
    return save({**PAIR, "unet.a.to_q.lora_B.weight": bad})


def kohya(down: torch.Tensor, up: torch.Tensor, **more: torch.Tensor) -> bytes:
    name = "lora_unet_x"
    own = {f"{name}.lora_down.weight": down, f"{name}.lora_up.weight": up}
    return save({**own, **{f"{name}.{k}": v for k, v in more.items()}})


def eights(**shapes: tuple[int, ...]) -> bytes:
    """Small files of large shapes: a byte a number, all 0.25."""
    header, stop = {}, 0
    for key, shape in shapes.items():
        start, stop = stop, stop + math.prod(shape)
        header[f"lora_unet_x.{key}"] = entry(list(shape), start, stop, "F8_E4M3")
    return raw(header, b"\x28" * stop)


F32 = 4
ONE = {"x.lora_A.weight": entry([1, 2], 0, 8), "x.lora_B.weight": entry([2, 1], 8, 16)}

BAD: dict[str, bytes] = {
    "empty": b"",
    "one byte": b"\x01",
    "nine bytes": bytes(9),
    "only zeros": bytes(4096),
    "length of the header beyond the file": struct.pack("<Q", 10**6) + b"{}",
    "length of the header 2^63": struct.pack("<Q", 2**63) + b"{}",
    "header cut off": good()[:60],
    "data cut off": good()[:-7],
    "bytes after the last tensor": good() + b"extra",
    "header is no JSON": raw(b"{'a': 1}"),
    "header is a list": raw([1, 2]),
    "header is a number": raw(7),
    "header is null": raw(None),
    "header is not UTF-8": raw(b'{"\xff\xfe": 1}'),
    "header nested a hundred thousand deep": raw(b"[" * 100_000 + b"]" * 100_000),
    "a number of ten thousand digits": raw(b'{"a": ' + b"9" * 10_000 + b"}"),
    "a key twice": raw(b'{"x.lora_A.weight": {}, "x.lora_A.weight": {}}'),
    "metadata that are numbers": raw({"__metadata__": {"a": 1}, **ONE}, bytes(16)),
    "metadata that are a list": raw({"__metadata__": ["a"], **ONE}, bytes(16)),
    "an entry that is null": raw({"x.lora_A.weight": None}),
    "an entry without a shape": raw({"x.lora_A.weight": {"dtype": "F32"}}),
    "an unknown type": raw({"x.lora_A.weight": entry([1, 2], 0, 8, "F7")}, bytes(8)),
    "a negative side": raw({"x.lora_A.weight": entry([-1, 2], 0, 8)}, bytes(8)),
    "a side that is a float": raw({"x.lora_A.weight": entry([1.0, 2], 0, 8)}, bytes(8)),
    "a side that is true": raw({"x.lora_A.weight": entry([True, 2], 0, 8)}, bytes(8)),
    "a side of zero": raw({"x.lora_A.weight": entry([0, 2], 0, 0)}),
    "a side of 2^40": raw({"x.lora_A.weight": entry([2**40, 2**40], 0, 8)}, bytes(8)),
    "twelve dimensions": raw({"x.lora_A.weight": entry([1] * 12, 0, 4)}, bytes(4)),
    "offsets backwards": raw({"x.lora_A.weight": entry([1, 2], 8, 0)}, bytes(8)),
    "offsets that overlap": raw(
        {"x.lora_A.weight": entry([1, 2], 0, 8), "x.lora_B.weight": entry([2, 1], 4, 12)}, bytes(12)
    ),
    "a hole between tensors": raw(
        {"x.lora_A.weight": entry([1, 2], 0, 8), "x.lora_B.weight": entry([2, 1], 16, 24)},
        bytes(24),
    ),
    "more bytes than the shape needs": raw({"x.lora_A.weight": entry([1, 2], 0, 16)}, bytes(16)),
    "a hundred thousand and one tensors": raw(
        {f"x{i}.lora_A.weight": entry([1], 4 * i, 4 * i + 4) for i in range(100_001)},
        bytes(400_004),
    ),
    "nine megabytes of metadata": raw({"__metadata__": {"a": "x" * 9_000_000}, **ONE}, bytes(16)),
    "a pickle of torch": b"PK\x03\x04" + bytes(200),
    "a bare pickle": b"\x80\x02}q\x00." + bytes(200),
    "a Git LFS pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n",
    "a web page": b"<!DOCTYPE html><html><body>404</body></html>" * 4,
    "a PNG": b"\x89PNG\r\n\x1a\n" + bytes(200),
    "a JPEG": b"\xff\xd8\xff\xe0" + bytes(200),
    "no tensors": raw({}),
    "metadata alone": raw({"__metadata__": {"format": "pt"}}),
    "NaN": with_value(float("nan")),
    "infinity": with_value(float("inf")),
    "a full model": save({"model.layers.0.self_attn.q_proj.weight": torch.ones(8, 8)}),
    "a textual inversion": save({"emb_params": torch.ones(4, 768)}),
    "IA3": save({"base_model.model.k_proj.ia3_l": torch.ones(8, 1)}),
    "VeRA": save({"base_model.model.q.vera_lambda_b": torch.ones(8)}),
    "OFT": save({"base_model.model.q.oft_r": torch.ones(2, 4, 4)}),
    "only halves of pairs": save({"unet.a.to_q.lora_A.weight": A}),
    "halves of two different modules": save(
        {"unet.a.to_q.lora_A.weight": A, "unet.b.to_q.lora_B.weight": B}
    ),
    "ranks that do not meet": kohya(torch.ones(4, 16), torch.ones(24, 5)),
    "a rank of two thousand": kohya(torch.ones(2000, 4), torch.ones(4, 2000)),
    "vectors instead of matrices": kohya(torch.ones(4), torch.ones(4)),
    "six dimensions": kohya(torch.ones(4, 2, 1, 1, 1, 1), torch.ones(4, 4)),
    "whole numbers as weights": kohya(
        torch.ones(4, 16, dtype=torch.int64), torch.ones(24, 4, dtype=torch.int64)
    ),
    "booleans as weights": kohya(
        torch.ones(4, 16, dtype=torch.bool), torch.ones(24, 4, dtype=torch.bool)
    ),
    "alpha that is NaN": kohya(A, B, alpha=torch.tensor(float("nan"))),
    "alpha that is a matrix": kohya(A, B, alpha=torch.ones(3, 3)),
    "LoHa with a part missing": save(
        {f"lora_unet_x.hada_w{i}": torch.ones(4, 4) for i in ("1_a", "1_b", "2_a")}
    ),
    "LoKr of parts that do not fit": save(
        {"lora_unet_x.lokr_w1_a": torch.ones(2, 3), "lora_unet_x.lokr_w1_b": torch.ones(7, 2),
         "lora_unet_x.lokr_w2": torch.ones(5)}
    ),
    "a Tucker core of another rank": kohya(
        torch.ones(4, 16, 1, 1), torch.ones(24, 4, 1, 1),
        **{"lora_mid.weight": torch.ones(9, 9, 3, 3)},
    ),
    "a Tucker core with an up of three dimensions": kohya(
        torch.ones(4, 3, 1, 1), torch.ones(1, 2, 4),
        **{"lora_mid.weight": torch.ones(2, 4, 2, 3)},
    ),
    "an AdaLoRA whose count of ranks is a matrix": save(
        {"a.lora_A": torch.ones(4, 8), "a.lora_B": torch.ones(6, 4), "a.lora_E": torch.ones(4, 1),
         "a.ranknum": torch.ones(3, 3)}
    ),
}  # fmt: skip

BAD |= {
    "all modules of rank 0": save(
        {"unet.a.lora_A.weight": torch.ones(0, 16), "unet.a.lora_B.weight": torch.ones(24, 0)}
    ),
    "every factor empty, as ZeRO-3 leaves them": save(
        {"unet.a.lora_A.weight": torch.ones(0), "unet.a.lora_B.weight": torch.ones(0)}
    ),
    "factors in 8 bits without their scales": kohya(
        torch.ones(4, 16, dtype=torch.int8), torch.ones(24, 4, dtype=torch.int8)
    ),
    "factors in 8 bits with scales of another length": kohya(
        torch.ones(4, 16, dtype=torch.int8), torch.ones(24, 4, dtype=torch.int8),
        **{"lora_down.scale_weight": torch.ones(3), "lora_up.scale_weight": torch.ones(24)},
    ),
    "factors in 8 bits whose scale is NaN": kohya(
        torch.ones(4, 16, dtype=torch.int8), torch.ones(24, 4, dtype=torch.int8),
        **{"lora_down.scale_weight": torch.tensor(float("nan")),
           "lora_up.scale_weight": torch.ones(1)},
    ),
    "sparse entries at places beyond all bounds": save(
        {"a.shira_weight": torch.ones(2), "a.shira_indices": torch.tensor([[0, 2**40], [0, 2**40]])}
    ),
    "sparse entries at negative places": save(
        {"a.shira_weight": torch.ones(2), "a.shira_indices": torch.tensor([[0, -1], [0, 1]])}
    ),
    "a circulant kernel that expands to 400 MB": eights(c3a_kernel=(1, 1, 10_000)),
    "tiles of two sizes": save(
        {"a.gralora_A": torch.ones(2, 4, 4), "a.gralora_B": torch.ones(3, 4, 6)}
    ),
    "experts of two numbers": save(
        {"a.lora_A.weight": torch.ones(3, 2, 8), "a.lora_B.weight": torch.ones(4, 6, 2)}
    ),
    "half of a surrogate pair in a name": raw(
        {"\ud800.lora_A.weight": entry([1, 2], 0, 8), "\ud800.lora_B.weight": entry([2, 1], 8, 16)},
        bytes(16),
    ),
    "half of a surrogate pair in the metadata": raw(
        {"__metadata__": {"ss_output_name": "\udfff"}, **ONE}, bytes(16)
    ),
    "DoRA's magnitudes that are NaN": kohya(A, B, dora_scale=torch.full((24, 1), float("nan"))),
    "20 kB of a Tucker core that expands to 400 MB": eights(
        **{"lora_down.weight": (1, 10_000, 1, 1), "lora_up.weight": (4, 1, 1, 1),
           "lora_mid.weight": (1, 1, 100, 100)}
    ),
    "20 kB of a LoKr that expands to 400 MB": eights(lokr_w1=(10_000, 1), lokr_w2=(10_000, 1)),
    "60 kB of a LoKr whose core expands to 400 MB": eights(
        lokr_w1=(1, 1), lokr_w2_a=(1, 1), lokr_w2_b=(1, 10_000), lokr_t2=(1, 1, 100, 100)
    ),
    "20 kB of a LoHa that expands to 400 MB": eights(
        hada_w1_a=(10_000, 17), hada_w1_b=(17, 10_000), hada_w2_a=(10_000, 17),
        hada_w2_b=(17, 10_000),
    ),
}  # fmt: skip

ODD: dict[str, bytes] = {
    "a LoHa of rank 600, which has 360,000 columns": eights(
        hada_w1_a=(600, 600), hada_w1_b=(600, 600), hada_w2_a=(600, 600), hada_w2_b=(600, 600)
    ),
    "a full difference of nine million numbers": eights(diff=(3072, 3072)),
    "a no-op": kohya(A, 0 * B),
    "no alpha": kohya(A, B),
    "alpha of zero": kohya(A, B, alpha=torch.tensor(0.0)),
    "a negative alpha": kohya(A, B, alpha=torch.tensor(-4.0)),
    "half precision": kohya(A.half(), B.half()),
    "bfloat16": kohya(A.bfloat16(), B.bfloat16()),
    "values of 1e-40": kohya(A * 1e-40, B * 1e-40),
    "values of 1e18": kohya(A * 1e18, B * 1e18),
    "a rank beyond both sides": kohya(torch.ones(64, 4), torch.ones(5, 64)),
    "a stray tensor beside a pair": save({**PAIR, "stray": torch.ones(3)}),
    "a NaN beside a pair": save({**PAIR, "stray": torch.tensor([float("nan")])}),
    "markup as a name": save(
        {"<img src=x onerror=alert(1)>.lora_A.weight": A,
         "<img src=x onerror=alert(1)>.lora_B.weight": B}
    ),
    "a path as a name": save({"../../etc/passwd.lora_A.weight": A,
                              "../../etc/passwd.lora_B.weight": B}),
    "a name of fifty thousand letters": save(
        {"x" * 50_000 + ".lora_A.weight": A, "x" * 50_000 + ".lora_B.weight": B}
    ),
    "an empty tensor beside a pair": save({**PAIR, "stray": torch.ones(0)}),
    "a module of rank 0 beside a pair": save(
        {**PAIR, "unet.b.lora_A.weight": torch.ones(0, 16),
         "unet.b.lora_B.weight": torch.ones(24, 0)}
    ),
    "metadata that claim to be mLoRA": save(PAIR, {"wsdemo": '{"representation": "mlora"}'}),
    "an adapter configuration that is no JSON": save(PAIR, {"lora_adapter_metadata": "{{{"}),
    "an adapter configuration of the wrong kind": save(PAIR, {"lora_adapter_metadata": "[1]"}),
    "alpha as a text in the configuration": save(
        PAIR, {"lora_adapter_metadata": '{"unet.r": 4, "unet.lora_alpha": "many"}'}
    ),
}  # fmt: skip
