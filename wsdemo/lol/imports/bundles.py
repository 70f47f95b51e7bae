"""One repository of many LoRAs, a folder each with a card: ProbeX's Model-J of Stable Diffusion.

train/model_idx_0001/pytorch_lora_weights.safetensors
train/model_idx_0001/README.md        | ImageNet Class | three-toed_sloth (n02457408) | …
"""

from collections import Counter
from pathlib import PurePosixPath

from wsdemo.errors import WsdemoError
from wsdemo.hub.repository import Candidate, Repository
from wsdemo.lol.imports.cards import card_base, card_of, card_table
from wsdemo.lol.imports.entry import SPLITS, Entry, Listing, Say, column_name, safe_name

CARD = "README.md"
NO_LABELS = {"subset", "split", "base_model", "seed", "lora_rank", "rank"}
"""Rows of a card that nobody wants to predict, or that the file itself shows."""
TOLD = 100
"""Cards between two lines of progress."""


def is_bundle(repository: Repository) -> bool:
    """Whether a repository has LoRAs in folders with a card each, in folders of splits."""
    return len(_members(repository)) >= 2


def _members(repository: Repository) -> list[Candidate]:
    cards = {c.path for c in repository.files}
    members = []
    for candidate in repository.candidates:
        place = PurePosixPath(candidate.path)
        has_card = str(place.parent / CARD) in cards
        if has_card and len(place.parts) >= 3 and _split(place.parts[0]) is not None:
            members.append(candidate)
    return members


def _split(name: str) -> str | None:
    """What a folder's name says of its split: ours, ``holdout``, or None if nothing."""
    name = name.lower()
    if name.endswith("_holdout") and name.removesuffix("_holdout") in SPLITS:
        return "holdout"
    return SPLITS.get(name)


def list_bundle(
    repository: Repository, token: str | None, say: Say, known: dict[str, str]
) -> Listing:
    """The LoRAs of such a repository, with what their cards say.

    Holdout splits are left out: their classes are in no training LoRA.

    Args:
        repository: Judged by ``is_bundle``.
        token: Of the user.
        say: Told how many cards were read.
        known: Path → text of cards that were read before; new ones are added.

    Raises:
        WsdemoError: The Hub fails, or no card says anything.
    """
    members = _members(repository)
    entries, held, mute = [], 0, 0
    bases: Counter[str] = Counter()
    for number, candidate in enumerate(members, 1):
        place = PurePosixPath(candidate.path)
        split = _split(place.parts[0]) or ""
        if split == "holdout":
            held += 1
            continue
        path = str(place.parent / CARD)
        if path not in known:
            known[path] = card_of(repository, path, token)
        table = {column_name(k): v for k, v in card_table(known[path]).items()}
        labels = {k: v for k, v in table.items() if k not in NO_LABELS}
        if not labels:
            mute += 1
            continue
        base = card_base(known[path]) or table.get("base_model", "") or repository.base_model
        bases[base] += 1
        file = f"{place.parts[0]}/{safe_name('-'.join(place.parts[1:-1]))}.safetensors"
        entries.append(Entry(file, labels, split, "", base, None, repository, candidate))
        if number % TOLD == 0:
            say(f"{number:,} of {len(members):,} cards read")
    notes = []
    if held:
        notes.append(f"{held} LoRAs of holdout splits are left out: their classes are in no other")
    if mute:
        notes.append(f"{mute} LoRAs are left out, as their cards hold no table")
    if not entries:
        raise WsdemoError(
            "No labels", f"No card of {len(members)} in {repository.repo} holds a table.",
            "Write a labels.csv by hand.",
        )  # fmt: skip
    licence = repository.licence or "none stated"
    return Listing(entries, {licence: len(entries)}, notes, "folders with a card each (Model-J)")
