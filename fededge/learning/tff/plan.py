"""What TFF defines and both engines share: the client work as a TFF model, and its export as a plan.

The plan is a SavedModel that plain TensorFlow runs: TFF's own client update, so that TFF defines the
algorithm at both ends and needs to be installed only at one.
"""

import json
from pathlib import Path

import tensorflow as tf
import tensorflow_federated as tff
from tensorflow_federated.python.learning.templates import model_delta_client_work

from fededge import storage
from fededge.learning.frameworks.keras import batches, models
from fededge.task import ClientOptimizer, FederatedTask

LOOP = tff.learning.LoopImplementation.DATASET_ITERATOR


def tff_model(keras_model: tf.keras.Model) -> tff.learning.models.VariableModel:
    """A Keras model as TFF sees it."""
    return tff.learning.models.from_keras_model(
        keras_model,
        loss=models.CrossEntropy(),
        input_spec=batches.SPEC,
        metrics=[tf.keras.metrics.SparseCategoricalAccuracy(name="accuracy")],
    )


def client_optimizer(work: ClientOptimizer) -> tff.learning.optimizers.Optimizer:
    """The optimizer of a client's local steps."""
    if work.optimizer == "adam":
        return tff.learning.optimizers.build_adam(work.learning_rate)
    return tff.learning.optimizers.build_sgdm(work.learning_rate)


class Plan(tf.Module):
    """The client work of `task`, ready for export."""

    def __init__(self, task: FederatedTask) -> None:
        super().__init__()
        work = task.learning.client
        self.keras_model = models.training_model(task)
        self.model = tff_model(self.keras_model)
        self.metric_variables = self.model.local_variables  # tracked, so that the export holds them
        self.names = models.names(self.keras_model)
        optimizer = client_optimizer(work)
        cross_entropy = models.CrossEntropy()
        client_update = model_delta_client_work.build_model_delta_update_with_tff_optimizer(
            model_fn=lambda: self.model,
            weighting=tff.learning.ClientWeighting.NUM_EXAMPLES,
            loop_implementation=LOOP,
        )
        weight_specs = [tf.TensorSpec(v.shape, tf.float32) for v in self.keras_model.trainable_variables]
        folder = tf.TensorSpec([], tf.string)

        def train(self, weights, folder, seed):  # type: ignore[no-untyped-def]
            self.model.reset_metrics()
            initial = tff.learning.models.ModelWeights(list(weights), [])
            data = batches.training_batches(folder, seed, work.batch_size, work.epochs)
            result, metrics = client_update(optimizer, initial, data)
            return {
                "delta": list(result.update),
                "examples": result.update_weight,
                "correct": tf.cast(metrics["accuracy"][0], tf.float32),
                "loss_sum": tf.cast(metrics["loss"][0], tf.float32),
            }

        def evaluate(self, weights, folder):  # type: ignore[no-untyped-def]
            for variable, value in zip(self.keras_model.trainable_variables, weights, strict=True):
                variable.assign(value)
            count, correct, loss = tf.constant(0, tf.int64), tf.constant(0, tf.int64), tf.constant(0.0)
            for batch in batches.evaluation_batches(folder):
                logits = self.keras_model(batch["x"], training=False)
                count += tf.size(batch["y"], tf.int64)
                correct += tf.reduce_sum(tf.cast(tf.argmax(logits, -1) == batch["y"], tf.int64))
                loss += tf.reduce_sum(cross_entropy.call(batch["y"], logits))
            return {"examples": count, "correct": correct, "loss_sum": loss}

        self.train = tf.function(
            train.__get__(self), input_signature=[weight_specs, folder, tf.TensorSpec([], tf.int64)]
        )
        self.evaluate = tf.function(evaluate.__get__(self), input_signature=[weight_specs, folder])


def export(task: FederatedTask, folder: Path) -> None:
    """Write the plan of `task` into `folder`: a SavedModel and plan.json, which names its variables."""
    plan = Plan(task)
    tf.saved_model.save(plan, str(folder))
    variables = [
        {"name": name, "shape": list(variable.shape)}
        for name, variable in zip(plan.names, plan.keras_model.trainable_variables, strict=True)
    ]
    storage.write(
        str(folder / "plan.json"), json.dumps({"task": task.digest, "variables": variables}).encode()
    )
