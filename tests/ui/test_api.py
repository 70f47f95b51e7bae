"""The page's functions for other programs: words, examples that run, and tools of MCP."""

import base64
import re
from functools import partial
from pathlib import Path

import anyio
import pytest
import torch
from safetensors.torch import save

from tests.hub.loopback import COMMIT, Hub
from tests.media.shapes import torus
from wsdemo.domains.instances import drawn_instance
from wsdemo.domains.models import diffusion_of, examples_of
from wsdemo.domains.registry import DOMAINS
from wsdemo.media.mesh_files import mesh_bytes
from wsdemo.ui.api.document import document, example_of
from wsdemo.ui.api.page import parameter_words, public
from wsdemo.ui.api.words import File, words_of
from wsdemo.ui.app import launch
from wsdemo.ui.blocks import build_blocks
from wsdemo.ui.fields import files_section

ROOT = Path(__file__).resolve().parent.parent.parent


@pytest.fixture(scope="module")
def page():
    return build_blocks()


@pytest.fixture(scope="module")
def info(page):
    return page.get_api_info()["named_endpoints"]


def test_every_endpoint_has_words_for_all_that_it_takes_and_gives(page, info):
    assert {"/sample_faces", "/fit_picture", "/inspect_lora", "/inspect_hub_lora"} <= set(info)
    for name, endpoint in info.items():
        words = words_of(name.lstrip("/"))
        assert words is not None, name
        assert [r["label"] for r in endpoint["returns"]] == list(words.gives), name
        for output in endpoint["returns"]:
            assert re.fullmatch(r"[a-z_]+", output["label"]), (name, output["label"])
            assert output["python_type"]["description"]
        for parameter in endpoint["parameters"]:
            assert re.fullmatch(r"[a-z_]+", parameter["parameter_name"]), name
            assert parameter["python_type"]["description"], (name, parameter["parameter_name"])
        assert len(endpoint["description"].split()) > 4, name


def test_the_words_are_of_parameters_that_there_are(page, info):
    for name in info:
        takes = parameter_words(page, name.lstrip("/"))
        words = words_of(name.lstrip("/"))
        assert set(words.takes) <= set(takes), name
        assert set(words.example) <= set(takes), name


def test_the_document_is_what_the_command_writes(page):
    assert (ROOT / "docs" / "api.md").read_text() == document(page)


# ---- calls ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def served(page, tmp_path_factory):
    """The page as it ships, on a Hub of this machine: its address."""
    from huggingface_hub import constants

    hub = Hub()
    hub.files["acme/lora"] = {"a.safetensors": lora_bytes(), "b.txt": b"x"}
    patch = pytest.MonkeyPatch()
    patch.setattr(constants, "ENDPOINT", hub.address)
    template = hub.address + "/{repo_id}/resolve/{revision}/{filename}"
    patch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    patch.setattr("huggingface_hub.hf_api.constants.ENDPOINT", hub.address)
    patch.setattr(constants, "HF_HUB_OFFLINE", False)
    patch.setenv("WSDEMO_DOWNLOADS", str(tmp_path_factory.mktemp("downloads")))
    _, address, _ = launch(page, prevent_thread_lock=True, quiet=True)
    yield address
    page.close(verbose=False)
    hub.close()
    patch.undo()


def lora_bytes():
    """A LoRA of Stable Diffusion 1 as kohya's trainer writes it, on two of its modules."""
    block = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0"
    draw = torch.Generator().manual_seed(0)
    tensors = {}
    for name, size in (("attn1_to_q", 320), ("attn2_to_k", 768)):
        tensors[f"{block}_{name}.lora_down.weight"] = torch.randn(4, size, generator=draw)
        tensors[f"{block}_{name}.lora_up.weight"] = torch.randn(320, 4, generator=draw) / 100
        tensors[f"{block}_{name}.alpha"] = torch.tensor(4.0)
    return save(tensors)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """What the examples name."""
    folder = tmp_path_factory.mktemp("files")
    for name in ("lora", "other"):
        (folder / f"{name}.safetensors").write_bytes(lora_bytes())
    for domain in (DOMAINS["faces"], DOMAINS["shapes"]):
        weights = examples_of(domain)
        adapter = diffusion_of(domain).adapter
        instance = drawn_instance(domain, adapter, weights[0], domain.temperature)
        for name in (domain.one, domain.many):
            instance.save(folder / f"{name}.safetensors")
    (folder / "instance.safetensors").write_bytes((folder / "face.safetensors").read_bytes())
    (folder / "mesh.glb").write_bytes(mesh_bytes(torus(), "glb"))
    picture = ROOT / "wsdemo" / "ui" / "examples" / "astronaut.png"
    (folder / "photo.png").write_bytes(picture.read_bytes())
    return folder


def given(value, folder):
    from gradio_client import handle_file

    if isinstance(value, File):
        return handle_file(str(folder / value.name))
    return [given(one, folder) for one in value] if isinstance(value, list) else value


@pytest.mark.usefixtures("coarse_surfaces", "short_fits")
def test_every_example_of_the_document_answers(served, info, files, monkeypatch):
    from gradio_client import Client

    monkeypatch.setattr(files_section, "walk", partial(files_section.walk, count=3))

    client = Client(served, verbose=False, httpx_kwargs={"timeout": 120})
    for name, endpoint in info.items():
        example = example_of(name.lstrip("/"), endpoint["parameters"])
        answer = client.predict(**{k: given(v, files) for k, v in example.items()}, api_name=name)
        count = len(endpoint["returns"])
        assert count == 1 or len(answer) == count, name
        assert any(answer) if count > 1 else answer is not None, name


def test_an_assistant_finds_the_same_functions_as_tools(served, info, files):
    from mcp import ClientSession
    from mcp.client.streamable_http import streamablehttp_client

    async def talk():
        async with (
            streamablehttp_client(f"{served}gradio_api/mcp/") as (read, write, _),
            ClientSession(read, write) as session,
        ):
            await session.initialize()
            tools = {tool.name: tool for tool in (await session.list_tools()).tools}
            photo = base64.b64encode((files / "photo.png").read_bytes()).decode()
            calls = [
                ("inspect_hub_lora", {"reference": "acme/lora:a.safetensors"}),
                ("sample_faces", {"count": 1, "seed": 5, "steps": 5}),
                ("fit_picture", {"path": f"data:image/png;base64,{photo}"}),
                ("inspect_hub_lora", {"reference": "acme/absent"}),
            ]
            return tools, [await session.call_tool(name, args) for name, args in calls]

    tools, (report, drawn, fitted, refused) = anyio.run(talk)
    assert {f"/{name}" for name in tools} == set(info)
    for tool in tools.values():
        assert len(tool.description.split()) > 4
        assert all(p.get("description") for p in tool.inputSchema["properties"].values()), tool.name
    assert not report.isError
    assert COMMIT in report.content[0].text
    assert "passport" in report.content[0].text
    assert not drawn.isError
    assert len(drawn.content) == 2  # an output each, and no state
    assert "1 faces, seed 5" in drawn.content[1].text
    assert not fitted.isError, fitted.content
    assert fitted.content[0].type == "image"
    assert any(c.type == "text" and c.text.startswith("Done") for c in fitted.content)
    assert refused.isError
    assert "No such repository" in refused.content[0].text


def test_public_handlers_are_called_as_their_endpoints(page):
    for name, fn in public(page).items():
        assert fn.fn.__name__ == name
