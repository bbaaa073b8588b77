"""A device's own samples, and a model tried on them."""

from pathlib import Path

import numpy as np
import pytest

from fededge import examples
from fededge.device.samples import Samples, read, try_out
from fededge.documents import Feature, Label, Schema
from fededge.errors import DataError, ReleaseError

pytestmark = pytest.mark.environment("platform", "edge")

X, Y = np.zeros((4, 2, 2, 1), np.float32), np.array([0, 0, 0, 1])


class Constant:
    """A runtime that gives every example the same outputs, or fails."""

    input_shape = (2, 2, 1)
    classes = 2
    schema = None

    def __init__(self, outputs: list[float], error: Exception | None = None) -> None:
        self._outputs, self._error = outputs, error

    def predict(self, x: np.ndarray) -> np.ndarray:
        if self._error:
            raise self._error
        return np.tile(np.array(self._outputs, np.float32), (len(x), 1))


def save(folder: Path, x: np.ndarray, y: np.ndarray) -> Path:
    np.save(folder / "x.npy", x)
    np.save(folder / "y.npy", y)
    return folder


def test_saved_samples_are_read(tmp_path: Path) -> None:
    samples = read(save(tmp_path, X, Y))
    np.testing.assert_array_equal(samples.x, X)
    np.testing.assert_array_equal(samples.y, Y)


@pytest.mark.parametrize(
    ("x", "y"),
    [
        (np.full((4, 2, 2, 1), np.nan, np.float32), Y),
        (X.astype(np.float64), Y),
        (X[:3], Y),
        (X, Y[:, None]),
        (X, Y.astype(np.float32)),
        (np.float32(0), Y),
        (np.array([{}], dtype=object), Y),
    ],
)
def test_unusable_samples_are_refused(tmp_path: Path, x: np.ndarray, y: np.ndarray) -> None:
    with pytest.raises(DataError, match=r"samples|x\.npy"):
        read(save(tmp_path, x, y))


def test_truncated_samples_are_refused(tmp_path: Path) -> None:
    save(tmp_path, X, Y)
    data = (tmp_path / "x.npy").read_bytes()
    (tmp_path / "x.npy").write_bytes(data[:-8])
    with pytest.raises(DataError, match=r"x\.npy"):
        read(tmp_path)


def test_samples_that_are_not_there_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="No such file"):
        read(tmp_path)


def test_accuracy_is_the_share_of_right_answers() -> None:
    outcome = try_out(Constant([0.9, 0.1]), Samples(X, Y), [2, 2, 1], 2)
    assert outcome.score == 0.75
    assert outcome.latency_ms >= 0


def test_numbers_are_scored_in_their_own_metric(tmp_path: Path) -> None:
    feature = Feature(name="level", dtype="uint8", shape=[2, 2, 1])
    schema = Schema(features=[feature], label=Label(kind="number", shape=[2]))
    examples.write(tmp_path, np.full((3, 2, 2, 1), 255), np.array([[0.0, 1.0], [1, 2], [2, 3]]), schema)
    outcome = try_out(Constant([1.0, 2.0]), read(tmp_path), [2, 2, 1], 2)
    assert outcome.metric == "r2"
    assert outcome.score == pytest.approx(1 - 2 / 2.75)
    three = Constant([1.0, 2.0, 3.0])
    three.classes = 3
    with pytest.raises(DataError, match="2 outputs where the model gives 3"):
        try_out(three, read(tmp_path), [2, 2, 1], 3)


def test_without_samples_the_model_still_has_to_answer() -> None:
    assert try_out(Constant([0.9, 0.1]), None, [2, 2, 1], 2).score is None
    with pytest.raises(ReleaseError, match="not finite"):
        try_out(Constant([0.9, float("nan")]), None, [2, 2, 1], 2)


@pytest.mark.parametrize(("shape", "classes"), [([2, 2, 1], 3), ([4], 2)])
def test_a_model_of_another_shape_than_released_is_refused(shape: list[int], classes: int) -> None:
    with pytest.raises(ReleaseError, match="was released"):
        try_out(Constant([0.9, 0.1]), None, shape, classes)


def test_a_model_that_fails_is_refused() -> None:
    with pytest.raises(ReleaseError, match="node 3 failed"):
        try_out(Constant([], RuntimeError("node 3 failed")), Samples(X, Y), [2, 2, 1], 2)
