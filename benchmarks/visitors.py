"""Do many visitors at once get their own results, soon, without an error?

    python -m benchmarks.visitors --visitors 20 --minutes 5

Starts the app in a process of its own and lets visitors do, over its API, what people do: draw
four faces, read a LoRA, ask what its weights say, fit a photo in four seconds, edit a face, open
the page; each pauses as if looking. Every visitor has a LoRA of a rank, a photo of a colour and
seeds of their own, and looks whether the answer is theirs. Of who waits, it is noted whether they
were told their place and the time.

Memory is the app's resident set, every two seconds; it is called flat if its last quarter is no
higher than its second by more than a tenth. Loads of the machine stand beside the figures: on
cores that others use too, latencies are upper bounds.
"""

import contextlib
import os
import random
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file

from benchmarks.common import benchmark_parser, start, store_result

ROOT = Path(__file__).resolve().parent.parent
COMMAND = "python -m benchmarks.visitors --visitors {visitors} --minutes {minutes:g}"
SEEDS = 12
"""Faces are drawn with this many seeds, so that the same seed comes back to several visitors."""
MODULES = 16
SHARES = {"passport": 30, "faces": 24, "prediction": 14, "edit": 14, "page": 10, "fit": 8}
"""Of a hundred things that visitors do."""


# ---- the app --------------------------------------------------------------------------------


def free_port() -> int:
    """A port that nobody listens at."""
    with contextlib.closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def started_app() -> tuple[subprocess.Popen[bytes], str]:
    """The app, as ``python app.py`` starts it, and its address."""
    port = free_port()
    environment = os.environ | {"PORT": str(port), "WSDEMO_OPEN_BROWSER": "0"}
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "app.py")], env=environment, stdout=subprocess.DEVNULL
    )
    address = f"http://127.0.0.1:{port}/"
    while True:
        with contextlib.suppress(OSError):
            urllib.request.urlopen(address + "config", timeout=5).close()
            return process, address
        if process.poll() is not None:
            raise SystemExit(f"the app ended while starting: {process.returncode}")
        time.sleep(0.5)


def memory_of(process: int) -> float:
    """Resident megabytes of a process."""
    text = Path(f"/proc/{process}/status").read_text()
    line = next(line for line in text.splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) / 1024


# ---- a visitor ------------------------------------------------------------------------------


@dataclass
class Notes:
    """What all visitors saw."""

    seconds: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    waited: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    errors: list[str] = field(default_factory=list)
    crossed: list[str] = field(default_factory=list)
    told_place: int = 0
    in_queue: int = 0
    faces: dict[int, bytes] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)


def write_files(folder: Path, number: int) -> None:
    """A visitor's own LoRA, of rank ``number + 1``, and photo, of a colour of its own."""
    generator = torch.Generator().manual_seed(number)
    rank, tensors = number + 1, {}
    for i in range(MODULES):
        name = f"transformer.blocks.{i}.attn.to_q"
        tensors[f"{name}.lora_A.weight"] = torch.randn(rank, 128, generator=generator)
        tensors[f"{name}.lora_B.weight"] = torch.randn(128, rank, generator=generator)
    save_file(tensors, folder / f"{number}.safetensors")
    colour = tuple(int(c) for c in np.random.default_rng(number).integers(30, 226, 3))
    Image.new("RGB", (96, 96), colour).save(folder / f"{number}.png")


class Visitor:
    """One of them, with files of their own and a connection of their own."""

    def __init__(self, number: int, address: str, folder: Path, notes: Notes) -> None:
        from gradio_client import Client, handle_file

        self.number, self.address, self.notes = number, address, notes
        self.random = random.Random(number)
        self.client = Client(address, verbose=False, download_files=str(folder / f"got{number}"))
        self.lora = handle_file(str(folder / f"{number}.safetensors"))
        self.photo_path = folder / f"{number}.png"
        self.photo = handle_file(str(self.photo_path))
        self.does: dict[str, Callable[[], str]] = {
            name: getattr(self, name) for name in SHARES
        }  # fmt: skip

    def asked(self, kind: str, *args: Any, **kwargs: Any) -> Any:
        """An answer; whether the visitor had to queue, and was told where, is noted."""
        job = self.client.submit(*args, **kwargs)
        places, began = [], time.monotonic()
        while not job.done():
            status = job.status()
            if status.code.name == "IN_QUEUE":
                places.append((status.rank, status.eta))
                self.notes.waited[kind].append(time.monotonic() - began)
            time.sleep(0.2)  # twenty who looked more often would take a core of their own
        result = job.result()
        if len(places) > 2:  # half a second: long enough to be told
            with self.notes.lock:
                self.notes.in_queue += 1
                self.notes.told_place += any(r is not None and e is not None for r, e in places)
        return result

    def passport(self) -> str:
        card, *_ = self.asked("passport", self.lora, None, api_name="/inspect_lora")
        wanted = f"rank {self.number + 1}, {MODULES} modules"
        return "" if wanted in card else f"{wanted} expected, {card[:200]}"

    def prediction(self) -> str:
        answer, *_ = self.asked("prediction", self.lora, None, api_name="/predict_lora")
        return "" if answer else "no answer about the LoRA"

    def faces(self) -> str:
        seed = self.random.randrange(SEEDS)
        gallery, status = self.asked("faces", count=4, seed=seed, api_name="/sample_faces")
        if f"4 faces, seed {seed}," not in status:
            return f"seed {seed} expected, {status[:100]}"
        content = b"".join(Path(one["image"]).read_bytes() for one in gallery)
        with self.notes.lock:
            same = self.notes.faces.setdefault(seed, content)
        return "" if same == content else f"other faces than before for seed {seed}"

    def fit(self) -> str:
        answer = self.asked("fit", self.photo, api_name="/fit_picture")
        status, comparison = answer[2], answer[3]
        if "Done" not in status:
            return f"a fit ended with {status[:100]}"
        seen = np.asarray(Image.open(comparison[0]).convert("RGB"))[8, 8].astype(int)
        sent = np.asarray(Image.open(self.photo_path))[8, 8].astype(int)
        return "" if np.abs(seen - sent).max() < 12 else f"a photo of {sent} came back as {seen}"

    def edit(self) -> str:
        strength = round(self.random.uniform(0.5, 2), 1)
        answer = self.asked("edit", None, strength=strength, api_name="/edit_face")
        return "" if len(answer) >= 4 and answer[1] else "no edited face"

    def page(self) -> str:
        with urllib.request.urlopen(self.address, timeout=60) as answer:
            text = answer.read()
        return "" if b"wsdemo" in text else "no page"

    def stay(self, until: float, pause: float) -> None:
        """Does one thing after the other until it is time to go."""
        kinds, weights = list(SHARES), list(SHARES.values())
        time.sleep(self.random.uniform(0, 2 * pause))
        while time.monotonic() < until:
            (kind,) = self.random.choices(kinds, weights)
            began = time.monotonic()
            try:
                wrong = self.does[kind]()
                with self.notes.lock:
                    self.notes.seconds[kind].append(time.monotonic() - began)
                    if wrong:
                        self.notes.crossed.append(f"{kind}: {wrong}")
            except Exception as error:
                with self.notes.lock:
                    self.notes.errors.append(f"{kind}: {type(error).__name__}: {error}"[:300])
            time.sleep(self.random.uniform(0.5, 1.5) * pause)


# ---- the whole ------------------------------------------------------------------------------


def figures(seconds: list[float]) -> dict[str, float]:
    """Count, median, 95 % and longest, in seconds."""
    values = np.array(seconds)
    return {
        "count": len(seconds),
        "median": round(float(np.median(values)), 3),
        "p95": round(float(np.quantile(values, 0.95)), 3),
        "longest": round(float(values.max()), 3),
    }


def is_flat(memory: list[float]) -> bool:
    """Whether the last quarter is no higher than the second by more than a tenth."""
    quarter = max(1, len(memory) // 4)
    second, last = memory[quarter : 2 * quarter] or memory, memory[-quarter:]
    return float(np.median(last)) <= 1.1 * float(np.median(second))


def visit(visitors: int, minutes: float, pause: float) -> dict[str, Any]:
    """Starts the app, sends the visitors, and says what came of it."""
    process, address = started_app()
    try:
        with tempfile.TemporaryDirectory() as name:
            folder, notes, memory = Path(name), Notes(), [memory_of(process.pid)]
            for number in range(visitors):
                write_files(folder, number)
            people = [Visitor(n, address, folder, notes) for n in range(visitors)]
            loads, until = [os.getloadavg()[0]], time.monotonic() + 60 * minutes
            threads = [threading.Thread(target=p.stay, args=(until, pause)) for p in people]
            for thread in threads:
                thread.start()
            while any(thread.is_alive() for thread in threads):
                time.sleep(2)
                memory.append(memory_of(process.pid))
                loads.append(os.getloadavg()[0])
            is_alive = process.poll() is None
    finally:
        process.terminate()
        process.wait(timeout=60)
    return {
        "visitors": visitors,
        "minutes": minutes,
        "pause_seconds": pause,
        "cores": os.cpu_count(),
        "load": {"before": round(loads[0], 1), "median": round(float(np.median(loads)), 1)},
        "requests": sum(map(len, notes.seconds.values())),
        "errors": len(notes.errors),
        "first_errors": notes.errors[:5],
        "crossed": len(notes.crossed),
        "first_crossed": notes.crossed[:5],
        "waited_over_half_a_second": notes.in_queue,
        "of_them_told_place_and_time": notes.told_place,
        "app_is_alive": is_alive,
        "memory_mb": {
            "start": round(memory[0]), "median": round(float(np.median(memory))),
            "most": round(max(memory)), "end": round(memory[-1]), "is_flat": is_flat(memory),
        },
        "seconds": {kind: figures(values) for kind, values in sorted(notes.seconds.items())},
    }  # fmt: skip


def main() -> None:
    parser = benchmark_parser(__doc__)
    parser.add_argument("--visitors", type=int, default=20)
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--pause", type=float, default=3.0, help="seconds of looking, on average")
    args = parser.parse_args()
    start(args)
    values = visit(args.visitors, args.minutes, args.pause)
    command = COMMAND.format(visitors=args.visitors, minutes=args.minutes)
    store_result("visitors", command, values)
    for key, value in values.items():
        print(f"{key}: {value}")
    raise SystemExit(0 if not (values["errors"] or values["crossed"]) else 1)


if __name__ == "__main__":
    main()
