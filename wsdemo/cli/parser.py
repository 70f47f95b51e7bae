"""The parser of the command line: complaints as refusals, help with defaults, verbs by subject."""

import argparse
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from wsdemo.errors import WsdemoError

SUBJECTS: Mapping[str, Sequence[str]] = {
    "pictures and shapes as weights": ("fit", "decode", "sample", "render", "canonical"),
    "weight space": ("clusters", "neighbours", "walk", "edit"),
    "LoRA files": (
        "inspect",
        "compare",
        "resize",
        "merge",
        "regauge",
        "export",
        "extract",
        "convert",
    ),
    "learning on LoRAs": ("predict", "lol"),
    "many LoRAs": ("library",),
}
"""What the verbs are about; those that are not listed come last."""


class Formatter(argparse.RawDescriptionHelpFormatter):
    """States the default of every option that has one, once."""

    def _get_help_string(self, action: argparse.Action) -> str:
        text = action.help or ""
        is_one = action.default not in (None, False, argparse.SUPPRESS) and action.default != []
        if action.option_strings and is_one and "default" not in text:
            text += "; default: %(default)s" if text else "default: %(default)s"
        return text


class Parser(argparse.ArgumentParser):
    """An argument parser whose complaints are WsdemoErrors."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **{"formatter_class": Formatter, **options})

    def error(self, message: str) -> NoReturn:
        raise WsdemoError("Command not understood", message, f"See: {self.prog} --help")


def by_subject(texts: Mapping[str, str]) -> str:
    """The verbs (name → what it does) under their subjects, as the end of the help."""
    others = [name for name in texts if not any(name in verbs for verbs in SUBJECTS.values())]
    lines = []
    for subject, names in {**SUBJECTS, "this installation": others}.items():
        listed = [name for name in names if name in texts]
        if listed:
            lines += [f"{subject}:", *(f"  {name:<12}{texts[name]}" for name in listed), ""]
    return "\n".join([*lines, "Options of a verb, with defaults and bounds: wsdemo VERB --help"])
