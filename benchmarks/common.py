"""What the benchmarks share: where results lie, and on what they were measured."""

import argparse
import json
import os
import platform
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from wsdemo.files import write_whole
from wsdemo.runtime import choose_threads, tune_allocator

DOCS = Path(__file__).resolve().parent.parent / "docs"
RESULTS = Path(os.environ.get("WSDEMO_RESULTS", DOCS / "results"))
"""Where results are kept; benchmarks/paper_a.py --quick keeps its own elsewhere."""
T = TypeVar("T")


def scaled(full: T, quick: T) -> T:
    """A setting of a benchmark, or its small form under ``paper_a --quick``."""
    return quick if os.environ.get("WSDEMO_QUICK") else full


def benchmark_parser(description: str | None) -> argparse.ArgumentParser:
    """The options that all benchmarks understand."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--data", type=Path, help="CelebA archive, or folder of meshes")
    parser.add_argument("--threads", type=int, default=None, help="CPU threads; default: 1")
    return parser


def start(args: argparse.Namespace) -> None:
    """Applies allocator and thread settings."""
    tune_allocator()
    choose_threads(args.threads)


def load_result(name: str) -> dict[str, Any]:
    """A stored result, empty if there is none."""
    path = RESULTS / f"{name}.json"
    return json.loads(path.read_text()) if path.exists() else {}


def store_result(name: str, command: str, values: dict[str, Any]) -> None:
    """Writes a result with the command and the machine that made it."""
    machine = (
        f"{platform.machine()}, {torch.get_num_threads()} CPU threads, torch {torch.__version__}"
    )
    content = {"command": command, "machine": machine, "values": values}
    write_whole(RESULTS / f"{name}.json", json.dumps(content, indent=1) + "\n")


class Silent(nn.Module):
    """A network that adds nothing to the prior."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.config = network.config

    def forward(self, tokens: Tensor, *_: Tensor) -> tuple[Tensor, None]:
        return torch.zeros_like(tokens), None
