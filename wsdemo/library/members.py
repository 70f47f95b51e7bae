"""What a library is made of: files of this machine, and files of the Hub by name."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from wsdemo.errors import WsdemoError
from wsdemo.hub.listing import SCHEME, repositories
from wsdemo.hub.reference import DATASETS, Reference
from wsdemo.hub.repository import Candidate, Repository
from wsdemo.library.row import Row, empty_row, error_text, identity, row_of
from wsdemo.limits import MAX_CANDIDATES, MAX_LIBRARY_FILES
from wsdemo.lol.predictor.predictor import Predictor
from wsdemo.lora.reader import judge_header

ENDINGS = (".safetensors", ".npz", ".gguf")

Known = Mapping[str, tuple[int | None, int | None, str | None, str | None]]
"""File → (bytes, time of change in ns, commit, sha256) of a row that an earlier build wrote."""


@dataclass(frozen=True)
class Member:
    """A file of this machine, or a repository of the Hub, which may hold several.

    Attributes:
        name: Of the file in the library, or of the repository.
        path: Of a file of this machine.
        reference: To the Hub, else.
    """

    name: str
    path: Path | None = None
    reference: Reference | None = None


def members_of(source: str, token: Callable[[], str | None] = lambda: None) -> list[Member]:
    """The members of a folder (and what is below it), of a list, or of a name of the Hub.

    A list has a path, or a name that begins with ``hf://``, on each line.

    Args:
        source: The folder, the list, or ``hf://owner``, ``hf://owner/name[@revision][:path]``,
            ``hf://collections/owner/slug``.
        token: Gives that of the user, where the Hub is asked.

    Raises:
        WsdemoError: There is no such source, it holds nothing, or too much, or the Hub refuses.
    """
    place = Path(source)
    if source.startswith(SCHEME):
        members = _named(source, token)
    elif place.is_dir():
        paths = sorted(p for p in place.rglob("*") if p.suffix in ENDINGS and p.is_file())
        members = [Member(str(p.relative_to(place)), p) for p in paths]
    elif place.is_file():
        members = _listed(place, token)
    else:
        raise WsdemoError(
            "Nothing there",
            f"{source} is no folder and no list.",
            "Give either, or hf://owner for the Hub.",
        )
    if not members:
        raise WsdemoError(
            "No LoRAs",
            f"{source} holds no {', '.join(ENDINGS)} file.",
            "Give a folder of LoRAs, or a list of paths, one a line.",
        )
    if len(members) > MAX_LIBRARY_FILES:
        raise WsdemoError(
            "Too many files",
            f"Found {len(members):,}; a library takes {MAX_LIBRARY_FILES:,}.",
            "Build several.",
        )
    return members


def _listed(place: Path, token: Callable[[], str | None]) -> list[Member]:
    members: list[Member] = []
    try:
        lines = place.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise WsdemoError(
            "Not a list", f"{place} is no text in UTF-8.", "Give a list of paths, one a line."
        ) from error
    for line in map(str.strip, lines):
        if line.startswith(SCHEME):
            members += _named(line, token)
        elif line and line[0] != "#":
            members.append(Member(line, place.parent / line))
    return list({member.name: member for member in members}.values())


def _named(text: str, token: Callable[[], str | None]) -> list[Member]:
    named = repositories(text, token(), MAX_LIBRARY_FILES)
    return [named_member(reference) for reference in named.references]


def named_member(reference: Reference) -> Member:
    """A repository of the Hub, or a file of it, by its name."""
    revision = f"@{reference.revision}" if reference.revision else ""
    path = f":{reference.path}" if reference.path else ""
    before = DATASETS if reference.kind == "dataset" else ""
    return Member(f"{before}{reference.repo}{revision}{path}", reference=reference)


# ---- reading -----------------------------------------------------------------------------


def rows_of(
    member: Member,
    known: Known,
    predictors: Sequence[Predictor] = (),
    token: str | None = None,
    most: int = MAX_CANDIDATES,
) -> Iterator[Row]:
    """A row a file of a member that is new or has changed; what is wrong with it is a row, too.

    Args:
        member: The file or repository.
        known: Of an earlier build; of files that did not change there is no row.
        predictors: To ask, in this order.
        token: For the Hub.
        most: Files of a repository.
    """
    if member.path is not None:
        if is_new(known.get(member.name), member.path):
            yield row_of(member.path, member.name, predictors)
        return
    from wsdemo.hub import client  # huggingface_hub takes a second to import

    assert member.reference is not None
    try:
        repository = client.resolve(member.reference, token)
    except (WsdemoError, OSError) as error:
        yield empty_row(member.name, error_text(error))
        return
    chosen = repository.chosen
    candidates = repository.candidates if chosen is None else (chosen,)
    for candidate in candidates[:most]:
        name = f"{member.name.partition(':')[0]}:{candidate.path}"
        if not _is_kept(known.get(name), repository, candidate):
            yield _hub_row(repository, candidate, name, predictors, token)
    if len(candidates) > most:
        more = f"{len(candidates) - most} more files are left out; {most} are read"
        row = empty_row(member.name, f"Too many files: {more}.")
        yield row | {"commit": repository.commit}


def is_new(known: tuple[object, ...] | None, path: Path) -> bool:
    """Whether a file was not read yet, has changed since, or is not there."""
    try:
        return known is None or known[:2] != identity(path)
    except OSError:
        return True


def _is_kept(
    known: tuple[object, ...] | None, repository: Repository, candidate: Candidate
) -> bool:
    """Whether an earlier build has read the same file of the Hub."""
    if known is None:
        return False
    _, _, commit, sha256 = known
    return sha256 == candidate.sha256 if candidate.sha256 else commit == repository.commit


def _hub_row(
    repository: Repository,
    candidate: Candidate,
    name: str,
    predictors: Sequence[Predictor],
    token: str | None,
) -> Row:
    from wsdemo.hub import client

    facts = {"bytes": candidate.size, "modified_ns": None, "commit": repository.commit}
    try:
        judge_header(client.peek(repository, candidate, token).header)
        path = next(p for _, p in client.download(repository, candidate, token) if p is not None)
    except (WsdemoError, OSError) as error:
        return empty_row(name, error_text(error)) | facts
    return row_of(path, name, predictors) | facts
