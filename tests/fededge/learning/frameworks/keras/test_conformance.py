"""Keras models of every kind of label learn as every framework's do."""

from pathlib import Path
from typing import ClassVar

import pytest

from fededge.learning.frameworks.keras import batches, losses
from fededge.learning.frameworks.keras.network import Network
from fededge.task import ClientOptimizer, Model
from fededge.weights import Weights
from tests.fededge.learning.frameworks.conformance import Conformance, schema_of

pytestmark = pytest.mark.environment("worker")
SMALL = Model(name="mlp", arguments={"hidden": [5]})


class TestKeras(Conformance):
    models: ClassVar = dict.fromkeys(("class", "number", "multi-label", "sequence", "none"), SMALL)
    in_onnx = False

    def local(self, kind: str, weights: Weights, data: Path, seed: int) -> Weights:
        import tensorflow as tf

        schema, work = schema_of(kind), self.work
        network, loss = Network(self.models[kind], schema), losses.loss_of(self.models[kind], schema)
        network.assign(weights)
        optimizer = tf.keras.optimizers.get(
            {"class_name": work.optimizer, "config": {"learning_rate": work.learning_rate}}
        )
        stream = batches.training_batches(
            schema, tf.constant(str(data)), tf.constant(seed, tf.int64), work.batch_size, work.epochs
        )
        for batch in stream:
            with tf.GradientTape() as tape:
                value = tf.reduce_mean(loss(batch["y"], network.training(batch["x"], training=True)))
            variables = network.body.trainable_variables
            optimizer.apply_gradients(zip(tape.gradient(value, variables), variables, strict=True))
        return network.weights()


class TestKerasWithAdam(TestKeras):
    models: ClassVar = {"two classes": SMALL}
    work = ClientOptimizer(batch_size=8, epochs=2, optimizer="adam", learning_rate=0.01)
    tolerance = 1e-4
