"""Sub-tab: a predictor of the visitor's own, asked before the shipped ones."""

import gradio as gr

from wsdemo.errors import WsdemoError
from wsdemo.lol.predictor.shipped import hub_predictor, shipped_predictors
from wsdemo.ui.lora.hub_row import given_token, token_field
from wsdemo.ui.lora.prediction import VisitorFiles, labels_of, own_predictor
from wsdemo.ui.shared.events import HUB, guarded
from wsdemo.ui.shared.text import text_of

INTRO = """`python -m wsdemo lol train --loras DIR --labels labels.csv --out my-predictor/` makes a
predictor of a folder of LoRAs of one base model and a table of what is to be predicted of them;
numbers need about 60 LoRAs. Given here, it is asked before the shipped ones."""


@guarded
def use_predictor(
    text: str | None, path: str | None, token: str | None, login: gr.OAuthToken | None = None
) -> tuple[VisitorFiles, str]:
    """A predictor from a dropped file or the Hub → the visitor's own file, and what it knows.

    ``login`` is filled in by gradio from its type, as in hub_row.
    """
    if path is None and not (text or "").strip():
        return (), "Only the shipped predictors are asked."
    if path is not None and (text or "").strip():
        raise WsdemoError(
            "Which one?", "A file and a name are given.", "Empty one of the two fields."
        )
    if path is not None:
        file = path
    else:  # never a path of the server's
        file = str(hub_predictor((text or "").strip(), given_token(token, login)))
    predictor = own_predictor(file)
    labels = ", ".join(title for title, _ in labels_of(predictor))
    answer = f"Asked first from now on: {text_of(predictor.title)}, which predicts {labels}"
    return (file,), f"{text_of(answer, 600)}."


def build(visitor_predictors: gr.State) -> gr.events.Dependency:
    """Lays out the sub-tab, whose choice goes to ``visitor_predictors``.

    Returns:
        The event of choosing.
    """
    gr.Markdown(INTRO)
    gr.Markdown("Shipped: " + "; ".join(p.title for p in shipped_predictors()) + ".")
    with gr.Row():
        reference = gr.Textbox(
            label="From the Hub: owner/name", max_length=600, elem_id="predictor-reference"
        )
        dropped = gr.File(
            label="or its file, predictor.safetensors", file_types=[".safetensors"], height=110,
            elem_id="predictor-file",
        )  # fmt: skip
    token = token_field()
    use = gr.Button("Use it", elem_id="predictor-use")
    using = gr.Markdown(elem_id="predictor-status")
    return gr.on(
        [use.click, reference.submit], use_predictor, [reference, dropped, token],
        [visitor_predictors, using], api_visibility="private", **HUB,
    )  # fmt: skip
