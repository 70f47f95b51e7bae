"""A LoRA of the Hub by its name alone, for programs and assistants: one question, one answer."""

import time
from typing import Any

from wsdemo.hub import client as hub
from wsdemo.hub.repository import CONFIG
from wsdemo.lol.predictor.answers import ask
from wsdemo.lora.passport import passport
from wsdemo.lora.reader import judge_header
from wsdemo.ui.lora.prediction import predictors_of
from wsdemo.ui.lora.readings import reading_of
from wsdemo.ui.shared.events import guarded


@guarded
def inspect_hub_lora(reference: str) -> dict[str, Any]:
    """Passport and prediction of a public LoRA on the Hub.

    Args:
        reference: owner/name[@revision][:path], or an address.

    Returns:
        ``repository``, ``commit`` and ``file``, its path there; ``passport`` without its origin,
        which would say the same under *path*, a key whose value gradio's clients fetch;
        ``prediction``, or in it why there is none.
    """
    started = time.monotonic()
    path, repository, candidate = hub.fetch_file(reference, None, judge_header)
    beside = path.with_name(CONFIG)
    reading = reading_of(str(path), str(beside) if beside.is_file() else None)
    answer = ask(reading, predictors_of(()))[0]
    known = passport(reading.lora, reading.geometry)
    known.pop("origin", None)
    return {
        "repository": repository.repo,
        "commit": repository.commit,
        "file": candidate.path,
        "passport": known,
        "prediction": answer.to_dict(time.monotonic() - started),
    }
