"""What TFF defines and both engines share: the client work as a TFF model, and its export as a plan.

The plan is a SavedModel that plain TensorFlow runs: TFF's own client update, so that TFF defines the
algorithm at both ends and needs to be installed only at one.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import tensorflow as tf
import tensorflow_federated as tff
from tensorflow_federated.python.learning.templates import model_delta_client_work

from fededge import litert_program, metrics, storage
from fededge.documents import Plan, Schema
from fededge.learning.frameworks.keras import batches, losses
from fededge.learning.frameworks.keras.litert import export as litert
from fededge.learning.frameworks.keras.litert.forms import Refused
from fededge.learning.frameworks.keras.network import Network
from fededge.task import ClientOptimizer, Model

LOOP = tff.learning.LoopImplementation.DATASET_ITERATOR
Tensors = Sequence[tf.Tensor]


def client_optimizer(work: ClientOptimizer) -> tff.learning.optimizers.Optimizer:
    """The optimizer of a client's local steps."""
    if work.optimizer == "adam":
        return tff.learning.optimizers.build_adam(work.learning_rate)
    return tff.learning.optimizers.build_sgdm(work.learning_rate)


class LocalTraining:
    """A client's work in one round, as TFF's client update over a folder of examples.

    Args:
        model: what is trained.
        schema: of the examples.
        seed: of the task.
        work: optimizer, epochs and batch size.
    """

    def __init__(self, model: Model, schema: Schema, seed: int, work: ClientOptimizer) -> None:
        self.network = Network(model, schema, seed)
        self.loss = losses.loss_of(model, schema)
        self._schema = schema
        self._work = work
        self._optimizer = client_optimizer(work)
        self.tff_model = tff.learning.models.from_keras_model(
            self.network.training,
            loss=losses.ExampleLoss(self.loss),
            input_spec=batches.spec(schema),
            metrics=[losses.Sums(schema.label.kind)],
        )
        self._update = model_delta_client_work.build_model_delta_update_with_tff_optimizer(
            model_fn=lambda: self.tff_model,
            weighting=tff.learning.ClientWeighting.NUM_EXAMPLES,
            loop_implementation=LOOP,
        )

    @tf.function  # orders what reads and writes variables, also where TFF builds a bare graph
    def train(self, weights: Tensors, folder: tf.Tensor, seed: tf.Tensor) -> dict[str, Any]:
        """From global `weights` to delta, examples, loss_sum and sums float32 [k], for the examples in `folder`.

        Both are in the order of the network's variables. Moving statistics are variables that the steps change
        beside the optimizer: their delta is what became of them.
        """
        network = self.network
        for variable, value in zip(network.variables, weights, strict=True):
            variable.assign(value)
        self.tff_model.reset_metrics()
        trainable = list(weights[: len(weights) - len(network.statistics)])
        others = [variable.read_value() for variable in self.tff_model.non_trainable_variables]
        initial = tff.learning.models.ModelWeights(trainable, others)
        data = batches.training_batches(self._schema, folder, seed, self._work.batch_size, self._work.epochs)
        result, metrics = self._update(self._optimizer, initial, data)
        before = weights[len(trainable) :]
        moved = [value - variable for value, variable in zip(before, network.statistics, strict=True)]
        return {
            "delta": [*result.update, *moved],
            "examples": result.update_weight,
            "loss_sum": tf.cast(metrics["loss"][0], tf.float32),
            "sums": metrics["sums"][0],
        }


class PlanModule(tf.Module):
    """The client work on a model, ready for export; weights come in the order of the network's variables."""

    def __init__(self, model: Model, schema: Schema, seed: int, work: ClientOptimizer) -> None:
        super().__init__()
        local = LocalTraining(model, schema, seed, work)
        network, loss = local.network, local.loss
        self.variables_of_the_export = [*network.training.variables, *local.tff_model.local_variables]
        self.described = network.described
        inference = network.inference()
        layers = network.activations
        self.activations = ("input", *layers) if layers else ()
        body = network.body
        probe = (
            tf.keras.Model(body.inputs, [*body.inputs, *(layer.output for layer in layers.values())])
            if layers
            else None
        )
        encode = inference.get_layer("encode")
        folder = tf.TensorSpec([], tf.string)
        weight_specs = [tf.TensorSpec(variable.shape, tf.float32) for variable in network.variables]

        def assign(weights: Tensors) -> None:
            for variable, value in zip(network.variables, weights, strict=True):
                variable.assign(value)

        def train(weights: Tensors, folder: tf.Tensor, seed: tf.Tensor) -> dict[str, Any]:
            return local.train(weights, folder, seed)

        def evaluate(weights: Tensors, folder: tf.Tensor) -> dict[str, Any]:
            assign(weights)
            count, total = tf.constant(0, tf.int64), tf.constant(0.0)
            sums = tf.zeros([len(metrics.SUMS[schema.label.kind])])
            for batch in batches.evaluation_batches(schema, folder):
                raw = network.training(batch["x"], training=False)
                count += tf.shape(batch["x"]["examples"], tf.int64)[0]
                total += tf.reduce_sum(loss(batch["y"], raw))
                sums += losses.sums(schema.label.kind, batch["y"], raw)
            return {"examples": count, "loss_sum": total, "sums": sums}

        def extremes(weights: Tensors, folder: tf.Tensor) -> dict[str, Any]:
            assign(weights)
            assert probe is not None
            width = len(self.activations)
            smallest, largest = tf.zeros([0, width]), tf.zeros([0, width])
            for batch in batches.evaluation_batches(schema, folder):
                tf.autograph.experimental.set_loop_options(
                    shape_invariants=[(smallest, [None, width]), (largest, [None, width])]
                )
                found = probe(encode(batch["x"]["examples"]), training=False)
                flat = [tf.reshape(tensor, [tf.shape(tensor)[0], -1]) for tensor in found]
                low = tf.stack([tf.reduce_min(t, axis=1) for t in flat], axis=1)
                high = tf.stack([tf.reduce_max(t, axis=1) for t in flat], axis=1)
                smallest, largest = tf.concat([smallest, low], 0), tf.concat([largest, high], 0)
            return {"smallest": smallest, "largest": largest}

        def exported(function: Callable[..., Any], *extra: tf.TensorSpec) -> Any:
            return tf.function(function, input_signature=[weight_specs, folder, *extra])

        self.train = exported(train, tf.TensorSpec([], tf.int64))
        self.evaluate = exported(evaluate)
        if probe is not None:
            self.extremes = exported(extremes)


def export(model: Model, schema: Schema, seed: int, work: ClientOptimizer, task: str, folder: Path) -> None:
    """Write the plan into `folder`: a SavedModel, and plan.json (`fededge.documents.Plan`).

    Args:
        model: what is trained.
        schema: of the examples.
        seed: of the task.
        work: a client's work in one round.
        task: identity of the task.
        folder: made where it is missing.
    """
    module = PlanModule(model, schema, seed, work)
    tf.saved_model.save(module, str(folder))
    document = Plan(
        framework="keras",
        task=task,
        example=schema,
        variables=list(module.described),
        activations=list(module.activations),
        device=work.device,
    )
    document.write(folder / "plan.json")


def add_litert(model: Model, schema: Schema, seed: int, work: ClientOptimizer, folder: Path) -> None:
    """Add to the plan in `folder` what clients on LiteRT execute, or why the model does not allow it.

    Args:
        model: what is trained.
        schema: of the examples.
        seed: of the task.
        work: a client's work in one round.
        folder: that `export` wrote into.
    """
    document = Plan.read(folder / "plan.json")
    try:
        data, program = litert.build(model, schema, seed, work, client_optimizer(work))
    except Refused as error:
        document.model_copy(update={"litert_refused": str(error)}).write(folder / "plan.json")
        return
    storage.write(str(folder / litert_program.FILE), data)
    document.model_copy(update={"litert": program}).write(folder / "plan.json")


def litert_refusal(model: Model, schema: Schema, seed: int, work: ClientOptimizer) -> str | None:
    """Why clients on LiteRT cannot train the model, as far as its operations tell; arguments as for `add_litert`."""
    return litert.refusal(model, schema, seed, work, client_optimizer(work))
