"""The Hub over real HTTP on this machine: what is fetched, what is refused, and how it is said."""

import pytest

from tests.conftest import Clock
from tests.hub.acme import adapter, fetched, resolved
from tests.hub.loopback import COMMIT
from wsdemo.errors import WsdemoError
from wsdemo.hub import client as hub
from wsdemo.lora.reader import judge_header, read_lora

# ---- asking -------------------------------------------------------------------------------


def test_a_repository_is_resolved_to_one_commit_and_the_usual_file(loopback):
    found = resolved("acme/lora")
    assert found.commit == COMMIT
    assert found.chosen.path == "adapter_model.safetensors"
    assert found.base_model == "acme/base"
    assert found.configs == ("",)


def test_several_files_are_offered_and_one_can_be_named(loopback):
    found = resolved("acme/many")
    assert found.chosen is None
    assert [c.path for c in found.candidates] == [
        "v0.safetensors",
        "v1.safetensors",
        "v2.safetensors",
    ]
    assert resolved("acme/many:v1.safetensors").chosen.path == "v1.safetensors"
    assert resolved("acme/one").chosen.path == "deep/er/x.safetensors"


def test_a_header_is_judged_from_few_bytes(loopback):
    loopback.files["acme/big"] = {"x.safetensors": adapter(rank=8, width=4096, count=8)}
    found = resolved("acme/big")
    peek = hub.peek(found, found.chosen)
    assert "8 modules of rank 8" in judge_header(peek.header)
    assert peek.fetched_bytes < len(loopback.files["acme/big"]["x.safetensors"]) / 10


def test_a_server_that_ignores_ranges_is_not_read_to_the_end(loopback):
    loopback.files["acme/big"] = {"x.safetensors": adapter(rank=8, width=4096, count=8)}
    loopback.fault["x.safetensors"] = "no-range"
    found = resolved("acme/big")
    assert len(hub.peek(found, found.chosen).header.tensors) == 16


def test_a_long_header_is_fetched_in_a_second_request(loopback, monkeypatch):
    monkeypatch.setattr(hub, "_FIRST_BYTES", 256)
    found = resolved("acme/lora")
    assert len(hub.peek(found, found.chosen).header.tensors) == 6


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("acme/none", "No such repository"),
        ("acme/lora@nope", "No such revision"),
        ("acme/lora:nope.safetensors", "No such file"),
        ("acme/pickle", "No safetensors file"),
    ],
)
def test_what_is_not_there_is_told_apart(loopback, text, said):
    with pytest.raises(WsdemoError) as caught:
        resolved(text)
    assert caught.value.title.startswith(said)
    assert caught.value.hint


def test_a_pickle_gets_the_remedy(loopback):
    with pytest.raises(WsdemoError, match="can run code") as caught:
        resolved("acme/pickle")
    assert "convert" in caught.value.hint


@pytest.mark.parametrize(
    ("fault", "said"),
    [(401, "Token needed"), (403, "Not allowed"), (404, "Not found"), (429, "Too many requests"),
     (500, "The Hub has a problem"), (503, "The Hub has a problem"),
     ("gated", "Access must be granted first"), ("slow", "The Hub does not answer")],
)  # fmt: skip
@pytest.mark.parametrize("where", ["api", "adapter_model.safetensors"])
def test_every_failure_has_a_sentence_and_a_remedy(loopback, fault, said, where):
    loopback.fault[where] = fault
    with pytest.raises(WsdemoError) as caught:
        fetched("acme/lora")
    assert caught.value.title.startswith((said, "No such repository"))
    assert caught.value.hint


def test_a_dead_server_is_told(loopback, monkeypatch):
    found = resolved("acme/lora")
    monkeypatch.setattr(hub, "hf_hub_url", lambda *_, **__: "http://127.0.0.1:9/x")
    with pytest.raises(WsdemoError) as caught:
        hub.peek(found, found.chosen)
    assert caught.value.title in ("No connection to the Hub", "The Hub does not answer")


def test_an_answer_that_makes_no_sense_is_told(loopback):
    loopback.fault["api"] = "nonsense"
    with pytest.raises(WsdemoError, match="not understood"):
        resolved("acme/lora")


# ---- fetching -----------------------------------------------------------------------------


def test_a_download_is_the_file_with_its_scale_beside_it(loopback):
    place = fetched("acme/lora")
    assert place.read_bytes() == loopback.files["acme/lora"]["adapter_model.safetensors"]
    lora = read_lora(place)
    assert lora.modules[0].scale == 2.0
    assert lora.base.name == "acme/base"


def test_a_file_whose_name_has_a_space_is_fetched(loopback):
    loopback.files["acme/space"] = {"my lora #1.safetensors": adapter()}
    assert fetched("acme/space").is_file()


def test_a_redirect_is_followed(loopback):
    loopback.fault["adapter_model.safetensors"] = "redirect"
    assert fetched("acme/lora").is_file()


@pytest.mark.parametrize(("fault", "said"), [("cut", "cut off|connection"), ("wrong", "damaged")])
def test_a_body_that_is_not_what_was_promised_leaves_nothing(loopback, fault, said, tmp_path):
    loopback.fault["adapter_model.safetensors"] = fault
    with pytest.raises(WsdemoError, match=f"(?i){said}"):
        fetched("acme/lora")
    assert list((tmp_path / "downloads").iterdir()) == []


def test_a_web_page_instead_of_the_file_is_named_before_the_download(loopback):
    loopback.fault["adapter_model.safetensors"] = "html"
    found = resolved("acme/lora")
    with pytest.raises(WsdemoError, match="web page"):
        hub.peek(found, found.chosen)


def test_stopping_a_download_leaves_nothing(loopback, tmp_path):
    loopback.files["acme/big"] = {"x.safetensors": adapter(rank=64, width=8192, count=8)}
    found = resolved("acme/big")
    steps = hub.download(found, found.chosen)
    next(steps)
    steps.close()
    assert list((tmp_path / "downloads").iterdir()) == []


@pytest.mark.parametrize("step", ["resolve", "peek", "download"])
def test_a_server_that_drips_is_left_at_the_time_limit(loopback, monkeypatch, tmp_path, step):
    found = resolved("acme/lora")
    loopback.fault["api" if step == "resolve" else "adapter_model.safetensors"] = "drip"
    monkeypatch.setattr(hub, "time", Clock(1000.0))  # every byte seems to take that long
    with pytest.raises(WsdemoError, match=r"bytes came in \d+ s"):
        hub.peek(found, found.chosen) if step == "peek" else fetched("acme/lora")
    assert not (tmp_path / "downloads").exists() or not list((tmp_path / "downloads").iterdir())


def test_a_download_that_drips_can_be_stopped_at_once(loopback):
    loopback.fault["adapter_model.safetensors"] = "drip"
    found = resolved("acme/lora")
    steps = hub.download(found, found.chosen)
    next(steps)
    steps.close()  # comes back, though the server waits for leave to go on
    assert not loopback.go_on.is_set()


def test_a_file_beyond_the_limit_is_refused_without_fetching_it(loopback, monkeypatch):
    monkeypatch.setattr(hub, "MAX_LORA_BYTES", 100)
    found = resolved("acme/lora")
    with pytest.raises(WsdemoError, match="are allowed"):
        hub.peek(found, found.chosen)
    assert all("/resolve/" not in path for path, _ in loopback.requests)
