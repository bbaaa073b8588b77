"""What TFF defines and both engines share: the client work as a TFF model, and its export as a plan.

The plan is a SavedModel that plain TensorFlow runs: TFF's own client update, so that TFF defines the
algorithm at both ends and needs to be installed only at one.
"""

from pathlib import Path

import tensorflow as tf
import tensorflow_federated as tff
from tensorflow_federated.python.learning.templates import model_delta_client_work

from fededge.documents import Plan, Variable
from fededge.learning.frameworks.keras import batches, models
from fededge.task import ClientOptimizer, Model

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


class PlanModule(tf.Module):
    """The client work on a model, ready for export."""

    def __init__(self, model: Model, work: ClientOptimizer) -> None:
        super().__init__()
        self.keras_model = models.training_model(model)
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
        self.inference_model = models.inference_model(model)
        layers = models.activations(self.inference_model)
        self.activations = ("input", *layers)
        outputs = [layer.output for layer in layers.values()]
        probe = tf.keras.Model(self.inference_model.inputs, [*self.inference_model.inputs, *outputs])

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

        def extremes(self, weights, folder):  # type: ignore[no-untyped-def]
            for variable, value in zip(self.inference_model.trainable_variables, weights, strict=True):
                variable.assign(value)
            width = len(self.activations)
            smallest, largest = tf.zeros([0, width]), tf.zeros([0, width])
            for batch in batches.evaluation_batches(folder):
                tf.autograph.experimental.set_loop_options(
                    shape_invariants=[(smallest, [None, width]), (largest, [None, width])]
                )
                flat = [
                    tf.reshape(t, [tf.shape(t)[0], -1]) for t in probe(batch["x"]["image"], training=False)
                ]
                low = tf.stack([tf.reduce_min(t, axis=1) for t in flat], axis=1)
                high = tf.stack([tf.reduce_max(t, axis=1) for t in flat], axis=1)
                smallest, largest = tf.concat([smallest, low], 0), tf.concat([largest, high], 0)
            return {"smallest": smallest, "largest": largest}

        self.train = tf.function(
            train.__get__(self), input_signature=[weight_specs, folder, tf.TensorSpec([], tf.int64)]
        )
        self.evaluate = tf.function(evaluate.__get__(self), input_signature=[weight_specs, folder])
        self.extremes = tf.function(extremes.__get__(self), input_signature=[weight_specs, folder])


def export(model: Model, work: ClientOptimizer, task: str, folder: Path) -> None:
    """Write the plan into `folder`: a SavedModel, and plan.json (`fededge.documents.Plan`).

    Args:
        model: what is trained.
        work: a client's work in one round.
        task: identity of the task.
        folder: made where it is missing.
    """
    module = PlanModule(model, work)
    tf.saved_model.save(module, str(folder))
    variables = [
        Variable(name=name, shape=list(variable.shape))
        for name, variable in zip(module.names, module.keras_model.trainable_variables, strict=True)
    ]
    document = Plan(framework="keras", task=task, variables=variables, activations=list(module.activations))
    document.write(folder / "plan.json")
