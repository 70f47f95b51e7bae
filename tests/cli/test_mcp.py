"""The MCP tools, asked by the protocol's own client over stdin and stdout; no network."""

import json
import os
import sys
from pathlib import Path

import anyio
import pytest

pytest.importorskip("mcp", reason="the verb mcp is optional")

from mcp import ClientSession, StdioServerParameters
from mcp.client.stdio import stdio_client

from tests.hostile.build import BAD, good

ROOT = Path(__file__).resolve().parent.parent.parent


def asked(*calls):
    """Starts the server as a client does; gives its tools, and the answer to each call."""

    async def talk():
        server = StdioServerParameters(
            command=sys.executable,
            args=["-m", "wsdemo", "mcp"],
            cwd=ROOT,
            env={**os.environ, "HF_HUB_OFFLINE": "1"},
        )
        async with (
            stdio_client(server) as (read, write),
            ClientSession(read, write) as session,
        ):
            await session.initialize()
            tools = {tool.name: tool for tool in (await session.list_tools()).tools}
            return tools, [await session.call_tool(name, given) for name, given in calls]

    return anyio.run(talk)


def test_tools_are_listed_and_answer_as_the_command_line_does(tmp_path):
    path = tmp_path / "a.safetensors"
    path.write_bytes(good())
    bad = tmp_path / "b.safetensors"
    bad.write_bytes(BAD["NaN"])
    tools, answers = asked(
        ("inspect_lora", {"file_or_repo": str(path)}),
        ("predict_lora", {"file_or_repo": str(path)}),
        ("compare_loras", {"first": str(path), "second": str(path)}),
        ("inspect_lora", {"file_or_repo": str(bad)}),
        ("inspect_lora", {"file_or_repo": str(tmp_path / "absent.safetensors")}),
        ("inspect_lora", {"file_or_repo": "owner/name"}),
    )
    assert set(tools) == {"inspect_lora", "predict_lora", "compare_loras"}
    for tool in tools.values():
        assert tool.description
        assert tool.annotations.readOnlyHint
        assert all(p["type"] == "string" for p in tool.inputSchema["properties"].values())
    passport, prediction, comparison, refused, absent, offline = answers
    assert not passport.isError
    assert json.loads(passport.content[0].text)["modules"] == 1
    assert passport.structuredContent["ranks"] == {"4": 1}
    assert prediction.structuredContent["abstained"]
    assert comparison.structuredContent["cosine"] == pytest.approx(1)
    for answer, title in (
        (refused, "Values that are not finite"), (absent, "File not found"), (offline, "Offline"),
    ):  # fmt: skip
        assert answer.isError
        assert title in answer.content[0].text
