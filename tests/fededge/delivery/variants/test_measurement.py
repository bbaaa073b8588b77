import gzip
from pathlib import Path

import numpy as np
import pytest

from fededge import storage
from fededge.delivery.variants.measurement import held_out, measure
from fededge.errors import DataError, VariantError

pytestmark = pytest.mark.environment("serving")

MODEL = (Path(__file__).parents[1] / "fixtures" / "brightest.tflite").read_bytes()


def pixels(labels: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """One example a label, with that pixel the brightest."""
    return np.eye(4, dtype=np.float32)[labels].reshape(-1, 2, 2, 1), np.array(labels, np.int64)


def test_size_accuracy_and_identity_are_those_of_the_file() -> None:
    x, y = pixels([0, 1, 2, 3])
    y[3] = 0
    figures = measure(MODEL, "float32", x, y, reference=1.0)
    assert figures["kind"] == "float32"
    assert figures["digest"] == storage.digest(MODEL)
    assert figures["bytes"] == len(MODEL)
    assert figures["compressed_bytes"] == len(gzip.compress(MODEL))
    assert figures["accuracy"] == 0.75
    assert figures["accuracy_loss"] == 0.25
    assert (figures["shape"], figures["classes"]) == ([2, 2, 1], 4)


def test_all_examples_count_where_they_are_more_than_a_batch() -> None:
    x, y = pixels([0, 1, 2, 3] * 300)
    y[-300:] = (y[-300:] + 1) % 4
    assert measure(MODEL, "float32", x, y, reference=1.0)["accuracy"] == 0.75


def test_latency_is_measured_for_1_and_for_500_examples() -> None:
    figures = measure(MODEL, "float32", *pixels([0]), reference=1.0)
    assert figures["latency_ms_1"] > 0
    assert figures["latency_ms_500"] > 0


def test_a_model_that_answers_not_a_number_is_refused() -> None:
    x, y = pixels([0])
    with pytest.raises(VariantError, match="not finite"):
        measure(MODEL, "float32", np.full_like(x, np.inf), y, reference=1.0)


def test_held_out_examples_read_back(tmp_path: Path) -> None:
    x, y = pixels([2, 1])
    np.save(tmp_path / "x.npy", x)
    np.save(tmp_path / "y.npy", y)
    found_x, found_y = held_out(tmp_path)
    np.testing.assert_array_equal(found_x, x)
    np.testing.assert_array_equal(found_y, y)


@pytest.mark.parametrize(
    ("x", "y"),
    [
        (np.zeros((0, 2, 2, 1), np.float32), np.zeros(0, np.int64)),
        (np.zeros((1, 2, 2, 1), np.float64), np.zeros(1, np.int64)),
        (np.zeros((1, 4), np.float32), np.zeros(1, np.int64)),
        (np.zeros((2, 2, 2, 1), np.float32), np.zeros(1, np.int64)),
        (np.zeros((1, 2, 2, 1), np.float32), np.array([None])),
    ],
    ids=["none", "float64", "flat", "labels missing", "pickle"],
)
def test_malformed_held_out_examples_are_refused(tmp_path: Path, x: np.ndarray, y: np.ndarray) -> None:
    np.save(tmp_path / "x.npy", x)
    np.save(tmp_path / "y.npy", y)
    with pytest.raises(DataError, match=str(tmp_path)):
        held_out(tmp_path)


def test_missing_held_out_examples_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=str(tmp_path)):
        held_out(tmp_path)
