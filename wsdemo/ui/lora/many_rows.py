"""Many LoRAs in memory: dropped files and repositories of the Hub, a row of the library each."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from wsdemo.errors import WsdemoError
from wsdemo.hub.listing import repositories, several
from wsdemo.library.members import Member, named_member, rows_of
from wsdemo.library.row import Row, empty_row, error_text, facts_of, row_of
from wsdemo.limits import MAX_BATCH
from wsdemo.lora.reading import Reading, read
from wsdemo.ui.lora.prediction import VisitorFiles, predictors_of
from wsdemo.ui.lora.readings import settings

HEEDS_CONFIG = {"PEFT", "AdaLoRA", "MLX"}
"""Of the families that a file's name for itself lists (a DoRA is "DoRA + PEFT", or "+ kohya"),
those whose scale is in adapter_config.json."""


def batch_settings(paths: Sequence[str]) -> tuple[list[str], dict[str, Any] | None]:
    """The LoRAs of a batch, and the one adapter_config.json among them, if any.

    Raises:
        WsdemoError: There are several, or it is none.
    """
    configs = [p for p in paths if p.endswith(".json")]
    if len(configs) > 1:
        raise WsdemoError(
            "Which configuration?",
            f"Found {len(configs)} .json files; one serves all PEFT files of a batch.",
            "Drop LoRAs with one and the same adapter_config.json at a time.",
        )
    loras = [p for p in paths if p not in configs]
    return loras, settings(configs[0] if configs else None)


def _read(path: Path, config: dict[str, Any] | None) -> Reading:
    """A file of a batch, with the batch's configuration if its format heeds one."""
    reading = read(path)
    if config is None or not HEEDS_CONFIG & set(reading.lora.family.split(" + ")):
        return reading
    return read(path, config)  # it holds the scale


def file_row(
    path: Path, visitor_predictors: VisitorFiles = (), config: dict[str, Any] | None = None
) -> Row:
    """A dropped file as a row; what is wrong with it stands in the row.

    Args:
        path: The file.
        visitor_predictors: The files of the visitor's own predictors.
        config: PEFT's adapter_config.json, which files of other programs do not heed.
    """
    predictors = predictors_of(visitor_predictors)
    if config is None:
        return row_of(path, path.name[:100], predictors)
    row = row_of(path, path.name[:100], predictors)
    if row["error"] or HEEDS_CONFIG & set(str(row["family"]).split(" + ")):
        try:
            row |= facts_of(_read(path, config), predictors) | {"error": ""}
        except WsdemoError as error:
            row["error"] = error_text(error)
    return row


def names_of(paths: Sequence[str]) -> list[str]:
    """Their names without folders; those that are there twice, numbered."""
    names: dict[str, None] = {}
    for path in paths:
        name, number = Path(path).name[:100], 2
        while (name if number == 2 else f"{name} ({number - 1})") in names:
            number += 1
        names[name if number == 2 else f"{name} ({number - 1})"] = None
    return list(names)


def members(text: str, token: str | None) -> tuple[list[Member], list[Row], int]:
    """What a visitor names on the Hub, an owner, a collection or repositories.

    Returns:
        Repositories, at most MAX_BATCH; a row for each name that the Hub refuses; how many
        repositories are left out.

    Raises:
        WsdemoError: Nothing is named.
    """
    names = several([text])
    if not names:
        raise WsdemoError(
            "Nothing named", "There is no name to look up.", "Give an owner, or owner/name."
        )
    by_name: dict[str, Member] = {}
    refused, left_out = [], 0
    for name in names[:MAX_BATCH]:
        try:
            named = repositories(name, token, MAX_BATCH)
        except WsdemoError as error:
            refused.append(empty_row(name[:200], error_text(error)))
            continue
        left_out += named.left_out
        for reference in named.references:
            member = named_member(reference)
            by_name[member.name] = member
    left_out += max(0, len(by_name) - MAX_BATCH) + max(0, len(names) - MAX_BATCH)
    return list(by_name.values())[:MAX_BATCH], refused, left_out


def hub_rows(
    member: Member, visitor_predictors: VisitorFiles, token: str | None, most: int
) -> Iterator[Row]:
    """The files of a repository as rows, at most some."""
    yield from rows_of(member, {}, predictors_of(visitor_predictors), token, most)
