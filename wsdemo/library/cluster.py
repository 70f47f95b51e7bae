"""A library read by the workers of a Ray cluster, by Ray Data."""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import wsdemo
from wsdemo.errors import WsdemoError
from wsdemo.library.build import Say, Task, read_task, start_worker
from wsdemo.library.row import Row

TASKS_A_BLOCK = 8
"""Members that a worker takes at once: Ray needs some milliseconds a block."""
INSTALL = 'Install it: pip install "ray[data]"'


def by_ray(tasks: list[Task], address: str, say: Say) -> Iterator[list[Row]]:
    """Rows as the workers of a cluster send them, in any order.

    Args:
        tasks: Members to read; files of a folder must be under the same path everywhere.
        address: Of the cluster; ``local`` starts one on this machine.
        say: Told how large the cluster is.

    Raises:
        WsdemoError: Ray is not installed, or the cluster does not answer.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise WsdemoError("Ray is not installed", f"{error}.", INSTALL) from error
    if not tasks:
        return
    was_running = ray.is_initialized()
    try:
        if not was_running:
            _join(ray, address)
        resources: Mapping[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
        machines = ray.nodes()  # type: ignore[no-untyped-call]
        cores = int(resources.get("CPU", 1))
        say(f"Ray: {cores} cores on {len(machines)} machines")
        blocks = max(1, min(len(tasks), max(cores, len(tasks) // TASKS_A_BLOCK)))
        data = ray.data.from_items([{"task": t} for t in tasks], override_num_blocks=blocks)
        read = data.map(_read, num_cpus=1)
        for answer in read.iter_rows():
            yield answer["rows"]
    except (ray.exceptions.RayError, ConnectionError, ValueError) as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise WsdemoError(
            "The cluster failed",
            f"{address}: {lines[-1][:300]}",
            "What was read is kept: give the same command again.",
        ) from error
    finally:
        if not was_running and ray.is_initialized():
            ray.shutdown()


def _join(ray: Any, address: str) -> None:
    if address == "local":
        ray.init("local", include_dashboard=False, log_to_driver=False)
    else:
        package = str(Path(wsdemo.__file__).parent)
        try:
            ray.init(address, runtime_env={"py_modules": [package]}, log_to_driver=False)
        except RuntimeError as error:  # what Ray says of an address that it cannot read
            raise ValueError(str(error)) from error


def _read(item: Mapping[str, Any]) -> dict[str, Any]:
    start_worker()
    return {"rows": read_task(item["task"])}
