"""What the predictions' table, legend, strip and exhibit say."""

import dataclasses
import re

import pytest

from tests.lol.synthetic import labelled
from tests.lol.test_answers import untrained
from tests.lol.test_predictor import as_lora
from wsdemo.lol.predictor.answers import Answer, Grounds, ask
from wsdemo.lol.predictor.predictor import Prediction
from wsdemo.lora.reading import Reading
from wsdemo.ui.lora import prediction_html


@pytest.fixture(scope="module")
def predictor():
    return untrained()


def value(name, place, task="t"):
    return Prediction(name, 1.0, (0.5, 2.0), None, "", task, "ρ 0.9", place)


def shown(*predictions, **more):
    return prediction_html.predictions_html(Answer("f", "p", False, "", predictions, **more))


def test_a_bar_shows_where_the_interval_lies_among_the_training_labels():
    drawn = shown(value("a", (0.1, 0.3, 0.4)), value("b", (-0.5, 0.9, 1.4)))
    bands = re.findall(r'x="([\d.]+)" width="([\d.]+)" height="12" fill="#4f46e5"', drawn)
    assert [tuple(map(float, band)) for band in bands] == [(10.0, 30.0), (0.0, 100.0)]
    marks = re.findall(r'x="([\d.]+)" width="2"', drawn)
    assert [float(mark) for mark in marks] == [29.0, 89.0]
    assert "within the training labels" in drawn


def test_the_baseline_has_a_column_where_there_is_one_and_says_where_not():
    one, two = value("a", (0, 0.5, 1)), value("b", (0, 0.5, 1), "other")
    assert "MLP" not in shown(one, two)
    both = shown(one, two, baseline=(dataclasses.replace(one, value=7.0),))
    assert "MLP baseline" in both
    assert ">7</td>" in both
    assert ">none</td>" in both
    assert "kept for comparison on one task alone: t." in both
    assert "on one task alone" not in shown(one, baseline=(one,))


def test_tasks_that_are_silent_at_a_rank_are_named_with_the_reason():
    told = shown(value("a", (0, 0.5, 1)), not_answered={"data set size": "its rank is 8"})
    assert "Not answered: data set size; its rank is 8." in told


def test_a_percentage_of_the_face_generator_is_explained():
    yes = Prediction("Male", 1.0, None, 0.88, "", "attributes")
    found = Answer("f", "lol-face-generator", False, "", (yes,))
    assert "than faces at large" in prediction_html.predictions_html(found)
    assert "than faces at large" not in shown(yes)


@pytest.mark.parametrize(
    ("label", "unit"),
    [("score", "standard deviations of the training labels"), ("sign", "percentage points")],
)
def test_the_strip_says_its_unit_and_what_was_done(predictor, label, unit):
    batch = labelled(1, 14).pairs
    reading = Reading.of(as_lora(batch, 0))
    said = prediction_html.evidence_html(Grounds(reading, predictor, batch), label)
    assert f"less what it is with one module 10 % weaker, in {unit}." in said
    assert "lie outside" not in said
    narrow = dataclasses.replace(predictor.envelope, threshold=1e-6)
    narrow = dataclasses.replace(predictor, envelope=narrow)
    assert "3 of these 3 weaker LoRAs lie outside" in prediction_html.evidence_html(
        Grounds(reading, narrow, batch), label
    )


def test_the_gauge_exhibit_does_without_a_baseline(predictor):
    found, grounds = ask(Reading.of(as_lora(labelled(3, 11).pairs, 0)), [predictor])
    assert not found.abstained
    drawn = prediction_html.gauge_html(grounds, 1)
    assert drawn.count("<th scope='row'>") == 3
