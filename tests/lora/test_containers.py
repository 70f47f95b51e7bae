"""Adapters that are no single .safetensors file: folders, shards, .npz, GGUF; and bad ones."""

import contextlib
import json
import struct
import zipfile

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file

from tests.conftest import little_work
from tests.lora.files import rand, write
from wsdemo.cli.main import main
from wsdemo.errors import WsdemoError
from wsdemo.lora.containers.finding import opened
from wsdemo.lora.kept import read_kept
from wsdemo.lora.reader import read_lora

N, M, R = 5, 6, 2
KEY = "base_model.model.model.layers.{}.self_attn.q_proj.lora_{}.weight"
CONFIG = {"peft_type": "LORA", "r": R, "lora_alpha": 4}


def tensors(count=4):
    found = {}
    for i in range(count):
        found[KEY.format(i, "A")], found[KEY.format(i, "B")] = (
            rand(R, M, seed=i),
            rand(N, R, seed=i),
        )
    return found


def shards(folder, parts=2, leave_out=()):
    """A sharded adapter with its index; returns the index."""
    given, folder = tensors(), folder / "sharded"
    keys, where = sorted(given), {}
    for i in range(parts):
        own = keys[i::parts]  # the halves of pairs lie in different files
        name = f"adapter_model-{i + 1:05}-of-{parts:05}.safetensors"
        where |= dict.fromkeys(own, name)
        if i not in leave_out:
            write(folder / name, {k: given[k] for k in own})
    index = folder / "adapter_model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": where}))
    (folder / "adapter_config.json").write_text(json.dumps(CONFIG))
    return index


def whole(folder):
    write(folder / "one" / "adapter_model.safetensors", tensors())
    (folder / "one" / "adapter_config.json").write_text(json.dumps(CONFIG))
    return folder / "one"


def same(lora, tmp_path):
    first = read_lora(whole(tmp_path))
    assert [m.name for m in lora.modules] == [m.name for m in first.modules]
    for module, own in zip(lora.modules, first.modules, strict=True):
        torch.testing.assert_close(module.U @ module.V.T, own.U @ own.V.T)


def test_a_folder_with_one_adapter_is_that_adapter(tmp_path):
    lora = read_lora(whole(tmp_path))
    assert (len(lora.modules), lora.is_exact, lora.source.name) == (
        4, True, "adapter_model.safetensors")  # fmt: skip


def test_the_index_of_shards_and_their_folder_are_read_as_one(tmp_path):
    index = shards(tmp_path)
    for path in (index, index.parent):
        lora = read_lora(path)
        assert lora.is_exact
        assert not lora.warnings
        same(lora, tmp_path)
        assert len(set(lora.places.values())) == 2


def test_a_shard_alone_takes_the_others_along_and_says_so(tmp_path):
    index = shards(tmp_path)
    lora = read_lora(index.with_name("adapter_model-00001-of-00002.safetensors"))
    same(lora, tmp_path)
    assert any("one of 2 parts" in w for w in lora.warnings)


def test_a_shard_whose_others_are_missing_is_not_exact(tmp_path):
    index = shards(tmp_path, parts=3, leave_out=[2])
    for path in (index, index.with_name("adapter_model-00001-of-00003.safetensors")):
        lora = read_lora(path)
        assert not lora.is_exact
        assert any("1 are missing" in w for w in lora.warnings)
        assert read_kept(lora.kept).keys() == {k.key for k in lora.kept}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "no weight_map"),
        ("[]", "no weight_map"),
        ('{"weight_map": {}}', "names no files"),
        ('{"weight_map": {"a": "../../../etc/passwd"}}', "other folders"),
        ('{"weight_map": {"a": "/etc/passwd"}}', "other folders"),
        ('{"weight_map": {"a": ".."}}', "other folders"),
        ('{"weight_map": {"a": "gone.safetensors"}}', "None of the 1 files"),
        (json.dumps({"weight_map": {str(i): f"{i}.safetensors" for i in range(99)}}), "99, of"),
        ("[" * 9000, "no weight_map"),
    ],
)
def test_a_bad_index_is_refused(text, said, tmp_path):
    path = tmp_path / "adapter_model.safetensors.index.json"
    path.write_text(text)
    with pytest.raises(WsdemoError, match=said):
        read_lora(path)


def test_shards_that_hold_a_key_twice_are_refused(tmp_path):
    for i in (1, 2):
        write(tmp_path / f"a-0000{i}-of-00002.safetensors", tensors(1))
    with pytest.raises(WsdemoError, match="Two of them hold"):
        read_lora(tmp_path / "a-00001-of-00002.safetensors")


def test_a_folder_with_none_with_several_or_with_a_pickle_says_so(tmp_path):
    with pytest.raises(WsdemoError, match="holds no"):
        read_lora(tmp_path)
    (tmp_path / "adapter_model.bin").write_bytes(b"PK")
    with pytest.raises(WsdemoError, match="a pickle"):
        read_lora(tmp_path)
    for name in "ab":
        write(tmp_path / f"{name}.safetensors", tensors(1))
    with pytest.raises(WsdemoError, match=r"2 files: a\.safetensors, b\.safetensors"):
        read_lora(tmp_path)


# ---- .npz ------------------------------------------------------------------------

NPZ = {"l.q_proj.lora_a": rand(M, R).numpy(), "l.q_proj.lora_b": rand(R, N).numpy()}


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("kind", ["<f4", "<f2", "fortran"])
def test_mlx_archives_are_read_and_converted(save, kind, tmp_path):
    arrays = {k: np.asfortranarray(v) if kind == "fortran" else v.astype(kind)
              for k, v in NPZ.items()}  # fmt: skip
    save(tmp_path / "adapters.npz", **arrays, extra=np.arange(3))
    (tmp_path / "adapter_config.json").write_text('{"lora_parameters": {"scale": 2.0}}')
    wanted = 2 * (arrays["l.q_proj.lora_a"].astype("f4") @ arrays["l.q_proj.lora_b"].astype("f4")).T
    out = tmp_path / "out.safetensors"
    assert main(["convert", str(tmp_path / "adapters.npz"), "--out", str(out)]) == 0
    assert len(load_file(out)) == 3
    for path in (tmp_path / "adapters.npz", out):
        lora = read_lora(path)
        found = lora.modules[0].U @ lora.modules[0].V.T
        torch.testing.assert_close(found, torch.from_numpy(wanted), rtol=1e-4, atol=1e-5)
        assert lora.is_exact
        assert read_kept(lora.kept)["extra"].tolist() == [0, 1, 2]


def test_bfloat16_of_an_archive_is_read(tmp_path):
    arrays = {k: torch.from_numpy(v).bfloat16().view(torch.int16).numpy().view("V2")
              for k, v in NPZ.items()}  # fmt: skip
    np.savez(tmp_path / "x.npz", **arrays)
    lora = read_lora(tmp_path / "x.npz")
    assert lora.modules[0].dtype == "BF16"
    wanted = (NPZ["l.q_proj.lora_a"] @ NPZ["l.q_proj.lora_b"]).T
    found = lora.modules[0].U @ lora.modules[0].V.T
    torch.testing.assert_close(found, torch.from_numpy(wanted), rtol=0.05, atol=0.05)


def archive(path, members):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in members.items():
            file.writestr(name, content)
    return path


def npy(head, data=b""):
    text = head.encode().ljust(118) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + data


GOOD_HEAD = "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }"
BAD_NPZ = {
    "objects": {"a.npy": npy("{'descr': '|O', 'fortran_order': False, 'shape': (1,), }", bytes(8))},
    "texts": {"a.npy": npy("{'descr': '<U3', 'fortran_order': False, 'shape': (1,), }", bytes(12))},
    "big-endian": {"a.npy": npy(GOOD_HEAD.replace("<", ">"), bytes(24))},
    "no array": {"a.npy": b"hello"},
    "code for a head": {"a.npy": npy("__import__('os').system('false')", bytes(8))},
    "a shape beyond its bytes": {"a.npy": npy(GOOD_HEAD.replace("2, 3", "9999, 9999"), bytes(24))},
    "a negative shape": {"a.npy": npy(GOOD_HEAD.replace("2, 3", "-2, -3"), bytes(24))},
    "a head cut off": {"a.npy": b"\x93NUMPY\x01\x00\xff\xff{"},
    "three gigabytes of zeros announced": None,
}  # fmt: skip


@pytest.mark.parametrize("kind", BAD_NPZ)
def test_a_bad_archive_is_refused(kind, tmp_path):
    path = tmp_path / "x.npz"
    members = BAD_NPZ[kind]
    if members is None:
        archive(path, {"a.npy": npy(GOOD_HEAD, bytes(24))})
        raw = bytearray(path.read_bytes())
        at = raw.rfind(b"PK\x01\x02")
        raw[at + 24 : at + 28] = struct.pack("<I", 3 * 2**30)
        path.write_bytes(bytes(raw))
    else:
        archive(path, members)
    with little_work(), pytest.raises(WsdemoError) as caught:
        read_lora(path)
    assert caught.value.hint


def test_a_zip_that_is_no_archive_of_arrays_is_still_a_pickle(tmp_path):
    torch.save({"a": torch.ones(3)}, tmp_path / "x.npz")
    with pytest.raises(WsdemoError, match="pickle"):
        read_lora(tmp_path / "x.npz")


# ---- GGUF ------------------------------------------------------------------------


def gguf_file(path, alpha=4.0, dtype=None, kind="adapter", embedding=False):
    gguf = pytest.importorskip("gguf")
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_type(kind)
    writer.add_string("adapter.type", "lora")
    writer.add_float32("adapter.lora.alpha", alpha)
    writer.add_array("tokenizer.ggml.tokens", ["a", "b"])
    a, b = rand(32, 64).numpy(), rand(96, 32).numpy()
    for name, X in (("lora_a", a), ("lora_b", b)):
        stored, raw = X, None
        if dtype == "Q8_0":
            raw = gguf.GGMLQuantizationType.Q8_0
            stored = gguf.quants.quantize(X, raw)
        elif dtype == "F16":
            stored = X.astype(np.float16)
        writer.add_tensor(f"blk.0.attn_q.weight.{name}", stored, raw_dtype=raw)
    if embedding:
        writer.add_tensor("token_embd.weight.lora_a", rand(11, 4).numpy())
        writer.add_tensor("token_embd.weight.lora_b", rand(64, 4).numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return torch.from_numpy(b) @ torch.from_numpy(a)


@pytest.mark.parametrize(("dtype", "close"), [(None, 1e-5), ("F16", 1e-3), ("Q8_0", 2e-2)])
@pytest.mark.parametrize(("alpha", "scale"), [(16.0, 0.5), (0.0, 1.0)])
def test_gguf_adapters_are_read_with_llama_cpps_scale(dtype, close, alpha, scale, tmp_path):
    path = tmp_path / "x.gguf"
    BA = gguf_file(path, alpha, dtype)
    lora = read_lora(path)
    (module,) = lora.modules
    assert (module.name, module.scale, module.shape) == ("blk.0.attn_q", scale, (96, 64))
    found = module.U @ module.V.T
    assert float((found - scale * BA).norm() / (scale * BA).norm()) < close
    assert lora.is_exact
    assert lora.family == "llama.cpp"
    out = tmp_path / "y.safetensors"
    assert main(["convert", str(path), "--out", str(out)]) == 0
    again = read_lora(out).modules[0]
    torch.testing.assert_close(again.U @ again.V.T, found)


def test_gguf_embeddings_lie_the_other_way(tmp_path):
    gguf_file(tmp_path / "x.gguf", alpha=4.0, embedding=True)
    module = next(m for m in read_lora(tmp_path / "x.gguf").modules if m.name == "token_embd")
    torch.testing.assert_close(module.U @ module.V.T, rand(11, 4) @ rand(64, 4).T)
    assert module.is_embedding


def test_a_model_in_gguf_is_no_adapter(tmp_path):
    gguf_file(tmp_path / "x.gguf", kind="model")
    with pytest.raises(WsdemoError, match="GGUF, of the type 'model'"):
        read_lora(tmp_path / "x.gguf")


HEAD = b"GGUF" + struct.pack("<I", 3)
BAD_GGUF = {
    "only its name": b"GGUF",
    "version 1": b"GGUF" + struct.pack("<IQQ", 1, 0, 0) + bytes(40),
    "2^60 tensors": HEAD + struct.pack("<QQ", 2**60, 0) + bytes(40),
    "2^60 values": HEAD + struct.pack("<QQ", 0, 2**60) + bytes(40),
    "a text of 2^62 letters": HEAD + struct.pack("<QQQ", 0, 1, 2**62) + bytes(40),
    "a list of 2^40 numbers": HEAD + struct.pack("<QQQ", 0, 1, 1) + b"k"
    + struct.pack("<IIQ", 9, 4, 2**40) + bytes(40),
    "lists in lists in lists": HEAD + struct.pack("<QQQ", 0, 1, 1) + b"k"
    + struct.pack("<IIQIQIQ", 9, 9, 1, 9, 1, 9, 1) + bytes(80),
    "an unknown kind of value": HEAD + struct.pack("<QQQ", 0, 1, 1) + b"k"
    + struct.pack("<I", 99) + bytes(40),
    "zeros": HEAD + struct.pack("<QQ", 2, 5) + bytes(200),
    "a tensor of type 12": HEAD + struct.pack("<QQQ", 1, 0, 1) + b"t"
    + struct.pack("<IQIQ", 1, 256, 12, 0) + bytes(200),
    "a tensor beyond the file": HEAD + struct.pack("<QQQ", 1, 0, 1) + b"t"
    + struct.pack("<IQQIQ", 2, 2**31, 2**31, 0, 0) + bytes(200),
    "a tensor at 2^63": HEAD + struct.pack("<QQQ", 1, 0, 1) + b"t"
    + struct.pack("<IQIQ", 1, 8, 0, 2**63) + bytes(200),
}  # fmt: skip


@pytest.mark.parametrize("kind", BAD_GGUF)
def test_a_bad_gguf_file_is_refused(kind, tmp_path):
    path = tmp_path / "x.gguf"
    path.write_bytes(BAD_GGUF[kind])
    with little_work(), pytest.raises(WsdemoError, match="GGUF"):
        read_lora(path)


@settings(
    max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 255)), max_size=8), st.data())
def test_no_flipped_byte_of_another_container_does_anything_but_refuse(tmp_path, flips, data):
    kind = data.draw(st.sampled_from(["npz", "gguf"]))
    source = tmp_path / f"good.{kind}"
    if not source.exists():
        if kind == "npz":
            np.savez(source, **NPZ)
        else:
            gguf_file(source)
    raw = bytearray(source.read_bytes())
    for place, value in flips:
        raw[place % len(raw)] = value
    path = tmp_path / f"x.{kind}"
    path.write_bytes(bytes(raw[: len(raw) - data.draw(st.integers(0, 40))]))
    with contextlib.suppress(WsdemoError):
        read_lora(path)


def test_tensors_of_every_container_are_read_as_they_are_stored(tmp_path):
    np.savez(tmp_path / "x.npz", **NPZ)
    gguf_file(tmp_path / "x.gguf", dtype="F16")
    for name in ("x.npz", "x.gguf"):
        with opened(tmp_path / name) as container:
            for key, (_, shape) in container.header.tensors.items():
                assert tuple(container.raw([key])[0].shape) == shape


# ---- one of several adapters ---------------------------------------------------------


def several_in_one_file(path):
    tensors = {}
    for i, name in enumerate(("style", "sub.ject-2")):
        tensors[f"base_model.model.l.q_proj.lora_A.{name}.weight"] = rand(2, 6, seed=i)
        tensors[f"base_model.model.l.q_proj.lora_B.{name}.weight"] = rand(5, 2, seed=i + 5)
    write(path, tensors)
    (path.parent / "adapter_config.json").write_text(
        '{"peft_type": "LORA", "lora_alpha": 2, "r": 2}'
    )
    return tensors


def test_one_of_several_adapters_in_a_file_is_chosen_by_its_name(tmp_path):
    path = tmp_path / "adapter_model.safetensors"
    tensors = several_in_one_file(path)
    first = read_lora(path)
    assert not first.is_exact
    assert any("style, sub.ject-2" in w and "--adapter" in w for w in first.warnings)
    for name in ("style", "sub.ject-2"):
        lora = read_lora(path, adapter=name)
        A, B = (tensors[f"base_model.model.l.q_proj.lora_{x}.{name}.weight"] for x in "AB")
        torch.testing.assert_close(lora.modules[0].U @ lora.modules[0].V.T, B @ A)
        assert lora.is_exact
    with pytest.raises(WsdemoError, match=r"Found style, sub\.ject-2; not 'other'"):
        read_lora(path, adapter="other")


def test_one_of_several_folders_is_chosen_by_its_name(tmp_path):
    for name, seed in (("style", 0), ("subject", 3)):
        write(tmp_path / name / "adapter_model.safetensors", {
            "base_model.model.l.q.lora_A.weight": rand(2, 6, seed=seed),
            "base_model.model.l.q.lora_B.weight": rand(5, 2, seed=seed + 1)})  # fmt: skip
    with pytest.raises(WsdemoError, match="style, subject"):
        read_lora(tmp_path)
    norms = {n: float((m := read_lora(tmp_path, adapter=n).modules[0]).U.norm() * m.V.norm())
             for n in ("style", "subject")}  # fmt: skip
    assert norms["style"] != norms["subject"]
    with pytest.raises(WsdemoError, match="No such adapter"):
        read_lora(tmp_path, adapter="neither")
    write(tmp_path / "adapter_model.safetensors", {
        "base_model.model.l.q.lora_A.weight": rand(2, 6, seed=9),
        "base_model.model.l.q.lora_B.weight": rand(5, 2, seed=8)})  # fmt: skip
    root = read_lora(tmp_path)
    assert any("other adapters: style, subject" in w for w in root.warnings)
    assert read_lora(tmp_path, adapter="default").source == tmp_path / "adapter_model.safetensors"
    assert read_lora(tmp_path, adapter="subject").source.parent.name == "subject"
