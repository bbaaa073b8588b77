"""A task's Keras model: gradients, seeded randomness, names, and what a factory of one's own may give."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from fededge.documents import Feature, Label, Schema
from fededge.errors import TaskError
from fededge.learning.frameworks.keras import losses
from fededge.learning.frameworks.keras.network import Network
from fededge.learning.models.shipped import FACTORIES
from fededge.task import Model

pytestmark = pytest.mark.environment("worker")
DIGITS = Schema(features=[Feature(name="x", dtype="float32", shape=[28, 28, 1])], label=Label(classes=10))
TABLE = Schema(
    features=[
        Feature(name="age", dtype="float32", shape=[], mean=40.0, std=10.0),
        Feature(name="job", dtype="int64", shape=[], categories=["cook", "pilot"]),
    ],
    label=Label(classes=3),
)
FITTING = {
    "cnn1d": Schema(features=[Feature(name="x", dtype="float32", shape=[12, 2])], label=Label(classes=3)),
    "gru": Schema(features=[Feature(name="x", dtype="float32", shape=[6, 2])], label=Label(classes=3)),
    "transformer": Schema(
        features=[Feature(name="x", dtype="int64", shape=[6])],
        label=Label(kind="sequence", classes=5, shape=[6]),
    ),
    "mlp": TABLE,
    "regression": TABLE,
}


def given(network: Network, x: np.ndarray, seed: int, training: bool) -> np.ndarray:
    seeds = np.tile(np.array([seed, 0], np.int64), (len(x), 1))
    return np.asarray(network.training({"examples": x, "seed": seeds}, training=training))


def test_gradients_are_those_of_keras_layers_and_loss() -> None:
    rng = np.random.default_rng(1)
    image = tf.constant(rng.random((20, 28, 28, 1), np.float32))
    label = tf.constant(rng.integers(0, 10, 20))
    network = Network(Model(arguments={"dropout": 0.0}), DIGITS, 3)
    weights = {n: v + rng.normal(0, 0.05, v.shape).astype(np.float32) for n, v in network.weights().items()}
    network.assign(weights)
    layers = tf.keras.layers
    stock = tf.keras.Sequential(
        [
            *(layers.Input((28, 28, 1)), layers.Conv2D(32, 5, activation="relu"), layers.MaxPool2D(2)),
            *(layers.Conv2D(64, 5, activation="relu"), layers.MaxPool2D(2), layers.Flatten()),
            *(layers.Dense(256, activation="relu"), layers.Dense(10, activation="softmax")),
        ]
    )
    stock.set_weights(list(weights.values()))
    assert network.body.count_params() == stock.count_params() == 317_066
    with tf.GradientTape(persistent=True) as tape:
        logits = network.training({"examples": image, "seed": tf.zeros((20, 2), tf.int64)}, training=True)
        loss = losses.ExampleLoss(losses.loss_of(Model(), DIGITS))(label, logits)
        expected_loss = tf.keras.losses.SparseCategoricalCrossentropy()(label, stock(image))
    assert float(loss) == pytest.approx(float(expected_loss), rel=1e-6)
    found = tape.gradient(loss, network.body.trainable_variables)
    expected = tape.gradient(expected_loss, stock.trainable_variables)
    for name, one, other in zip(network.names, found, expected, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6, err_msg=name)


def test_logits_that_are_not_finite_reach_the_gradient() -> None:
    logits = tf.constant([[np.inf, 0.0, 0.0]], tf.float32)
    with tf.GradientTape() as tape:
        tape.watch(logits)
        loss = losses.loss_of(Model(), TABLE)(tf.constant([1], tf.int64), logits)
    assert not np.isfinite(tape.gradient(loss, logits)).all()


def test_the_same_seed_gives_the_same_names_and_bits_whatever_was_built_before() -> None:
    first = Network(Model(name="mlp"), TABLE, 7)
    tf.keras.layers.Dense(3)(tf.keras.Input((2,)))
    np.random.default_rng(0).random()
    second = Network(Model(name="mlp"), TABLE, 7)
    other = Network(Model(name="mlp"), TABLE, 8)
    assert first.names == second.names
    assert all((first.weights()[n] == second.weights()[n]).all() for n in first.names)
    assert not (first.weights()["hidden1/kernel"] == other.weights()["hidden1/kernel"]).all()


def test_dropout_draws_from_the_batchs_seed_alone() -> None:
    network = Network(Model(name="mlp", arguments={"dropout": 0.5}), TABLE)
    x = np.random.default_rng(0).random((9, 2), np.float32)
    one, again, other = (given(network, x, seed, True) for seed in (1, 1, 2))
    assert (one == again).all()
    assert (one != other).any()
    assert (given(network, x, 1, False) == given(network, x, 2, False)).all()


def test_numbers_are_standardized_and_words_become_one_of_as_many_as_there_are() -> None:
    encoded = (
        Network(Model(name="mlp"), TABLE)
        .inference()
        .get_layer("encode")(np.array([[50.0, 1.0], [40.0, 0.0]], np.float32))
    )
    np.testing.assert_allclose(encoded, [[1, 0, 1], [0, 1, 0]], atol=1e-6)


@pytest.mark.parametrize("name", list(FACTORIES))
def test_every_model_that_ships_gives_what_its_label_asks_for(name: str) -> None:
    schema = FITTING.get(name, DIGITS)
    network = Network(Model(name=name), schema)
    x = np.zeros((2, *schema.shape), np.float32)
    assert network.inference()(x).shape == (2, schema.outputs)
    assert network.activations or name == "transformer"


@pytest.mark.parametrize("name", ["cnn", "batchnorm-cnn", "resnet", "cnn1d", "gru"])
def test_a_model_says_which_examples_it_takes(name: str) -> None:
    with pytest.raises(TaskError, match=f"model {name} takes .* such as mlp"):
        Network(Model(name=name), TABLE)


def test_moving_statistics_travel_and_frozen_layers_and_counters_do_not(own: Any) -> None:
    network = Network(own(FROZEN), TABLE)
    assert {v.name: v.statistic for v in network.described} == {
        "norm/gamma": False,
        "norm/beta": False,
        "outputs/kernel": False,
        "outputs/bias": False,
        "norm/moving_mean": True,
        "norm/moving_variance": True,
    }


FROZEN = """
import tensorflow as tf
def build(schema):
    x = inputs = tf.keras.Input(schema.encoded_shape)
    x = tf.keras.layers.Dense(4, trainable=False, name="frozen")(x)
    x = tf.keras.layers.BatchNormalization(name="norm")(x)
    return tf.keras.Model(inputs, tf.keras.layers.Dense(3, name="outputs")(x))
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """`own(source)` is the model that a module of one's own makes by its function build."""
    monkeypatch.setattr(sys, "path", list(sys.path))

    def make(source: str, **more: Any) -> Model:
        name = f"module_{tmp_path.name.replace('-', '_')}"
        (tmp_path / f"{name}.py").write_text(source)
        sys.modules.pop(name, None)
        return Model(factory=f"{name}:build", code=str(tmp_path), **more)

    return make


def test_a_last_softmax_is_taken_off_for_training_and_put_back_for_answers(own: Any) -> None:
    for last in (
        'Dense(3, activation="softmax")',
        "Dense(3), tf.keras.layers.Softmax()",
        'Dense(3), tf.keras.layers.Activation("softmax")',
    ):
        source = f"import tensorflow as tf\ndef build(schema):\n    return tf.keras.Sequential([tf.keras.layers.{last}])"
        network = Network(own(source), TABLE)
        x = np.array([[60.0, 0.0]], np.float32)
        raw, answer = given(network, x, 0, False), np.asarray(network.inference()(x))
        assert raw.sum() != pytest.approx(1)
        np.testing.assert_allclose(answer, tf.nn.softmax(raw), atol=1e-6)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("def other(schema): ...", "cannot be imported"),
        ("import nothing_of_that_name", "No module named"),
        ("build = 3", "is a int, not a function"),
        ("def build(schema): return 3", "gives a int, not a tf.keras.Model"),
        ("def build(schema): raise ValueError('no luck')", "ValueError: no luck"),
        ("def build(schema, units): ...", "missing a required argument: 'units'; it takes units"),
        (
            "import tensorflow as tf\ndef build(schema): return tf.keras.Sequential([tf.keras.layers.Dense(7)])",
            r"gives outputs of shape \[7\] for an example, where the label asks for \[3\]",
        ),
        (
            "import tensorflow as tf\ndef build(schema): return tf.keras.Sequential([tf.keras.layers.Conv2D(7, 3)])",
            r"does not take examples of shape \[3\]",
        ),
    ],
)
def test_a_factory_that_does_not_do_is_named(own: Any, source: str, message: str) -> None:
    with pytest.raises(TaskError, match=message):
        Network(own(source), TABLE)


def test_arguments_and_names_that_are_unknown_are_named() -> None:
    with pytest.raises(TaskError, match="'depth'; it takes hidden, dropout, activation"):
        Network(Model(name="mlp", arguments={"depth": 3}), TABLE)
    with pytest.raises(TaskError, match=r"model\.name vgg is no Keras model that ships"):
        Network(Model(name="vgg"), TABLE)
    with pytest.raises(TaskError, match=r"model\.loss hinged is no loss of Keras"):
        losses.loss_of(Model(loss="hinged"), TABLE)


@pytest.mark.parametrize("name", ["categorical_crossentropy", "sparse_categorical_crossentropy"])
def test_a_loss_of_keras_by_name_is_that_of_the_default(name: str) -> None:
    rng = np.random.default_rng(1)
    raw, wanted = tf.constant(rng.normal(size=(5, 3)), tf.float32), tf.constant(rng.integers(0, 3, 5))
    mine = losses.loss_of(Model(loss=name), TABLE)(wanted, raw)
    np.testing.assert_allclose(mine, losses.loss_of(Model(), TABLE)(wanted, raw), rtol=1e-5)
