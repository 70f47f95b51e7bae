"""Links into the page: what they may say, and where they lead."""

import gradio as gr
import pytest

from wsdemo.errors import WsdemoError
from wsdemo.ui import links
from wsdemo.ui.lora import hub_row


@pytest.mark.parametrize(
    ("label", "name"), [("A mesh", "a-mesh"), ("LoRA evaluator", "lora-evaluator"), ("Fit", "fit")]
)
def test_tabs_are_named_in_addresses_as_people_would_write_them(label, name):
    assert links.slug(label) == name


def test_the_way_to_an_inner_tab_goes_through_all_rows():
    with gr.Blocks() as page:
        with gr.Tab("Sample"), gr.Tab("Faces"):
            gr.Markdown("x")
        with gr.Tab("Fit"):
            gr.Tab("A photo")
            with gr.Tab("A mesh"):
                gr.Markdown("y")
    tabs = links.tabs_of(page)
    way = links.way_to(tabs["a-mesh"])
    assert len(way) == 2
    assert {tabs["fit"].id, tabs["a-mesh"].id} == set(way.values())
    assert tabs["fit"].parent in way
    assert len(links.way_to(tabs["sample"])) == 1


CONTROLS = {
    "seed": lambda: gr.Number(7, minimum=0, maximum=100, precision=0),
    "count": lambda: gr.Slider(1, 16, 8, step=1),
    "wanted": lambda: gr.Dropdown(["Smiling", "Young"], multiselect=True),
    "category": lambda: gr.Dropdown(["any", "chair"]),
}


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [("seed", "12", 12), ("count", "2", 2), ("wanted", "Smiling,Young", ["Smiling", "Young"]),
     ("category", "chair", "chair")],
)  # fmt: skip
def test_a_link_names_controls_by_the_parameters_of_the_endpoint(name, text, value):
    control = CONTROLS[name]()
    assert links.asked_values({name: control}, {name: text, "other": "x"}) == {name: value}


@pytest.mark.parametrize(
    ("name", "text"),
    [("seed", "-1"), ("seed", "101"), ("seed", "nan"), ("seed", "inf"), ("seed", ""),
     ("seed", "<b>"), ("count", "17"), ("count", "1e9"), ("wanted", "Bald"), ("wanted", ""),
     ("category", "Smiling")],
)  # fmt: skip
def test_a_link_that_says_what_cannot_be_is_refused_with_what_can(name, text):
    with pytest.raises(WsdemoError) as refusal:
        links.asked_values({name: CONTROLS[name]()}, {name: text})
    assert refusal.value.title == "Link not understood"
    assert refusal.value.hint.startswith("Expected")


def test_following_no_link_does_nothing_and_a_bad_one_says_why():
    assert list(hub_row.follow(None)) == [tuple([gr.skip()] * 7)]

    def draw(seed):
        yield seed, "drawn"

    assert list(links._if_asked(draw, 2)(None, 7)) == [(gr.skip(),) * 2]
    assert list(links._if_asked(draw, 2)({"seed": "7"}, 7)) == [(7, "drawn")]
    assert links._if_asked(lambda _: "large", 1)(None, 7) == gr.skip()
    assert links._if_asked(lambda _: "large", 1)({"seed": "7"}, 7) == "large"
    *_, last = hub_row.follow("not a reference")
    assert last[3].startswith("**")
    assert last[5] == gr.skip()
