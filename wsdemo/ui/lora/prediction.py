"""Part of the report: what the predictors say of the dropped file, and why."""

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import gradio as gr

from wsdemo.errors import WsdemoError
from wsdemo.limits import KEPT_PREDICTORS
from wsdemo.lol.predictor.answers import Grounds, ask, model_index
from wsdemo.lol.predictor.files import load_predictor
from wsdemo.lol.predictor.predictor import Predictor
from wsdemo.lol.predictor.shipped import shipped_predictors
from wsdemo.lora.reading import Reading
from wsdemo.ui.lora import prediction_html
from wsdemo.ui.lora.examples import truth
from wsdemo.ui.lora.readings import reading_of
from wsdemo.ui.opening.kept import kept
from wsdemo.ui.shared.events import READING, guarded

VisitorFiles = tuple[str, ...] | None
"""Files of a visitor's own predictors, asked before the shipped ones. Not the predictors: of all
visitors together only KEPT_PREDICTORS are held in memory."""


@lru_cache(maxsize=KEPT_PREDICTORS)
def own_predictor(path: str) -> Predictor:
    """A visitor's own predictor.

    Raises:
        WsdemoError: As ``load_predictor``.
    """
    return load_predictor(Path(path))


def predictors_of(visitor_predictors: VisitorFiles) -> tuple[Predictor, ...]:
    """All predictors that are asked, in their order."""
    return (*(own_predictor(path) for path in visitor_predictors or ()), *shipped_predictors())


def grounds_of(reading: Reading, visitor_predictors: VisitorFiles) -> Grounds:
    """What the answer for a LoRA is made of.

    Raises:
        WsdemoError: There is none; the message says why.
    """
    answer, grounds = ask(reading, predictors_of(visitor_predictors))
    if grounds is None:
        raise WsdemoError("No prediction", answer.reason, "See the report above.")
    return grounds


def labels_of(predictor: Predictor) -> list[tuple[str, str]]:
    """(shown, label) choices of a predictor."""
    labels = [name for models in predictor.tasks.values() for name in models.task.labels]
    return [(prediction_html.shown(name), name) for name in labels]


def _nothing() -> tuple[Any, ...]:
    """What is shown below the answer where nothing is predicted."""
    return "", gr.Dropdown(visible=False), "", "", gr.Row(visible=False), "", ""


def predict_reading(reading: Reading, visitor_predictors: VisitorFiles = ()) -> tuple[Any, ...]:
    """Answer, true labels, choice of labels, evidence, doses, visibility of the rest, model-index,
    and no gauge exhibit yet."""
    answer, grounds = ask(reading, predictors_of(visitor_predictors))
    text = prediction_html.predictions_html(answer)
    if grounds is None:
        return text, *_nothing()
    choices = labels_of(grounds.predictor)
    headline = next(iter(grounds.predictor.tasks.values())).task.headline
    first = headline[0] if headline else choices[0][1]
    return (
        text,
        truth(reading.lora),
        gr.Dropdown(choices=choices, value=first, visible=True),
        prediction_html.evidence_html(grounds, first),
        prediction_html.doses_html(grounds, first),
        gr.Row(visible=True),
        model_index("my-lora", answer.predictions),
        "",
    )


@guarded
def predict(
    path: str | None, config: str | None = None, visitor_predictors: VisitorFiles = ()
) -> tuple[Any, ...]:
    """All that the section shows of a dropped file."""
    if path is None:
        return "", *_nothing()
    return predict_reading(reading_of(path, config), visitor_predictors)


@guarded
def explain(
    path: str | None, config: str | None, visitor_predictors: VisitorFiles, label: str | None
) -> tuple[str, str]:
    """Evidence and dose curves of another label."""
    path = path or opening_file()
    if path is None or not label:
        return "", ""
    grounds = grounds_of(reading_of(path, config), visitor_predictors)
    return (
        prediction_html.evidence_html(grounds, label),
        prediction_html.doses_html(grounds, label),
    )


@guarded
def turn(
    path: str | None, config: str | None, visitor_predictors: VisitorFiles, seed: float | None
) -> str:
    """The prediction for the same update from other factors."""
    grounds = grounds_of(reading_of(path or opening_file(), config), visitor_predictors)
    return prediction_html.gauge_html(grounds, int(seed or 0))


def opening_file() -> str | None:
    """The LoRA of the report that the tab opens on: until one is dropped, it is that one's."""
    file = kept("lora").get("file")
    return str(file) if file else None


def build(
    file: gr.File, given: gr.State, config: gr.File, visitor_predictors: gr.State,
    opening: Mapping[str, Any],
) -> tuple[list[Any], list[Any]]:  # fmt: skip
    """Lays out the section, with what was recorded for the opening, and wires it to the dropped
    file, whose path ``given`` holds.

    Returns:
        Inputs and outputs of ``predict``, for whatever else asks again.
    """
    gr.Markdown("## What its weights say")
    verdict = gr.HTML(opening.get("verdict"), elem_id="prediction")
    true = gr.Markdown(opening.get("true"))
    label = gr.Dropdown(
        choices=[tuple(choice) for choice in opening.get("labels", [])],
        value=opening.get("label"), label="Explain", visible=bool(opening), elem_id="explain",
    )  # fmt: skip
    with gr.Row(visible=bool(opening)) as more:
        with gr.Column():
            gr.Markdown("### Which modules decide")
            evidence = gr.HTML(opening.get("evidence"))
            gr.Markdown("### The same update from other factors")
            gauge_seed = gr.Number(1, label="Seed of R", precision=0)
            gauge = gr.Button("Re-gauge and predict again")
            exhibit = gr.HTML(elem_id="gauge")
        with gr.Column():
            gr.Markdown("### Weaker, stronger, lower rank")
            doses = gr.HTML(opening.get("doses"))
            with gr.Accordion("For the model card (marked as predicted)", open=False):
                card = gr.Code(
                    opening.get("model_index"), language="yaml", label="model-index",
                    interactive=False,
                )  # fmt: skip
    outputs = [verdict, true, label, evidence, doses, more, card, exhibit]
    inputs = [file, config, visitor_predictors]
    private: dict[str, Any] = {"api_visibility": "private", **READING}
    given.change(predict, inputs, outputs, api_name="predict_lora", **READING)
    config.change(predict, inputs, outputs, **private)
    label.input(explain, [*inputs, label], [evidence, doses], **private)
    gauge.click(turn, [*inputs, gauge_seed], exhibit, **private)
    return inputs, outputs
