"""Tokens: who may read what, and where a token goes."""

import pytest

from tests.hub.acme import fetched, resolved
from wsdemo.errors import WsdemoError

MINE = "hf_secretsecret"


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
