"""``python -m wsdemo mcp``: the LoRA functions as tools of the Model Context Protocol, over stdio.

An assistant starts this program itself and speaks JSON with it on stdin and stdout: no port is
opened, and files are read where they lie. For a client that is configured by JSON:

    {"mcpServers": {"wsdemo": {"command": "python", "args": ["-m", "wsdemo", "mcp"]}}}
"""

import argparse
from collections.abc import Callable
from functools import wraps
from typing import Any

from wsdemo.cli import lol as cli_lol
from wsdemo.cli import lora as cli_lora
from wsdemo.errors import WsdemoError

Result = dict[str, Any]

ABOUT = """Reads LoRA files (.safetensors of any trainer) from disk or the Hugging Face Hub,
measures them without their base model, compares them, and for known families predicts from the
weights alone what they were trained on. Weights of unknown families are not guessed at."""


def inspect_lora(file_or_repo: str) -> Result:
    """Says what a LoRA holds: format, base model, ranks, α, size of its update, what is odd.

    Args:
        file_or_repo: Path of a .safetensors file, or owner/name[@revision][:path] on the Hub.
    """
    return cli_lora.run_inspect(argparse.Namespace(input=cli_lol.lora_file(file_or_repo)))


def predict_lora(file_or_repo: str) -> Result:
    """Predicts from a LoRA's weights what it does, with intervals; abstains with a reason.

    Args:
        file_or_repo: Path of a .safetensors file, or owner/name[@revision][:path] on the Hub.
    """
    return cli_lol.run_predict(argparse.Namespace(input=file_or_repo, predictor=[]))


def compare_loras(first: str, second: str) -> Result:
    """Says how alike two LoRAs of one base model are: cosine, ratio of sizes, hint of origin.

    Args:
        first: Path of a .safetensors file, or owner/name on the Hub.
        second: Likewise.
    """
    files = argparse.Namespace(first=cli_lol.lora_file(first), second=cli_lol.lora_file(second))
    comparison = cli_lora.run_compare(files)
    return comparison | {"modules": comparison["modules"][:20]}


TOOLS: tuple[Callable[..., Result], ...] = (inspect_lora, predict_lora, compare_loras)


def build_server() -> Any:
    """The server with all tools.

    Raises:
        WsdemoError: The package mcp is not installed.
    """
    try:
        from mcp.server.fastmcp import FastMCP
        from mcp.server.fastmcp.exceptions import ToolError
        from mcp.types import ToolAnnotations
    except ImportError as error:
        raise WsdemoError(
            "MCP is not installed",
            "This verb needs the package mcp, which the app does not.",
            "Install it: pip install 'mcp>=1.21,<2'",
        ) from error

    def reporting(tool: Callable[..., Result]) -> Callable[..., Result]:
        """A refusal as the protocol's own kind of error, as the command line words it."""

        @wraps(tool)
        def call(*args: Any, **kwargs: Any) -> Result:
            try:
                return tool(*args, **kwargs)
            except WsdemoError as error:
                raise ToolError(f"{error.title}. {error.message} {error.hint}") from error

        return call

    server = FastMCP("wsdemo", instructions=ABOUT, log_level="WARNING")
    for tool in TOOLS:
        server.add_tool(reporting(tool), annotations=ToolAnnotations(readOnlyHint=True))
    return server


def run_mcp(args: argparse.Namespace) -> Result:
    """``mcp``: serves until stdin is closed. Nothing else may be written to stdout."""
    build_server().run("stdio")
    return {}
