"""What the benchmarks share: where results lie, and on what they were measured."""

import argparse
import json
import platform
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from wsdemo.runtime import tune_allocator

RESULTS = Path(__file__).resolve().parent.parent / "docs" / "results"


def benchmark_parser(description: str | None) -> argparse.ArgumentParser:
    """The options that all benchmarks understand."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--data", type=Path, help="CelebA archive, or folder of meshes")
    parser.add_argument("--threads", type=int, default=None)
    return parser


def start(args: argparse.Namespace) -> None:
    """Applies allocator and thread settings."""
    tune_allocator()
    if args.threads:
        torch.set_num_threads(args.threads)


def load_result(name: str) -> dict[str, Any]:
    """A stored result, empty if there is none."""
    path = RESULTS / f"{name}.json"
    return json.loads(path.read_text()) if path.exists() else {}


def store_result(name: str, command: str, values: dict[str, Any]) -> None:
    """Writes a result with the command and the machine that made it."""
    RESULTS.mkdir(parents=True, exist_ok=True)
    machine = (
        f"{platform.machine()}, {torch.get_num_threads()} CPU threads, torch {torch.__version__}"
    )
    content = {"command": command, "machine": machine, "values": values}
    (RESULTS / f"{name}.json").write_text(json.dumps(content, indent=1) + "\n")


class Silent(nn.Module):
    """A network that adds nothing to the prior."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.config = network.config

    def forward(self, tokens: Tensor, *_: Tensor) -> tuple[Tensor, None]:
        return torch.zeros_like(tokens), None
