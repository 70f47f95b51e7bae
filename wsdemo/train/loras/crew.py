"""Long collections of LoRAs over the machines of a Ray cluster, each worker one after another.

A worker is an object of a class with ``make``, in a process of its own on any machine; what it
makes comes back to the machine that called, which alone keeps it. A worker that fails is replaced,
and its LoRA is left for another call.
"""

import argparse
import math
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import wsdemo
from wsdemo.errors import WsdemoError
from wsdemo.train.loop import log
from wsdemo.train.loras.making import needed

FAILURES = 5
"""So many in a row are no accident, and end the call."""
T = TypeVar("T")


def ray_options(parser: argparse.ArgumentParser) -> None:
    """Adds ``--ray`` and ``--workers``."""
    parser.add_argument("--workers", type=int, default=None, help="of Ray; default: one a GPU")
    parser.add_argument(
        "--ray", default=None,
        help="a cluster's address; auto: this machine's; local: a new one of this machine alone",
    )  # fmt: skip


def hire(
    worker: type, given: Sequence[Any], args: argparse.Namespace
) -> tuple[Callable[[], Any], int]:
    """Starts or joins Ray; returns what makes a worker, and how many there is room for."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    ray = needed("ray")
    if args.ray and args.ray != "local":
        ray.init(args.ray, runtime_env={"py_modules": [str(Path(wsdemo.__file__).parent)]})
    else:
        small = {"num_cpus": 1, "num_gpus": 0, "object_store_memory": 100 * 2**20}
        ray.init("local", include_dashboard=False, **(small if args.toy else {}))
    resources = ray.cluster_resources()
    cpus, gpus = int(resources.get("CPU", 1)), int(resources.get("GPU", 0))
    workers = min(args.workers or gpus or 1, cpus)
    share = 1 / math.ceil(workers / gpus) if gpus else 0  # several workers may share a GPU
    log(f"Ray: {cpus} CPUs, {gpus} GPUs; {workers} workers with {share:.2g} GPUs each")
    remote = ray.remote(num_cpus=1, num_gpus=share)(worker)
    return lambda: remote.remote(*given), workers


def make_all(
    work: Sequence[tuple[str, T]],
    worker: type,
    given: Sequence[Any],
    order: Callable[[T], Sequence[Any]],
    keep: Callable[[T, Any], str],
    args: argparse.Namespace,
) -> int:
    """Makes LoRAs on all workers until all are tried or the time is over.

    Args:
        work: (name, what is to be made).
        worker: Class whose ``make`` makes one.
        given: What a worker is made with.
        order: What ``make`` is called with; asked for when a worker is free.
        keep: Writes what came back; returns what to say of it.
        args: ``minutes``, ``toy``, and those of ``ray_options``.

    Returns:
        How many failed.

    Raises:
        WsdemoError: FAILURES in a row.
    """
    ray = needed("ray")
    try:
        new_worker, workers = hire(worker, given, args)
        return _make_all(work, new_worker, workers, order, keep, args.minutes)
    finally:
        ray.shutdown()


def _make_all(
    work: Sequence[tuple[str, T]],
    new_worker: Callable[[], Any],
    workers: int,
    order: Callable[[T], Sequence[Any]],
    keep: Callable[[T, Any], str],
    minutes: float,
) -> int:
    ray = needed("ray")
    free: list[Any] = [new_worker() for _ in range(workers)]
    busy: dict[Any, tuple[Any, str, T]] = {}
    began, done, failed, in_a_row = time.monotonic(), 0, 0, 0
    left = list(work)[::-1]
    while busy or left:
        is_time_left = time.monotonic() - began < minutes * 60
        while free and left and is_time_left:
            (name, piece), one = left.pop(), free.pop() or new_worker()
            busy[one.make.remote(*order(piece))] = (one, name, piece)
        if not busy:
            break
        (first,), _ = ray.wait(list(busy))
        one, name, piece = busy.pop(first)
        try:
            made = ray.get(first)
        except ray.exceptions.RayError as error:
            failed, in_a_row = failed + 1, in_a_row + 1
            why = str(error).strip().splitlines()[-1][:300]  # Ray shows the rest
            log(f"{name} failed: {why}")
            if in_a_row == FAILURES:
                raise WsdemoError(
                    f"{FAILURES} LoRAs failed in a row", why, "Mend this, then call again."
                ) from error
            ray.kill(one)  # its GPU, its memory or its machine may be what failed
            free.append(None)  # another in its place, once there is work for it
            continue
        text = keep(piece, made)
        free.append(one)
        done, in_a_row = done + 1, 0
        if done % 25 == 0 or not left:
            log(f"{done} LoRAs, {(time.monotonic() - began) / done:.1f} s each; {name}: {text}")
    return failed
