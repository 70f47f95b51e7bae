"""The LoRAs of a folder that a predictor can be judged by: those it was not made from."""

from collections.abc import Collection, Sequence
from pathlib import Path

from wsdemo.errors import WsdemoError
from wsdemo.lol.data.collection import (
    check_splits,
    labelled,
    read_labels,
    read_member,
    short_name,
    split_of,
)
from wsdemo.lol.data.labels import check_columns, table_of, with_classes
from wsdemo.lol.data.pairs import by_family_name
from wsdemo.lol.data.tasks import LabelledLoras
from wsdemo.lol.predictor.predictor import Predictor
from wsdemo.lora.modules import Lora


def load_unseen(
    folder: Path,
    labels: Path,
    predictor: Predictor,
    seen: Collection[str],
    rank: int | None = None,
) -> tuple[LabelledLoras, list[str]]:
    """The LoRAs that a predictor has not seen, and notes on those that are left out.

    Where the table names splits, the test LoRAs alone.

    Args:
        folder, labels: As of ``load_collection``.
        predictor: Its modules, kind and tasks are expected.
        seen: Short names of the LoRAs that trained it, chose its models or calibrated it.
        rank: As of ``load_collection``.

    Raises:
        WsdemoError: None is left, a label is missing, or they are of another family.
    """
    tasks = [models.task for models in predictor.tasks.values()]
    table = with_classes(table_of(folder, *read_labels(labels)), tasks)
    check_columns(table, tasks)
    rows = list(range(len(table.rows)))
    if any((row.get("split") or "").strip() for row in table.rows):
        check_splits(table.rows)
        rows = [i for i in rows if split_of(table.rows[i]) == "test"]
    index = [i for i in rows if short_name(table.rows[i]["file"]) not in seen]
    notes = list(table.notes)
    if len(index) < len(rows):
        notes.append(
            f"{len(rows) - len(index)} of {len(rows)} LoRAs are left out: by their names the"
            " predictor was made from them"
        )
    if not index:
        raise WsdemoError(
            "No LoRA to judge by",
            f"Of {len(table.rows)} labelled files none is left ({'; '.join(notes) or 'no test'}).",
            "Give labelled LoRAs that the predictor was not made from.",
        )
    loras = {i: read_member(folder, table.rows[i]["file"]) for i in index}
    check_family(list(loras.values()), predictor)
    return labelled(table, loras, predictor.signature, index, rank), notes


def check_family(loras: Sequence[Lora], predictor: Predictor) -> None:
    """Raises WsdemoError where LoRAs are not of a predictor's family."""
    signature = predictor.signature
    foreign = sum(not predictor.matches(lora) for lora in loras)
    required = signature.names if predictor.required is None else predictor.required
    missing = set(required) - {name for lora in loras for name in by_family_name(lora, signature)}
    if foreign or missing:
        raise WsdemoError(
            "Another family",
            f"{foreign} of {len(loras)} LoRAs adapt other modules or in another way, and"
            f" {len(missing)} of the predictor's {len(required)} modules are in none.",
            "Evaluate on LoRAs of the base model that it was trained for.",
        )
