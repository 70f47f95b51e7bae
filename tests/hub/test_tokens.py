"""Tokens: who may read what, and where a token goes."""

import pytest

from tests.hub.acme import adapter, fetched, resolved
from tests.hub.loopback import Hub
from wsdemo.errors import WsdemoError
from wsdemo.hub import client as hub

MINE, OTHER = "hf_secretsecret", "hf_of_another_visitor"


def test_a_token_goes_with_the_request_and_into_no_error(loopback, capsys):
    fetched("acme/lora", MINE)
    sent = [headers.get("authorization") for _, headers in loopback.requests]
    assert all(value == f"Bearer {MINE}" for value in sent)
    loopback.fault["api"] = 401
    with pytest.raises(WsdemoError) as caught:
        resolved("acme/lora", MINE)
    assert "secret" not in str(caught.value) + caught.value.hint
    assert "secret" not in capsys.readouterr().err


def test_without_a_token_none_is_sent(loopback, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_of_the_machine")
    fetched("acme/lora")
    assert not any("authorization" in headers for _, headers in loopback.requests)


def test_a_token_does_not_follow_a_redirect_to_another_host(loopback):
    storage = Hub()
    storage.files = loopback.files
    loopback.fault["adapter_model.safetensors"] = storage.address
    assert fetched("acme/lora", MINE).is_file()
    storage.close()
    sent = [headers for path, headers in storage.requests if path.endswith("model.safetensors")]
    assert len(sent) == 1
    assert MINE not in str(storage.requests)


@pytest.fixture
def gated(loopback):
    """A gated repository: everybody sees its files, and one visitor may read them."""
    loopback.files["acme/gated"] = {"x.safetensors": adapter()}
    loopback.gated.add("acme/gated")
    loopback.readers["acme/gated"] = {MINE}
    return loopback


@pytest.mark.parametrize("token", [None, OTHER])
def test_the_copy_of_a_gated_file_is_for_those_who_may_read_it(gated, token):
    place = fetched("acme/gated", MINE)
    seen = resolved("acme/gated", token)
    for step in (hub.peek, lambda *given: list(hub.download(*given))):
        with pytest.raises(WsdemoError, match="Access must be granted first") as caught:
            step(seen, seen.chosen, token)
        assert "sign in" in caught.value.hint
    assert place.is_file()


def test_a_reader_of_a_gated_file_gets_its_copy_after_one_byte(gated):
    fetched("acme/gated", MINE)
    before = len(gated.requests)
    fetched("acme/gated", MINE)
    ranges = [headers.get("range") for path, headers in gated.requests[before:] if "/res" in path]
    assert ranges == ["bytes=0-0"]


def test_a_reader_who_is_struck_off_the_list_gets_no_copy_by_what_he_looked_up(gated):
    fetched("acme/gated", MINE)
    seen = resolved("acme/gated", MINE)
    gated.readers["acme/gated"] = set()
    with pytest.raises(WsdemoError, match="Access must be granted first"):
        list(hub.download(seen, seen.chosen, MINE))


@pytest.mark.parametrize("token", [None, OTHER])
def test_a_private_repository_is_not_even_seen_by_others(gated, token):
    gated.gated.clear()
    gated.private.add("acme/gated")
    seen, place = resolved("acme/gated", MINE), fetched("acme/gated", MINE)
    with pytest.raises(WsdemoError, match="or a private one"):
        resolved("acme/gated", token)
    with pytest.raises(WsdemoError, match="or a private one"):
        list(hub.download(seen, seen.chosen, token))
    assert place.is_file()
