import gzip
from pathlib import Path

import numpy as np
import pytest

from fededge import storage
from fededge.delivery.variants.measurement import measure
from fededge.documents import Feature, Label, Schema
from fededge.errors import VariantError

pytestmark = pytest.mark.environment("serving")

MODEL = (Path(__file__).parents[1] / "fixtures" / "brightest.tflite").read_bytes()


def pixels(labels: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """One example a label, with that pixel the brightest."""
    return np.eye(4, dtype=np.float32)[labels].reshape(-1, 2, 2, 1), np.array(labels, np.int64)


def test_size_accuracy_and_identity_are_those_of_the_file() -> None:
    x, y = pixels([0, 1, 2, 3])
    y[3] = 0
    figures = measure(MODEL, "float32", x, y, reference=1.0)
    assert figures.kind == "float32"
    assert figures.digest == storage.digest(MODEL)
    assert figures.bytes == len(MODEL)
    assert figures.compressed_bytes == len(gzip.compress(MODEL))
    assert figures.score == 0.75
    assert figures.score_loss == 0.25
    assert (figures.shape, figures.classes) == ([2, 2, 1], 4)


def test_all_examples_count_where_they_are_more_than_a_batch() -> None:
    x, y = pixels([0, 1, 2, 3] * 300)
    y[-300:] = (y[-300:] + 1) % 4
    assert measure(MODEL, "float32", x, y, reference=1.0).score == 0.75


def test_a_variant_is_scored_by_the_kind_of_label() -> None:
    x, y = pixels([0, 1, 2, 3])
    feature = Feature(name="pixels", dtype="float32", shape=[2, 2, 1])
    schema = Schema(features=[feature], label=Label(kind="multi-label", classes=4))
    figures = measure(MODEL, "float32", x, np.eye(4, dtype=np.float32)[y], 1.0, schema)
    assert figures.metric == "accuracy"
    assert 0.7 < figures.score <= 1
    numbers = Schema(features=[feature], label=Label(kind="number", shape=[4]))
    assert measure(MODEL, "float32", x, np.eye(4, dtype=np.float32)[y], 1.0, numbers).metric == "r2"
    with pytest.raises(VariantError, match="2 outputs each are expected"):
        measure(MODEL, "float32", x, y, 1.0, Schema(features=[feature], label=Label(classes=2)))


def test_latency_is_measured_for_1_and_for_500_examples() -> None:
    figures = measure(MODEL, "float32", *pixels([0]), reference=1.0)
    assert figures.latency_ms_1 > 0
    assert figures.latency_ms_500 > 0


def test_a_model_that_answers_not_a_number_is_refused() -> None:
    x, y = pixels([0])
    with pytest.raises(VariantError, match="not finite"):
        measure(MODEL, "float32", np.full_like(x, np.inf), y, reference=1.0)
