"""What a predictor says of the LoRAs that made it: their counts, and what calibrated it."""

from collections.abc import Sequence
from typing import Any

from wsdemo.errors import WsdemoError
from wsdemo.lol.data.collection import CALIBRATION, Collection, short_name
from wsdemo.lol.predictor.metrics import fewest_residuals
from wsdemo.lol.predictor.predictor import COVERAGE


def check_calibration(collection: Collection) -> None:
    """Refuses tasks for which no interval can be promised, before anything is trained.

    Raises:
        WsdemoError: Too few LoRAs with a regression's labels are there to calibrate it.
    """
    least = fewest_residuals(COVERAGE)
    split = CALIBRATION if CALIBRATION in collection.splits else "validation"
    for task in collection.tasks:
        count = len(collection.calibration.known(task).names)
        if task.kind == "regression" and count < least:
            raise WsdemoError(
                "Too few LoRAs to calibrate",
                f"{count} {split} LoRAs have the labels of {task.name}; an interval that holds"
                f" {COVERAGE:.0%} of new LoRAs needs {least}.",
                f"Add labelled LoRAs (about {round(least / 0.15)} in all), name more of them"
                f" {split} in a column 'split', or leave the label out.",
            )


def not_answered(tasks: Sequence[str]) -> str:
    """The sentence of a card on tasks that are hardly better than chance."""
    if not tasks:
        return ""
    return f"Not answered, as hardly better than chance on validation LoRAs: {', '.join(tasks)}."


def answered_badly(tasks: Sequence[str]) -> str:
    """The sentence of a card on such tasks that are answered nevertheless."""
    if not tasks:
        return ""
    return f"Answered, though hardly better than chance on validation LoRAs: {', '.join(tasks)}."


def calibration_sentence(collection: Collection) -> str:
    """What intervals and probabilities were calibrated on."""
    if CALIBRATION in collection.splits:
        count = len(collection.calibration.names)
        return f"calibrated on {count} LoRAs that served nothing else"
    return (
        "calibrated on the validation LoRAs, which also chose the models: intervals may be somewhat"
        " narrow"
    )


def provenance(collection: Collection) -> dict[str, Any]:
    """What a predictor's metadata say of its LoRAs, beyond the names of the training LoRAs."""
    counts = {k: len(v.names) for k, v in collection.splits.items()}
    others = [part for split, part in collection.splits.items() if split not in ("train", "test")]
    return {
        "counts": counts,
        "calibration": {
            "split": CALIBRATION if CALIBRATION in counts else "validation",
            "loras": len(collection.calibration.names),
            "sentence": calibration_sentence(collection),
        },
        "chosen_by": [short_name(name) for part in others for name in part.names],
        "notes": list(collection.notes),
    }
