"""LoRAs from the Hugging Face Hub: the only module that opens sockets.

A reference is judged before anything large is fetched: the commit is resolved once, a file's
header is read by range request, and the body is streamed, bounded and compared with the hash
that the Hub states. No text from outside becomes a path, and a token goes to the Hub alone.
"""

import hashlib
import json
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx2
from huggingface_hub import ModelInfo, constants, get_session, get_token, hf_hub_url
from huggingface_hub.utils import (  # type: ignore[attr-defined]
    build_hf_headers,
    hf_raise_for_status,
    validate_repo_id,
)

from wsdemo.errors import WsdemoError
from wsdemo.hub.downloads import kept_file, kept_repository, new_copy, place_of
from wsdemo.hub.failures import explained
from wsdemo.hub.reference import Reference, parse_reference
from wsdemo.hub.repository import CONFIG, Candidate, Repository, choose_file
from wsdemo.limits import (
    HUB_SECONDS,
    MAX_CONFIG_BYTES,
    MAX_DOWNLOAD_SECONDS,
    MAX_LISTING_BYTES,
    MAX_LORA_BYTES,
)
from wsdemo.safetensors_header import Header, header_length, parse_header, read_header

_FIRST_BYTES = 1 << 17
"""Read at once of a header; most fit."""
_ANSWER_WAITS = 3.0
"""How many times HUB_SECONDS an answer or a header may take: 8 MB at 2 Mbit/s."""


@dataclass(frozen=True)
class Peek:
    """A file judged by its header alone.

    Attributes:
        header: Names, types and shapes.
        candidate: The file.
        fetched_bytes: What it took.
    """

    header: Header
    candidate: Candidate
    fetched_bytes: int


# ---- asking ---------------------------------------------------------------------------


def resolve(reference: Reference, token: str | None = None) -> Repository:
    """Asks which commit a reference means and which files it holds.

    With HF_HUB_OFFLINE nobody is asked: the answer is what was downloaded before.

    Args:
        reference: What is wanted.
        token: Of the visitor; ``None`` asks anonymously.

    Raises:
        WsdemoError: Every failure, with a remedy; also a repository without safetensors.
    """
    if constants.HF_HUB_OFFLINE:
        return kept_repository(reference)
    repository = look_at(reference, token)
    candidates, names = repository.candidates, [f.path for f in repository.files]
    if not candidates:
        pickles = [n for n in names if n.endswith((".bin", ".pt", ".pth", ".ckpt"))]
        raise WsdemoError(
            "No safetensors file",
            f"{reference.repo} holds {len(names)} files, none of them .safetensors"
            + (f"; {pickles[0][:60]} is a pickle, which can run code." if pickles else "."),
            "Convert it on your machine: python -m wsdemo convert FILE."
            if pickles
            else "Choose another repository.",
        )
    return replace(repository, chosen=choose_file(candidates, reference))


def look_at(reference: Reference, token: str | None = None) -> Repository:
    """Asks which commit a reference means and which files it holds; none of them is chosen.

    Raises:
        WsdemoError: Every failure, with a remedy.
    """
    info = _listing(reference, token)
    commit = info.sha or ""
    if not re.fullmatch(r"[0-9a-f]{40}", commit):
        raise WsdemoError(
            "The Hub has a problem", "It named no commit of the repository.", "Try again later."
        )
    files = tuple(
        Candidate(f.rfilename, f.size or 0, f.lfs.sha256 if f.lfs else None)
        for f in info.siblings or []
    )
    names = [f.path for f in files]
    configs = tuple(n.removesuffix(CONFIG).rstrip("/") for n in names if n.endswith(CONFIG))
    card: Mapping[str, Any] = info.card_data or {}  # type: ignore[assignment]
    return Repository(
        reference.repo, commit, tuple(f for f in files if f.path.endswith(".safetensors")), None,
        configs, _text(card.get("base_model")), reference.revision or "",
        bool(info.private or info.gated), kind=reference.kind, files=files,
        licence=_text(card.get("license_name") or card.get("license")),
    )  # fmt: skip


def _text(value: object) -> str:
    """A text of a card, or several."""
    return (", ".join(map(str, value)) if isinstance(value, list) else str(value or ""))[:200]


def _listing(reference: Reference, token: str | None) -> ModelInfo:
    """What the Hub says about a repository at a revision: commit, files, card."""
    repo, at = reference.repo, ""
    if reference.revision is not None:
        at = f"/revision/{quote(reference.revision, safe='')}"
    with explained(repo):
        validate_repo_id(repo)
    answer, _ = ask_api(f"{reference.kind}s/{repo}{at}?blobs=true", repo, token)
    try:
        return ModelInfo(**answer)  # type: ignore[no-untyped-call]
    except (KeyError, TypeError, AttributeError) as error:
        raise _not_understood(repo) from error


def ask_api(path: str, what: str, token: str | None = None) -> tuple[Any, str]:
    """The Hub's answer to ``/api/PATH`` as JSON, and the path of its next page, if there is one.

    Raises:
        WsdemoError: Every failure, with a remedy; ``what`` is what was asked about.
    """
    with _opened(f"{constants.ENDPOINT}/api/{path}", what, "", token) as response:
        body = _first_bytes(response, what, MAX_LISTING_BYTES)
        following = str(response.links.get("next", {}).get("url", ""))
    try:
        answer = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise _not_understood(what) from error
    start = f"{constants.ENDPOINT}/api/"
    return answer, following.removeprefix(start) if following.startswith(start) else ""


def _not_understood(what: str) -> WsdemoError:
    return WsdemoError(
        "The Hub has a problem", f"Its answer about {what} was not understood.", "Try again later."
    )


# ---- fetching ----------------------------------------------------------------------------


def _address(repository: Repository, path: str) -> str:
    return hf_hub_url(repository.repo, path, repo_type=repository.kind, revision=repository.commit)


@contextmanager
def _opened(
    address: str,
    repo: str,
    path: str,
    token: str | None,
    extra: Mapping[str, str] | None = None,
) -> Iterator[httpx2.Response]:
    """An answer's body, not read yet; its failures are explained, also while it is read."""
    headers = {**build_hf_headers(token=token or False), "Accept-Encoding": "identity"}
    with (
        explained(repo, path),
        get_session().stream(
            "GET",
            address,
            headers={**headers, **(extra or {})},
            timeout=HUB_SECONDS,
            follow_redirects=True,
        ) as response,
    ):
        if response.status_code >= 400:  # its body, of any length, is not read: the headers say why
            reasons = {
                k: v for k, v in response.headers.items() if k.lower().startswith("x-error-")
            }
            code = response.status_code
            hf_raise_for_status(httpx2.Response(code, headers=reasons, request=response.request))
        yield response


def _received(response: httpx2.Response, what: str, seconds: float) -> Iterator[bytes]:
    """A body as it arrives; the clock is looked at with every piece, however small."""
    started, done = time.monotonic(), 0
    try:
        for chunk in response.iter_bytes():
            done += len(chunk)
            yield chunk
            if time.monotonic() - started > seconds:
                raise WsdemoError(
                    "The Hub is too slow",
                    f"{what[:80]}: {done:,} bytes came in {seconds:.0f} s.",
                    "Try again later, or download the file and drop it.",
                )
    except httpx2.RemoteProtocolError as error:
        raise WsdemoError(
            "Download cut off",
            f"{what[:80]}: the Hub closed the connection after {done:,} bytes.",
            "Try again.",
        ) from error


def _fetch(
    repository: Repository, path: str, token: str | None, limit: int, first: int = 0
) -> bytes:
    """Bytes ``first`` … ``first + limit − 1`` of a file; no more, even if the server sends more."""
    extra = {"Range": f"bytes={first}-{first + limit - 1}"}
    with _opened(_address(repository, path), repository.repo, path, token, extra) as response:
        skip = first if response.status_code == 200 else 0  # the server ignored the range
        return _first_bytes(response, path, skip + limit)[skip:]


def _first_bytes(response: httpx2.Response, what: str, limit: int) -> bytes:
    body = bytearray()
    for chunk in _received(response, what, _ANSWER_WAITS * HUB_SECONDS):
        body += chunk
        if len(body) >= limit:
            break
    return bytes(body[:limit])


def peek(repository: Repository, candidate: Candidate, token: str | None = None) -> Peek:
    """Reads a file's header by range request: its tensors, before it is downloaded.

    Raises:
        WsdemoError: It is too large, or no safetensors file within limits.
    """
    _check_size(candidate)
    if repository.is_offline:
        return Peek(read_header(place_of(repository, candidate)), candidate, 0)
    start = _fetch(repository, candidate.path, token, min(_FIRST_BYTES, candidate.size))
    length = header_length(start[:64], candidate.size)
    raw, fetched = start[8 : 8 + length], len(start)
    if len(raw) < length:
        raw += _fetch(repository, candidate.path, token, length - len(raw), 8 + len(raw))
        fetched = 8 + len(raw)
    return Peek(parse_header(raw, candidate.size), candidate, fetched)


def _check_size(candidate: Candidate) -> None:
    if candidate.size > MAX_LORA_BYTES:
        raise WsdemoError(
            "File too large",
            f"{candidate.path[:80]} has {candidate.size / 2**30:.1f} GB;"
            f" {MAX_LORA_BYTES / 2**30:.0f} GB are allowed.",
            "Choose the adapter alone, without its base model.",
        )


def read_config(
    repository: Repository, candidate: Candidate, token: str | None = None
) -> bytes | None:
    """adapter_config.json beside a file, if the repository has one."""
    folder = candidate.path.rpartition("/")[0]
    if folder not in repository.configs:
        return None
    path = f"{folder}/{CONFIG}" if folder else CONFIG
    return _fetch(repository, path, token, MAX_CONFIG_BYTES)


def read_text(repository: Repository, path: str, token: str | None, limit: int) -> str:
    """A small text of a repository; what lies beyond ``limit`` bytes is not read.

    Raises:
        WsdemoError: It is not there, or the Hub fails.
    """
    return _fetch(repository, path, token, limit).decode("utf-8", errors="replace")


def download_to(
    repository: Repository, candidate: Candidate, path: Path, token: str | None = None
) -> None:
    """Downloads a file to a path of the caller's, whole or not at all.

    Raises:
        WsdemoError: As ``download``.
        OSError: The disk is full, or the like.
    """
    _check_size(candidate)
    path.parent.mkdir(parents=True, exist_ok=True)
    hidden = path.with_name(f".{path.name}.part")
    try:
        for _ in _stream(repository, candidate, token, hidden):
            pass
        hidden.replace(path)
    finally:
        hidden.unlink(missing_ok=True)


def download(
    repository: Repository, candidate: Candidate, token: str | None = None
) -> Iterator[tuple[int, Path | None]]:
    """Streams a file to disk, with its adapter_config.json and its origin in that beside it.

    Yields:
        (bytes so far, None) now and then, and at last (bytes, path). Stopping the iteration
        stops the download and leaves nothing behind.

    Raises:
        WsdemoError: It is too large, cut off, too slow, not what the Hub's hash says, or kept
            here for another visitor.
    """
    _check_size(candidate)
    place = kept_file(repository, candidate)
    if place is not None:
        if repository.is_restricted:  # anybody sees what a gated one lists; the Hub says who reads
            _fetch(repository, candidate.path, token, 1)
        yield candidate.size, place
        return
    config = read_config(repository, candidate, token)
    with new_copy(repository, candidate, config) as path:
        for done in _stream(repository, candidate, token, path):
            yield done, None
    yield candidate.size, place_of(repository, candidate)


def _stream(
    repository: Repository, candidate: Candidate, token: str | None, path: Path
) -> Iterator[int]:
    digest, done, told_at = hashlib.sha256(), 0, 0.0
    address = _address(repository, candidate.path)
    with (
        _opened(address, repository.repo, candidate.path, token) as response,
        path.open("wb") as out,
    ):
        for chunk in _received(response, candidate.path, MAX_DOWNLOAD_SECONDS):
            done += len(chunk)
            if done > candidate.size:
                break
            out.write(chunk)
            digest.update(chunk)
            now = time.monotonic()
            if now - told_at > 0.2:
                told_at = now
                yield done
    if done != candidate.size:
        raise WsdemoError(
            "Download cut off",
            f"{candidate.path[:80]}: {done:,} of {candidate.size:,} bytes came.",
            "Try again.",
        )
    if candidate.sha256 is not None and digest.hexdigest() != candidate.sha256:
        raise WsdemoError(
            "Download damaged",
            f"{candidate.path[:80]} does not have the hash that the Hub states.",
            "Try again; if it stays so, tell the repository's owner.",
        )


def own_token() -> str | None:
    """The token that huggingface_hub's own tools use on this machine: for the command line only."""
    return get_token()


def fetch_file(
    text: str, token: str | None = None, judge: Callable[[Header], object] = lambda header: None
) -> tuple[Path, Repository, Candidate]:
    """Resolves, judges and downloads a reference in one go: for the command line.

    Args:
        text: The reference.
        token: Of the visitor.
        judge: Takes the header before the rest is downloaded, and raises to refuse the file.

    Raises:
        WsdemoError: See the steps; also if it is not clear which file is meant.
    """
    repository = resolve(parse_reference(text), token)
    if repository.chosen is None:
        names = ", ".join(c.path[:60] for c in repository.candidates[:8])
        raise WsdemoError(
            "Which file?",
            f"{repository.repo} holds {len(repository.candidates)} safetensors files: {names}.",
            f"Name one: {repository.repo}:PATH",
        )
    judge(peek(repository, repository.chosen, token).header)
    for _, path in download(repository, repository.chosen, token):
        if path is not None:
            return path, repository, repository.chosen
    raise AssertionError("a download ends with a path or an error")
