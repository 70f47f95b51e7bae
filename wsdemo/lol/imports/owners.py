"""One repository a LoRA, all of an owner or a collection: Lots-of-LoRAs, a repository a task.

``Mistral-7B-Instruct-v0.2-4b-r16-task889`` was trained on the data set
``task889_goemotions_classification`` of the same owner, whose name says the kind of task and whose
card the number of examples. Of other owners the tables in the cards are the labels.
"""

import re
from collections import Counter
from typing import Any

from wsdemo.errors import WsdemoError
from wsdemo.hub import client
from wsdemo.hub.listing import owned, repositories
from wsdemo.hub.reference import Reference
from wsdemo.hub.repository import Repository
from wsdemo.limits import MAX_IMPORTED_FILES
from wsdemo.lol.imports.bundles import CARD, NO_LABELS
from wsdemo.lol.imports.cards import card_of, card_table
from wsdemo.lol.imports.entry import Entry, Listing, Say, safe_name

_TASK = re.compile(r"(?:^|[-_/])(task\d{2,6})(?=$|[-_])")
TOLD = 50
"""Repositories between two lines of progress."""
IN_A_ROW = 5
"""Repositories that fail one after the other before it is the Hub that is blamed."""


def list_owner(source: str, token: str | None, say: Say) -> Listing:
    """The LoRAs of an owner or a collection, a repository each.

    Raises:
        WsdemoError: The Hub fails IN_A_ROW times, or nothing says a label.
    """
    references = repositories(source, token, MAX_IMPORTED_FILES).references
    tasks = _task_names(references, token)
    licences: Counter[str] = Counter()
    entries: list[Entry] = []
    refused: list[str] = []
    mute = failures = 0
    for number, reference in enumerate(references, 1):
        try:
            repository = client.resolve(reference, token)
            labels, group = _labels(repository, tasks, token)
            failures = 0
        except WsdemoError as error:
            refused.append(f"{reference.repo}: {error.title}")
            failures += 1
            if failures == IN_A_ROW and len(refused) == number:
                raise
            if failures == IN_A_ROW:
                raise _stopped(number, len(references), error) from error
            continue
        if repository.chosen is None or not labels:
            mute += 1
            continue
        licences[repository.licence or "none stated"] += 1
        folder = safe_name(repository.repo.partition("/")[2])
        file = f"{folder}/{safe_name(repository.chosen.path.rpartition('/')[2])}"
        entries.append(Entry(file, labels, "", group, repository.base_model, None, repository,
                             repository.chosen))  # fmt: skip
        if number % TOLD == 0:
            say(f"{number:,} of {len(references):,} repositories looked at")
    notes = []
    if refused:
        notes.append(f"{len(refused)} repositories are left out, such as {refused[0][:160]}")
    if mute:
        notes.append(f"{mute} repositories are left out: no label, or no one file to choose")
    if not entries:
        raise WsdemoError(
            "No labels",
            f"Of {len(references)} repositories none names a LoRA and a label"
            f" ({'; '.join(notes)[:300]}).",
            "Write a labels.csv by hand.",
        )
    return Listing(entries, dict(licences), notes, "a repository a LoRA")


def _stopped(number: int, total: int, error: WsdemoError) -> WsdemoError:
    return WsdemoError(
        "The Hub stopped",
        f"After {number - IN_A_ROW:,} of {total:,} repositories {IN_A_ROW} failed in a row, the"
        f" last with: {error.message}",
        "Give the same command again later.",
    )


def _task_names(references: tuple[Reference, ...], token: str | None) -> dict[str, str]:
    """task889 → task889_goemotions_classification, by the names of the owner's data sets."""
    owners = {r.repo.partition("/")[0] for r in references}
    if len(owners) > 1 or not any(_TASK.search(r.repo) for r in references):
        return {}
    owner = next(iter(owners))
    names = (repo.partition("/")[2] for repo in owned(owner, "datasets", token, MAX_IMPORTED_FILES))
    data_sets = {}
    for name in names:
        if match := _TASK.search(name):
            data_sets[match[1]] = f"{owner}/{name}"
    return data_sets


def _labels(
    repository: Repository, tasks: dict[str, str], token: str | None
) -> tuple[dict[str, str], str]:
    """(column → text, group) of a repository."""
    match = _TASK.search(repository.repo)
    if match and match[1] in tasks:
        return _of_task(tasks[match[1]], token), match[1]
    if not any(file.path == CARD for file in repository.files):
        return {}, ""
    table = card_table(card_of(repository, CARD, token))
    return {k: v for k, v in table.items() if k not in NO_LABELS}, ""


def _of_task(data_set: str, token: str | None) -> dict[str, str]:
    """The kind of task, which ends a data set's name, and its training examples."""
    answer, _ = client.ask_api(f"datasets/{data_set}", data_set, token)
    labels = {"task_kind": data_set.rpartition("_")[2].lower()}
    count = _examples(answer)
    return labels | ({"examples": str(count)} if count is not None else {})


def _examples(answer: Any) -> int | None:
    """Examples of the split ``train``, as the card's own data say."""
    try:
        info = answer["cardData"]["dataset_info"]
        info = info[0] if isinstance(info, list) else info
        return next(int(s["num_examples"]) for s in info["splits"] if s["name"] == "train")
    except (KeyError, TypeError, ValueError, IndexError, StopIteration):
        return None
