"""Copies of the Hub's files on this machine: where they lie, within a bound, and use offline.

A copy is found by repository, commit and path. Visitors of one app share the copies, so that
having one says nothing of who may read it: whoever hands out a private one asks the Hub first.
"""

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from wsdemo.errors import WsdemoError
from wsdemo.hub.reference import Reference
from wsdemo.hub.repository import CONFIG, Candidate, Repository, choose_file
from wsdemo.limits import MAX_DOWNLOAD_SECONDS, MAX_DOWNLOADS_BYTES
from wsdemo.lora.base_model import ORIGIN

_NAME = "adapter.safetensors"
_UNFINISHED = "unfinished-"
"""Start of the name of a download's folder until it is whole; its size follows."""
_GIVEN_UP = 2 * MAX_DOWNLOAD_SECONDS
"""Age of such a folder after which nobody writes to it any more: its process was killed."""


def downloads_folder() -> Path:
    """Where downloads of this user are kept; WSDEMO_DOWNLOADS names another place."""
    default = (
        Path(tempfile.gettempdir())
        / f"wsdemo-downloads-{os.getuid() if hasattr(os, 'getuid') else 0}"
    )
    return Path(os.environ.get("WSDEMO_DOWNLOADS") or default)


def place_of(repository: Repository, candidate: Candidate) -> Path:
    """Where a file is kept: by commit and path, hashed, never by a name from outside."""
    before = "" if repository.kind == "model" else f"{repository.kind}s/"
    identity = f"{before}{repository.repo}@{repository.commit}:{candidate.path}"
    key = hashlib.sha256(identity.encode()).hexdigest()[:32]
    return downloads_folder() / key / _NAME


def kept_file(repository: Repository, candidate: Candidate) -> Path | None:
    """The copy of a file, if there is one, which counts as used now."""
    place = place_of(repository, candidate)
    if not place.is_file() or place.stat().st_size != candidate.size:
        return None
    os.utime(place.parent)
    return place


# ---- keeping ------------------------------------------------------------------------------


@contextmanager
def new_copy(repository: Repository, candidate: Candidate, config: bytes | None) -> Iterator[Path]:
    """A path to write a file to, which is kept if that ends well; else nothing is left behind.

    Args:
        repository, candidate: The file.
        config: The adapter_config.json to keep beside it, with its origin added.

    Raises:
        WsdemoError: Other downloads leave no room for it.
    """
    folder, place = downloads_folder(), place_of(repository, candidate)
    make_room(folder, candidate.size)
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    unfinished = Path(tempfile.mkdtemp(prefix=f"{_UNFINISHED}{candidate.size}-", dir=folder))
    try:
        yield unfinished / _NAME
        (unfinished / CONFIG).write_bytes(_with_origin(config, repository, candidate))
        if kept_file(repository, candidate) is None:  # else another visitor was faster
            if place.parent.exists():
                shutil.rmtree(place.parent)
            unfinished.rename(place.parent)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def make_room(folder: Path, size: int) -> None:
    """Deletes the oldest downloads until another of ``size`` bytes fits the bound.

    Those that other visitors are still downloading stay, and count as large as they will be.

    Raises:
        WsdemoError: They leave no room.
    """
    if not folder.is_dir():
        return
    kept: list[tuple[float, Path, int]] = []
    total = size
    for path in folder.iterdir():
        with contextlib.suppress(OSError):  # deleted or renamed by another visitor meanwhile
            used = path.stat().st_mtime
            if not path.name.startswith(_UNFINISHED):
                kept.append((used, path, sum(f.stat().st_size for f in path.iterdir())))
                total += kept[-1][2]
            elif time.time() - used > _GIVEN_UP:
                shutil.rmtree(path, ignore_errors=True)
            else:
                total += int(path.name.removeprefix(_UNFINISHED).partition("-")[0])
    for _, old, bytes_kept in sorted(kept):
        if total <= MAX_DOWNLOADS_BYTES:
            return
        shutil.rmtree(old, ignore_errors=True)
        total -= bytes_kept
    if total > MAX_DOWNLOADS_BYTES:
        raise WsdemoError(
            "No room for a download",
            f"This one takes {size:,} bytes, those under way {total - size:,};"
            f" {MAX_DOWNLOADS_BYTES:,} are allowed.",
            "Try again in some minutes.",
        )


def _with_origin(config: bytes | None, repository: Repository, candidate: Candidate) -> bytes:
    """adapter_config.json, which travels with an adapter, and in it where that came from."""
    origin = {
        "repo": repository.repo,
        "commit": repository.commit,
        "path": candidate.path,
        "base_model": repository.base_model,
        "revision": repository.revision,
        "is_restricted": repository.is_restricted,
        "kind": repository.kind,
    }
    try:
        settings = json.loads(config or b"{}")
        return json.dumps({**settings, ORIGIN: origin}).encode()
    except (ValueError, TypeError, RecursionError):  # damaged: whoever reads it says so
        return config or b""


# ---- offline ------------------------------------------------------------------------------


def kept_repository(reference: Reference) -> Repository:
    """A repository as far as it is kept on this machine, at the commit that was used last."""
    copies: list[tuple[float, Repository, Candidate]] = []
    what = f"{reference.repo}:{reference.path}" if reference.path else reference.repo
    for place in downloads_folder().glob(f"*/{_NAME}"):
        try:
            origin = json.loads(place.with_name(CONFIG).read_bytes())[ORIGIN]
            names = (origin["revision"], origin["commit"])
            candidate = Candidate(origin["path"], place.stat().st_size, None)
            repository = Repository(
                origin["repo"], origin["commit"], (candidate,), candidate, (),
                origin["base_model"], origin["revision"], origin["is_restricted"], True,
                origin.get("kind", "model"),
            )  # fmt: skip
            used = place.parent.stat().st_mtime
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            continue  # a download that is not finished, or that another program made
        is_same = (repository.repo, repository.kind) == (reference.repo, reference.kind)
        if is_same and place_of(repository, candidate) == place:
            is_meant = reference.path in (None, candidate.path)
            if is_meant and reference.revision in (None, *names):
                copies.append((used, repository, candidate))
    if not copies:
        raise offline_error(what)
    _, newest, _ = max(copies, key=lambda f: f[0])
    if newest.is_restricted:
        raise offline_error(what, "whether you may read this private repository cannot be asked")
    files = tuple(c for _, r, c in copies if r.commit == newest.commit)
    return replace(newest, candidates=files, chosen=choose_file(files, reference))


def offline_error(what: str, why: str = "no copy of it is kept here") -> WsdemoError:
    """What is said of something that only the Hub could give."""
    reason = f"HF_HUB_OFFLINE is set, so the Hub is not asked about {what[:200]}, and {why}."
    return WsdemoError("Offline", reason, "Unset it, or give a file of this machine.")
