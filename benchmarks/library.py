"""How fast is a library of LoRAs built, and does it find what holds the same?

    python -m benchmarks.library --count 10000 --planted 200

Writes COUNT LoRAs of Stable Diffusion 1's attention (128 modules, rank 4, half precision, 1.6 MB
each, random factors whose singular values fall) to a temporary folder; among them PLANTED of each
kind of copy: the same file, other factors, another program's names, cut to rank 2, at another
strength, and merges of two others. Builds the library by the command line with one and with two
workers, the files in the page cache as far as they fit, and compares with reading their bytes alone
in the same run, before and after. Memory is the resident memory of all processes together, looked
at twice a second. At the end the folder is deleted.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from benchmarks.common import benchmark_parser, start, store_result
from wsdemo.library.duplicates import duplicates
from wsdemo.library.query import find, like, positions
from wsdemo.lora.arithmetic import Size, regauge, resize
from wsdemo.lora.merging import merge
from wsdemo.lora.modules import Lora
from wsdemo.lora.reader import read_lora
from wsdemo.lora.writing import write_lora

COMMAND = "python -m benchmarks.library --count {count} --planted {planted}"
RANK, CUT = 4, 2
FALL = 0.6
"""Ratio of one singular value to the one before it, about."""
KINDS = ("same file", "other factors", "other spelling", "shrunk", "rescaled", "merge")
SAID = {
    "same file": {"same file"}, "other factors": {"same update"},
    "other spelling": {"same update"}, "shrunk": {"shrunk"}, "rescaled": {"rescaled"},
    "merge": {"merge"},
}  # fmt: skip
"""What ``library duplicates`` calls each."""
BLOCKS = (
    *((f"down_blocks.{i}.attentions.{j}", 320 * 2**i) for i in range(3) for j in range(2)),
    ("mid_block.attentions.0", 1280),
    *((f"up_blocks.{i}.attentions.{j}", 320 * 2 ** (3 - i)) for i in range(1, 4) for j in range(3)),
)
"""Attention blocks of SD 1's UNet and their width."""
TEXT = 768


def sites() -> Iterator[tuple[str, int, int]]:
    """(name, rows, columns) of the 128 modules."""
    for block, width in BLOCKS:
        for attention in ("attn1", "attn2"):
            for layer in ("to_q", "to_k", "to_v", "to_out.0"):
                is_text = attention == "attn2" and layer in ("to_k", "to_v")
                name = f"unet.{block}.transformer_blocks.0.{attention}.{layer}"
                yield name, width, TEXT if is_text else width


def write_plain(path: Path, seed: int) -> None:
    """One LoRA of its own."""
    g = torch.Generator().manual_seed(seed)
    strength = float(0.02 * 2 ** torch.randn((), generator=g))
    fall = FALL ** torch.arange(RANK)
    tensors = {}
    for name, rows, columns in sites():
        up = torch.randn(rows, RANK, generator=g) * fall * strength
        tensors[f"{name}.lora_B.weight"] = up.half()
        tensors[f"{name}.lora_A.weight"] = torch.randn(RANK, columns, generator=g).half()
    save_file(tensors, path, {"format": "pt"})


def made(kind: str, folder: Path, first: str, second: str, seed: int) -> Lora:
    """What a copy of a kind holds."""
    one = read_lora(folder / first)
    if kind == "other factors":
        return regauge(one, seed)
    if kind == "shrunk":
        return resize(one, Size(1.0, CUT))[0]
    if kind == "rescaled":
        return merge([one], [0.3 + 0.5 * (seed % 7)])
    if kind == "merge":
        return merge([one, read_lora(folder / second)], [0.8, 0.6])
    return one


def write_all(folder: Path, count: int, planted: int) -> list[tuple[str, str, tuple[str, ...]]]:
    """Writes the files; returns (kind, copy, files that it is made of)."""
    plain = [f"plain-{i:05d}.safetensors" for i in range(count - len(KINDS) * planted)]
    for seed, name in enumerate(plain):
        write_plain(folder / name, seed)
    sources = iter(plain)
    copies = []
    for kind in KINDS:
        for i in range(planted):
            first, *others = islice(sources, 2 if kind == "merge" else 1)
            name = f"{kind.replace(' ', '-')}-{i:05d}.safetensors"
            if kind == "same file":
                shutil.copy(folder / first, folder / name)
            else:
                style = "kohya" if kind in ("other spelling", "merge") else "same"
                lora = made(kind, folder, first, (others or [""])[0], i)
                write_lora(lora, folder / name, style, "float16")
            copies.append((kind, name, (first, *others)))
    return copies


# ---- measuring -----------------------------------------------------------------------------


def read_bytes(folder: Path) -> dict[str, float]:
    """Reads every byte and does nothing with it."""
    started, size, count = time.perf_counter(), 0, 0
    for path in sorted(folder.glob("*.safetensors")):
        size += len(path.read_bytes())
        count += 1
    seconds = time.perf_counter() - started
    return {"seconds": seconds, "files_a_second": count / seconds, "gigabytes": size / 2**30}


def tree_memory(pid: int) -> int:
    """Resident bytes of a process and its children, as far as they can be seen."""
    total, waiting = 0, [pid]
    while waiting:
        one = waiting.pop()
        try:
            fields = Path(f"/proc/{one}/statm").read_text().split()
            total += int(fields[1]) * os.sysconf("SC_PAGE_SIZE")
            for task in Path(f"/proc/{one}/task").iterdir():
                waiting += map(int, (task / "children").read_text().split())
        except (OSError, ValueError):  # it has just ended
            continue
    return total


def built(folder: Path, out: Path, workers: int) -> dict[str, float]:
    """Builds a library as a user does; wall time, processor time, peak memory."""
    command = [sys.executable, "-m", "wsdemo", "library", "build", str(folder), "--out", str(out),
               "--workers", str(workers)]  # fmt: skip
    before, started, load = os.times(), time.perf_counter(), os.getloadavg()[0]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    peak = 0
    done = threading.Event()

    def watch() -> None:
        nonlocal peak
        while not done.wait(0.5):
            peak = max(peak, tree_memory(process.pid))

    watcher = threading.Thread(target=watch)
    watcher.start()
    status = process.wait()
    seconds = time.perf_counter() - started
    done.set()
    watcher.join()
    if status != 0:
        raise SystemExit(f"library build ended with {status}")
    after = os.times()
    work = after.children_user + after.children_system
    work -= before.children_user + before.children_system
    count = len(list(folder.glob("*.safetensors")))
    return {
        "seconds": seconds, "files_a_second": count / seconds, "processor_seconds": work,
        "processor_ms_a_file": 1000 * work / count, "peak_gigabytes": peak / 2**30,
        "load_before": load, "load_after": os.getloadavg()[0],
    }  # fmt: skip


def judged(library: Path, copies: list[tuple[str, str, tuple[str, ...]]]) -> dict[str, Any]:
    """How many of the planted copies are found, and how many groups are of none."""
    seconds, groups = timed(lambda: duplicates(library))
    found: Counter[str] = Counter()
    true = set()
    for kind, name, parts in copies:
        for number, group in enumerate(groups):
            if group.kind in SAID[kind] and {name, *parts} <= set(group.files):
                found[kind] += 1
                true.add(number)
                break
    false = [list(g.files)[:4] for number, g in enumerate(groups) if number not in true]
    return {"seconds": seconds, "found": dict(found), "groups": len(groups),
            "false": len(false), "first_false": false[:5]}  # fmt: skip


def timed(run: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds, and what a function gives."""
    started = time.perf_counter()
    value = run()
    return time.perf_counter() - started, value


def measure(count: int, planted: int, root: Path, has_map: bool) -> dict[str, Any]:
    """All of it in one folder."""
    folder = root / "loras"
    folder.mkdir()
    seconds, copies = timed(lambda: write_all(folder, count, planted))
    print(f"{count} files written in {seconds:.0f} s", flush=True)
    values: dict[str, Any] = {"count": count, "planted": planted, "modules": len(list(sites()))}
    read_bytes(folder)  # into the page cache
    values["bytes_before"] = read_bytes(folder)
    for workers in (1, 2):
        values[f"workers_{workers}"] = built(folder, root / f"lib-{workers}", workers)
        print(workers, values[f"workers_{workers}"], flush=True)
    values["bytes_after"] = read_bytes(folder)
    library = root / "lib-1"
    values["again_seconds"] = built(folder, library, 1)["seconds"]
    values["duplicates"] = judged(library, copies)
    condition = "rank >= 4 and norm > 1"
    values["find_seconds"] = timed(lambda: find(library, condition, 100_000))[0]
    values["like_seconds"] = timed(lambda: like(library, folder / copies[0][1]))[0]
    if has_map:
        values["map_seconds"] = timed(lambda: positions(library))[0]
    values["library_megabytes"] = sum(p.stat().st_size for p in library.iterdir()) / 2**20
    return values


def main() -> None:
    parser = benchmark_parser(__doc__)
    parser.add_argument("--count", type=int, default=10_000, help="LoRAs")
    parser.add_argument("--planted", type=int, default=200, help="copies of each kind")
    parser.add_argument("--no-map", action="store_true", help="do not measure the map")
    args = parser.parse_args()
    start(args)
    if args.count < 2 * len(KINDS) * args.planted + args.planted:
        parser.error("each copy needs LoRAs of its own: --count of 13 times --planted at least")
    with tempfile.TemporaryDirectory(prefix="wsdemo-library-") as root:
        values = measure(args.count, args.planted, Path(root), not args.no_map)
    print(values)
    command = COMMAND.format(count=args.count, planted=args.planted)
    store_result("library", command, values)


if __name__ == "__main__":
    main()
