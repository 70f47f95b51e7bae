"""Fixture: the loopback Hub with what acme keeps there, and huggingface_hub pointed at it."""

import json

import pytest
from huggingface_hub import constants

from tests.hub.acme import CONFIG, adapter
from tests.hub.loopback import Hub
from wsdemo.hub import client as hub


@pytest.fixture
def loopback(monkeypatch, tmp_path):
    server = Hub()
    server.files["acme/lora"] = {
        "README.md": b"hi",
        "adapter_config.json": json.dumps(CONFIG).encode(),
        "adapter_model.safetensors": adapter(),
    }
    server.files["acme/many"] = {f"v{i}.safetensors": adapter(rank=i + 1) for i in range(3)}
    server.files["acme/pickle"] = {"pytorch_model.bin": b"x", "README.md": b"hi"}
    server.files["acme/one"] = {"deep/er/x.safetensors": adapter(), "config.json": b"{}"}
    server.card["acme/lora"] = {"base_model": "acme/base"}
    monkeypatch.setattr(constants, "ENDPOINT", server.address)
    monkeypatch.setattr(
        constants, "HUGGINGFACE_CO_URL_TEMPLATE",
        server.address + "/{repo_id}/resolve/{revision}/{filename}",
    )  # fmt: skip
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.hf_api.constants.ENDPOINT", server.address)
    monkeypatch.setattr(hub, "HUB_SECONDS", 1.0)
    monkeypatch.setenv("WSDEMO_DOWNLOADS", str(tmp_path / "downloads"))
    yield server
    server.close()
