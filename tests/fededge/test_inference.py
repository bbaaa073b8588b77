from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fededge import inference
from fededge.errors import DataError, VariantError
from fededge.inference import LoadedModel, load_model

pytestmark = pytest.mark.environment("serving", "edge")

FIXTURES = Path(__file__).resolve().parents[1] / "serving" / "fixtures"
SHAPE = (28, 28, 1)


def images(count: int) -> np.ndarray:
    return np.random.default_rng(count).random((count, *SHAPE), dtype=np.float32)


@pytest.fixture(scope="module")
def runtime() -> LoadedModel:
    return load_model((FIXTURES / "tiny.tflite").read_bytes())


def test_a_model_tells_its_shape_and_classes(runtime: LoadedModel) -> None:
    assert runtime.input_shape == SHAPE
    assert runtime.classes == 10


def test_answers_are_probabilities_of_the_callers_own(runtime: LoadedModel) -> None:
    x = images(3)
    first = runtime.predict(x)
    kept = first.copy()
    runtime.predict(images(5))
    assert first.dtype == np.float32
    np.testing.assert_array_equal(first, kept)
    np.testing.assert_allclose(first.sum(axis=1), 1, atol=1e-5)


@settings(max_examples=20)
@given(counts=st.lists(st.integers(0, 3 * inference.BATCH), min_size=1, max_size=4))
def test_an_answer_does_not_depend_on_how_examples_are_batched(
    runtime: LoadedModel, counts: list[int]
) -> None:
    x = images(sum(counts))
    parts = np.split(x, np.cumsum(counts)[:-1])
    separate = np.concatenate([runtime.predict(part) for part in parts])
    assert separate.shape == (len(x), 10)
    np.testing.assert_allclose(runtime.predict(x), separate, atol=1e-6)


def test_a_model_with_a_fixed_batch_takes_any_number_of_examples(runtime: LoadedModel) -> None:
    fixed = load_model((FIXTURES / "tiny_batch_of_4.tflite").read_bytes())
    for count in (0, 1, 4, 5, 11):
        x = images(count)
        np.testing.assert_allclose(fixed.predict(x), runtime.predict(x), atol=1e-6)


@pytest.mark.parametrize(
    "x",
    [
        np.zeros((2, *SHAPE), np.float64),
        np.zeros((2, 784), np.float32),
        np.zeros(SHAPE, np.float32),
        np.float32(1) * np.ones(()),
    ],
)
def test_examples_of_another_kind_are_refused(runtime: LoadedModel, x: np.ndarray) -> None:
    with pytest.raises(DataError, match="the model takes float32"):
        runtime.predict(np.asarray(x))


@pytest.mark.parametrize("data", [b"", b"not a model", bytes(1000)])
def test_a_file_that_is_no_model_is_refused(data: bytes) -> None:
    with pytest.raises(VariantError, match="cannot load"):
        load_model(data)


def test_examples_on_which_the_model_fails_are_told_and_do_no_harm() -> None:
    picky = load_model((FIXTURES / "tiny_picky.tflite").read_bytes())
    with pytest.raises(VariantError, match="fails on these examples"):
        picky.predict(np.ones((2, *SHAPE), np.float32))
    assert picky.predict(np.zeros((2, *SHAPE), np.float32)).shape == (2, 10)
