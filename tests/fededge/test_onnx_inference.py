"""ONNX files: what ONNX Runtime runs of them, and what is refused before it does."""

import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from fededge import inference
from fededge.errors import DataError, VariantError
from fededge.inference import load_model

pytestmark = pytest.mark.environment("serving", "worker")

FIXTURES = Path(__file__).resolve().parents[1] / "fixtures"
KIND = "onnx-float32"
WEIGHTS = np.random.default_rng(1).normal(size=(16, 3)).astype(np.float32)


def read(name: str) -> bytes:
    return (FIXTURES / f"{name}.onnx").read_bytes()


def images(count: int) -> np.ndarray:
    return np.random.default_rng(count).random((count, 4, 4, 1), dtype=np.float32)


@pytest.mark.parametrize("count", [0, 1, 3 * inference.BATCH + 1])
@pytest.mark.parametrize("threads", [1, 2])
def test_any_number_of_examples_is_answered(count: int, threads: int) -> None:
    model, x = load_model(read("first"), KIND, threads), images(count)
    grown = np.exp(x.reshape(count, 16) @ WEIGHTS)
    np.testing.assert_allclose(model.predict(x), grown / grown.sum(axis=1, keepdims=True), atol=1e-6)


def test_a_file_tells_shape_classes_and_schema() -> None:
    model = load_model(read("first"), KIND)
    assert (model.input_shape, model.classes) == ((4, 4, 1), 3)
    assert model.schema is not None
    assert model.schema.label.names == ["a", "b", "c"]
    assert load_model(read("picky"), KIND).schema is None


def test_a_schema_that_is_none_is_told() -> None:
    damaged = read("first").replace(b'"features"', b'"creature"')
    with pytest.raises(VariantError, match="the model's schema"):
        _ = load_model(damaged, KIND).schema


@pytest.mark.parametrize("x", [images(2).astype(np.float64), images(2).reshape(2, 16), images(1)[0]])
def test_examples_of_another_kind_are_refused(x: np.ndarray) -> None:
    with pytest.raises(DataError, match="the model takes float32"):
        load_model(read("first"), KIND).predict(x)


def test_weights_in_another_file_are_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "weights.bin").write_bytes(WEIGHTS.tobytes())
    plain = onnxruntime.InferenceSession(read("external"), providers=["CPUExecutionProvider"])
    assert plain.run(None, {"x": images(1)})[0].shape == (1, 3)
    with pytest.raises(
        VariantError, match=r"cannot load an ONNX model .*External data path validation failed"
    ):
        load_model(read("external"), KIND)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "cannot load an ONNX model of 0 bytes"),
        (b"not a model", "cannot load an ONNX model"),
        (read("first")[:-40], "cannot load an ONNX model"),
        ((FIXTURES / "first.tflite").read_bytes(), "cannot load an ONNX model"),
        (read("foreign"), "acme:Answer.* is not a registered function"),
        (read("fixed"), r"takes \[4, 4, 4, 1\] .* the number of examples alone is to be free"),
        (read("pair"), "the model's input is .* where one float32 batch is needed"),
    ],
    ids=["empty", "text", "cut", "LiteRT", "foreign", "fixed", "pair"],
)
def test_what_is_no_model_of_one_free_batch_is_refused(data: bytes, said: str) -> None:
    with pytest.raises(VariantError, match=said):
        load_model(data, KIND)


def test_a_file_that_is_too_large_is_refused_unread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inference, "MODEL_LIMIT", 100)
    with pytest.raises(VariantError, match="is larger than 100"):
        load_model(read("first"), KIND)


def test_examples_on_which_the_model_fails_are_told_and_do_no_harm() -> None:
    picky = load_model(read("picky"), KIND)
    with pytest.raises(VariantError, match="fails on these examples"):
        picky.predict(images(2) + 1)
    assert picky.predict(np.zeros((2, 4, 4, 1), np.float32)).shape == (2, 3)
    with pytest.raises(VariantError, match=r"fails on these examples \(outputs of shape \[1, 3\] for 2"):
        load_model(read("uneven"), KIND).predict(images(2))


def test_a_missing_runtime_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(VariantError, match="ONNX Runtime, which is not installed here: pip install"):
        load_model(read("first"), KIND)
