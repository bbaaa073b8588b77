"""Variants: a Keras model as LiteRT files of each kind, int8 calibrated with ranges alone."""

import os

import numpy as np
import pytest
import tensorflow as tf

from fededge.delivery.variants import conversion as variants
from fededge.documents import CalibrationRanges, TensorRange
from fededge.errors import DataError, VariantError

pytestmark = pytest.mark.environment("worker")

KINDS = ["float32", "float16", "dynamic-int8", "int8"]
SHAPE = (12, 12, 1)
SAMPLES = np.random.default_rng(1).random((64, *SHAPE), np.float32)


@pytest.fixture(scope="module")
def model() -> tf.keras.Model:
    return made_model()


def made_model() -> tf.keras.Model:
    """A small convolutional classifier with seeded weights."""
    layers = tf.keras.layers
    body = tf.keras.Sequential(
        [
            layers.Input(SHAPE),
            layers.Conv2D(16, 3, activation="relu"),
            layers.Flatten(),
            layers.Dense(64, activation="relu"),
            layers.Dense(4),
        ]
    )
    image = tf.keras.Input(SHAPE)
    made = tf.keras.Model(image, layers.Softmax()(body(layers.Rescaling(1.0)(image))))
    rng = np.random.default_rng(3)
    made.set_weights([rng.normal(0, 0.1, weight.shape) for weight in made.get_weights()])
    return made


def measured(model: tf.keras.Model, x: np.ndarray) -> CalibrationRanges:
    """The ranges of `model` on x, as clients would measure and merge them."""
    body = model.layers[2]
    named = [f"{number}/{type(layer).__name__}" for number, layer in enumerate(body.layers, 1)]
    values = [x, *tf.keras.Model(body.inputs, [each.output for each in body.layers])(x)]
    ranges = [
        TensorRange(name=name, low=float(np.min(value)), high=float(np.max(value)))
        for name, value in zip(["input", *named], values, strict=True)
    ]
    return CalibrationRanges(clients=3, examples=len(x), ranges=ranges)


def build(model: tf.keras.Model, kind: str) -> bytes:
    return variants.build(model, kind, measured(model, SAMPLES))


def answers(built: bytes, x: np.ndarray) -> np.ndarray:
    interpreter = tf.lite.Interpreter(model_content=built)
    source = interpreter.get_input_details()[0]["index"]
    interpreter.resize_tensor_input(source, x.shape)
    interpreter.allocate_tensors()
    interpreter.set_tensor(source, x)
    interpreter.invoke()
    found: np.ndarray = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_a_variant_answers_like_the_model_for_any_number_of_examples(
    kind: str, model: tf.keras.Model
) -> None:
    built = build(model, kind)
    tolerance = 1e-5 if kind == "float32" else 0.05
    for count in (1, 7):
        np.testing.assert_allclose(
            answers(built, SAMPLES[:count]), model(SAMPLES[:count]).numpy(), atol=tolerance
        )


def test_weights_shrink_with_their_type(model: tf.keras.Model) -> None:
    float32, float16, dynamic, int8 = (len(build(model, kind)) for kind in KINDS)
    assert float16 < 0.6 * float32
    assert dynamic < 0.4 * float32
    assert int8 < 0.4 * float32


def test_int8_computes_in_int8_between_float32_input_and_output(model: tf.keras.Model) -> None:
    interpreter = tf.lite.Interpreter(model_content=build(model, "int8"))
    types = [tensor["dtype"] for tensor in interpreter.get_tensor_details()]
    assert types.count(np.float32) == 2
    assert np.int8 in types


def test_values_outside_the_measured_range_saturate_at_its_ends(model: tf.keras.Model) -> None:
    narrow = measured(model, SAMPLES * np.float32(0.01))
    wide = answers(build(model, "int8"), SAMPLES[:20])
    cut = answers(variants.build(model, "int8", narrow), SAMPLES[:20])
    expected = model(SAMPLES[:20]).numpy()
    assert np.abs(cut - expected).max() > 2 * np.abs(wide - expected).max()


@pytest.mark.parametrize("kind", ["float32", "int8"])
def test_the_same_inputs_give_the_same_bytes(kind: str) -> None:
    built = []
    for _ in range(2):
        tf.keras.backend.clear_session()  # a step is a process of its own: names start anew
        built.append(build(made_model(), kind))
    assert built[0] == built[1]


def test_int8_without_ranges_or_with_those_of_another_model_is_refused(
    model: tf.keras.Model,
) -> None:
    with pytest.raises(VariantError, match="no ranges were measured"):
        variants.build(model, "int8", None)
    found = measured(model, SAMPLES)
    fewer = found.model_copy(update={"ranges": found.ranges[:-1]})
    with pytest.raises(DataError, match="run evaluate_model again"):
        variants.build(model, "int8", fewer)


def test_an_unknown_kind_is_named(model: tf.keras.Model) -> None:
    with pytest.raises(VariantError, match="'int4'"):
        variants.build(model, "int4")


def test_a_model_for_one_example_at_a_time_is_refused() -> None:
    image = tf.keras.Input(SHAPE, batch_size=1)
    fixed = tf.keras.Model(image, tf.keras.layers.Flatten()(image))
    with pytest.raises(VariantError, match="free batch dimension"):
        variants.build(fixed, "float32")


def test_building_writes_nothing_to_the_terminal(
    model: tf.keras.Model, capfd: pytest.CaptureFixture[str]
) -> None:
    variants.build(model, "float16")
    os.write(2, b"after\n")
    assert capfd.readouterr().err.replace(
        "INFO: Created TensorFlow Lite XNNPACK delegate for CPU.\n", ""
    ) == ("after\n")
