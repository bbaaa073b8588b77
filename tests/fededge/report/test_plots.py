"""The charts as images of their own."""

from dataclasses import replace
from xml.etree import ElementTree

import numpy as np
import pytest

from fededge.documents import Evaluation
from fededge.report.content import Report, report_of
from fededge.report.plots import confusion_image, plots
from fededge.report.records import read
from tests.fededge.report.example import RECORDS, TASK


@pytest.fixture(scope="module")
def report() -> Report:
    return report_of(TASK, "run-1", "mlflow", read(RECORDS))


def test_each_image_stands_alone_in_the_colors_of_the_light_page(report: Report) -> None:
    images = plots(report)
    assert {"scores.svg", "loss.svg", "clients.svg", "variants.svg", "confusion.svg"} <= set(images)
    for image in images.values():
        assert ElementTree.fromstring(image).tag == "{http://www.w3.org/2000/svg}svg"
        assert b"var(" not in image
    assert b"#2457d6" in images["scores.svg"]
    assert plots(report) == images


def test_what_was_not_evaluated_is_not_drawn(report: Report) -> None:
    empty = replace(report, facts=read({}))
    assert plots(empty) == {}


def test_a_confusion_of_many_classes_is_left_out(report: Report) -> None:
    found = report.evaluation
    assert found
    wide: Evaluation = found.model_copy(update={"confusion": np.eye(40, dtype=int).tolist()})
    assert "confusion.svg" not in plots(replace(report, facts=replace(report.facts, evaluations=[wide])))


def test_names_of_classes_are_text() -> None:
    image = confusion_image(np.eye(2, dtype=int), ["<script>", "$x$ & y"])
    texts = [
        element.text for element in ElementTree.fromstring(image).iter("{http://www.w3.org/2000/svg}text")
    ]
    assert {"<script>", "$x$ & y"} <= set(texts)
