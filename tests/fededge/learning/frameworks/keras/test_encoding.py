"""The first layer of a Keras model sees what `fededge.encoding` says, also as LiteRT executes it."""

import numpy as np
import pytest
import tensorflow as tf

from fededge.documents import Feature, Label, Schema
from fededge.encoding import encode
from fededge.learning.frameworks.keras.layers import Encode

pytestmark = pytest.mark.environment("worker")

SCHEMA = Schema(
    features=[
        Feature(name="wealth", dtype="float32", shape=[], log=50, mean=4, std=2),
        Feature(name="color", dtype="int64", shape=[], categories=["red", "green", "blue"]),
        Feature(name="heat", dtype="float32", shape=[], mean=20, std=5),
        Feature(name="plain", dtype="float32", shape=[]),
    ],
    label=Label(classes=2),
)


def test_numbers_logarithms_and_categories_are_seen_alike() -> None:
    rng = np.random.default_rng(0)
    sizes = 10 ** rng.uniform(-3, 7, 200) * rng.choice([-1, 1], 200)
    x = np.stack([sizes, rng.integers(0, 3, 200), rng.normal(20, 5, 200), rng.normal(size=200)], 1)
    x = np.concatenate([x, np.zeros((1, 4))]).astype(np.float32)
    wanted = encode(SCHEMA, x)
    inputs = tf.keras.Input(SCHEMA.shape)
    model = tf.keras.Model(inputs, Encode(SCHEMA)(inputs))
    assert np.allclose(model(x), wanted, rtol=1e-4, atol=1e-5)
    interpreter = tf.lite.Interpreter(model_content=tf.lite.TFLiteConverter.from_keras_model(model).convert())
    place = interpreter.get_input_details()[0]["index"]
    interpreter.resize_tensor_input(place, x.shape)
    interpreter.allocate_tensors()
    interpreter.set_tensor(place, x)
    interpreter.invoke()
    found = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
    assert np.allclose(found, wanted, rtol=1e-4, atol=1e-5)
