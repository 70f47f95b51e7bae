"""Every bad file is refused in a sentence; every odd one is read; nothing else ever happens."""

import contextlib
import json
import resource

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.conftest import little_work
from tests.hostile.build import BAD, ODD, good
from wsdemo.cli.main import main
from wsdemo.errors import WsdemoError
from wsdemo.lol.predictor.answers import ask
from wsdemo.lol.predictor.shipped import shipped_predictors
from wsdemo.lora.passport import passport
from wsdemo.lora.reading import read
from wsdemo.ui.lora.report import card_html, passport_text, table


def everything(path):
    """What the evaluator does with a file."""
    reading = read(path)
    lora, geometry = reading.lora, reading.geometry
    json.dumps(passport(lora, geometry), allow_nan=False)
    table(reading)
    passport_text(reading).encode()
    card_html(reading).encode()
    for module in lora.modules:
        assert torch.isfinite(module.U).all()
        assert torch.isfinite(module.V).all()
    ask(reading, shipped_predictors())
    return lora, geometry


def test_there_are_at_least_forty_kinds_of_bad_file():
    assert len(BAD) >= 40
    assert len(set(BAD.values())) == len(BAD)


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_file_is_refused_in_a_sentence(kind, tmp_path):
    path = tmp_path / "x.safetensors"
    path.write_bytes(BAD[kind])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(WsdemoError) as caught, little_work():
        everything(path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 500_000  # kB
    assert caught.value.title
    assert caught.value.hint
    assert 10 < len(caught.value.message) < 600


@pytest.mark.parametrize("kind", ODD)
def test_an_odd_file_is_read_and_said_to_be_odd(kind, tmp_path):
    path = tmp_path / "x.safetensors"
    path.write_bytes(ODD[kind])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with little_work():
        lora, geometry = everything(path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 500_000  # kB
    assert len(lora.modules) == 1
    if kind in ("a no-op", "alpha of zero"):
        assert geometry.is_no_op
    if kind.startswith(("a stray", "a NaN")):
        assert [i.key for i in lora.ignored] == ["stray"]


@pytest.mark.parametrize("kind", ["empty", "a web page", "NaN", "a full model"])
def test_the_command_line_exits_with_two(kind, tmp_path, capsys):
    path = tmp_path / "x.safetensors"
    path.write_bytes(BAD[kind])
    for verb in ("inspect", "predict"):
        assert main([verb, str(path), "--json"]) == 2
        assert '"error"' in capsys.readouterr().out


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), max_size=12),
    st.integers(0, 400),
)  # fmt: skip
def test_no_flipped_byte_and_no_cut_does_anything_else(tmp_path, flips, cut):
    data = bytearray(good())
    for place, value in flips:
        data[place % len(data)] = value
    path = tmp_path / "x.safetensors"
    path.write_bytes(bytes(data[: len(data) - cut]))
    with contextlib.suppress(WsdemoError):
        everything(path)


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.binary(max_size=400))
def test_no_bytes_do_anything_else(tmp_path, data):
    path = tmp_path / "x.safetensors"
    path.write_bytes(data)
    with pytest.raises(WsdemoError):
        everything(path)
