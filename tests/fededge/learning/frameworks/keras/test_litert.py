"""A plan's LiteRT file: a device trains by it, without TensorFlow, as a client on TensorFlow does."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fededge import examples, storage
from fededge.documents import Feature, Label, Plan, Schema
from fededge.host.layout import ROOT, interpreter
from fededge.learning.frameworks import open_client
from fededge.learning.frameworks.keras.spec import KerasModel
from fededge.seeds import seed_for
from fededge.task import ClientOptimizer, Model
from fededge.update import Update, UpdateFormat
from fededge.weights import Weights, to_bytes

pytestmark = pytest.mark.environment("worker")

IDENTITY = "sha256:" + "0" * 64
CLASSES = Label(kind="class", classes=3)
TABLE = Schema(
    features=[
        Feature(name="warmth", dtype="float32", shape=[], mean=20.0, std=4.0),
        Feature(name="room", dtype="float32", shape=[], categories=["attic", "cellar", "hall"]),
    ],
    label=CLASSES,
)
IMAGES = Schema(features=[Feature(name="image", dtype="uint8", shape=[28, 28, 1])], label=CLASSES)
SGD = ClientOptimizer(optimizer="sgd", learning_rate=0.05, epochs=2, batch_size=8)
ADAM = ClientOptimizer(optimizer="adam", learning_rate=0.01, epochs=1, batch_size=8)


def folder_of(schema: Schema, place: Path) -> Path:
    """A client with 21 training examples, which is no multiple of the batch."""
    rng = np.random.default_rng(1)
    for part, count in (("train", 21), ("test", 11)):
        y = rng.integers(0, 3, count)
        if schema is TABLE:
            x = np.stack([rng.normal(20, 4, count), y], axis=1).astype(np.float32)
        else:
            x = (rng.random((count, 28, 28, 1)) * 80 + 50 * y[:, None, None, None]).astype(np.uint8)
        examples.write(place / part, x, y, schema)
    return place


def planned(model: Model, schema: Schema, work: ClientOptimizer, folder: Path) -> tuple[Plan, Weights]:
    spec = KerasModel(model, schema, 3)
    spec.export_plan(work, IDENTITY, folder)
    spec.add_litert(work, folder)
    return Plan.read(folder / "plan.json"), spec.initial_weights()


def on_device(plan: Path, data: Path, requests: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What the runner in the edge environment answers."""
    python = interpreter("edge")
    if not python.exists():
        pytest.skip("the edge environment is not set up: run `python -m fededge.host`")
    ended = subprocess.run(
        [python, "-m", "fededge.device.litert_runner", "--plan", plan, "--data", data],
        input="".join(f"{json.dumps(request)}\n" for request in requests),
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    return [json.loads(line) for line in ended.stdout.splitlines()]


@pytest.mark.parametrize(
    ("model", "schema", "work"),
    [
        (Model(name="mlp", arguments={"hidden": [16]}), TABLE, SGD),
        (Model(name="mlp", arguments={"hidden": [16]}), TABLE, ADAM),
        (Model(name="cnn", arguments={"dropout": 0.5}), IMAGES, SGD),
    ],
    ids=["mlp", "mlp-adam", "cnn-dropout"],
)
def test_a_device_hands_in_what_a_client_on_tensorflow_does(
    model: Model, schema: Schema, work: ClientOptimizer, tmp_path: Path
) -> None:
    plan, data = tmp_path / "plan", folder_of(schema, tmp_path / "client")
    document, weights = planned(model, schema, work, plan)
    assert document.litert is not None, document.litert_refused
    storage.write(str(tmp_path / "weights"), to_bytes(weights))
    asked = {"weights": str(tmp_path / "weights")}
    train = {"do": "train", "seed": 5, "round": 2, "client": "c", "update": str(tmp_path / "update"), **asked}
    trained, evaluated = on_device(plan, data, [train, {"do": "evaluate", **asked}])
    assert trained == {}, trained
    form = UpdateFormat.of(document)
    found = form.screen((tmp_path / "update").read_bytes(), 21 * work.epochs)
    client = open_client(plan, data)
    assert_alike(found, client.train(weights, seed_for(5, 2, "c")))
    for name, value in client.evaluate(weights).items():
        assert evaluated["counts"][name] == pytest.approx(value, rel=1e-4)


def assert_alike(found: Update, wanted: Update) -> None:
    assert found.examples == wanted.examples
    assert found.loss_sum == pytest.approx(wanted.loss_sum, rel=1e-3)
    for name, value in wanted.delta.items():
        np.testing.assert_allclose(found.delta[name], value, atol=2e-4, err_msg=name)


def test_a_file_that_was_changed_is_not_opened(tmp_path: Path) -> None:
    plan, data = tmp_path / "plan", folder_of(TABLE, tmp_path / "client")
    _, weights = planned(Model(name="mlp", arguments={"hidden": [16]}), TABLE, SGD, plan)
    (file,) = plan.glob("*.tflite")
    file.write_bytes(file.read_bytes()[:-1] + b"x")
    storage.write(str(tmp_path / "weights"), to_bytes(weights))
    (answer,) = on_device(plan, data, [{"do": "evaluate", "weights": str(tmp_path / "weights")}])
    assert "digest" in answer["error"]


def transposed(schema: Schema) -> Any:
    """A network with a layer whose gradient LiteRT has no operation for."""
    import tensorflow as tf

    images = tf.keras.Input(schema.encoded_shape)
    x = tf.keras.layers.Conv2DTranspose(2, 3, strides=4, name="enlarge")(images)
    return tf.keras.Model(
        images, tf.keras.layers.Dense(schema.outputs)(tf.keras.layers.GlobalAveragePooling2D()(x))
    )


def test_a_model_that_litert_cannot_train_is_refused_by_its_layer(tmp_path: Path) -> None:
    model = Model(factory=f"{__name__}:transposed")
    document, _ = planned(model, IMAGES, SGD, tmp_path / "plan")
    assert document.litert is None
    assert "enlarge" in str(document.litert_refused)
    assert (tmp_path / "plan" / "saved_model.pb").exists()
