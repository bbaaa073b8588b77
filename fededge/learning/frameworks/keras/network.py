"""A task's Keras model as it learns and as it answers.

Weights are float32 tensors by variable name ("conv1/kernel"): the trainable ones in the order of the model's
variables, then moving statistics. Frozen variables and integer counters do not travel: every process makes the same
ones from the task's seed.
"""

import contextlib
import os
import random
from collections.abc import Callable, Iterator

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ["WRAPT_DISABLE_EXTENSIONS"] = "true"

import numpy as np
import tensorflow as tf

from fededge.documents import Schema, Variable
from fededge.errors import TaskError
from fededge.learning import factories
from fededge.learning.frameworks.keras.layers import SEED_SIZE, Encode, Finish, SeededGenerator, SeedGate
from fededge.learning.models.shipped import DEFAULT, FACTORIES, check
from fededge.task import Model
from fededge.weights import Weights

PROBABILITIES = (tf.keras.activations.softmax, tf.keras.activations.sigmoid)


class Network:
    """The Keras model of a task's section `model` for examples of `schema`.

    Args:
        model: the task's section.
        schema: of the examples.
        seed: of the task, from which initial weights are drawn.
        generator: what random layers draw from, of the gate in front of the model and a number of the layer.

    Raises:
        TaskError: there is no such model, it cannot be made, or it does not take and give what the schema says.

    Attributes:
        body: encoded examples to raw outputs: logits, or standardized numbers.
        training: {"examples": float32 [b, *shape], "seed": int64 [b, 2]} to raw outputs.
    """

    def __init__(
        self,
        model: Model,
        schema: Schema,
        seed: int = 0,
        generator: Callable[[SeedGate, int], SeededGenerator] = SeededGenerator,
    ) -> None:
        self._schema = schema
        with _deterministic(seed):
            self.body = _body(model, schema)
        gate = SeedGate()
        for salt, layer in enumerate(self._layers(), 1):
            if hasattr(layer, "_random_generator"):
                layer._random_generator = generator(gate, salt)
        examples = tf.keras.Input(schema.shape, name="examples")
        seeds = tf.keras.Input((SEED_SIZE,), dtype=tf.int64, name="seed")
        inputs = {"examples": examples, "seed": seeds}
        self.training = tf.keras.Model(inputs, self.body(gate((Encode(schema)(examples), seeds))))
        statistics = [
            variable
            for layer in self._layers()
            if layer.trainable
            for variable in layer._non_trainable_weights
            if variable.dtype == tf.float32
        ]
        self.statistics = list({id(variable): variable for variable in statistics}.values())
        self.variables = [*self.body.trainable_variables, *self.statistics]
        """Those that travel, in the order of `names`."""
        self.names = _unique([variable.name.removesuffix(":0") for variable in self.variables])

    @property
    def described(self) -> list[Variable]:
        """The variables that travel."""
        count = len(self.body.trainable_variables)
        return [
            Variable(name=name, shape=list(variable.shape), statistic=index >= count)
            for index, (name, variable) in enumerate(zip(self.names, self.variables, strict=True))
        ]

    @property
    def activations(self) -> dict[str, tf.keras.layers.Layer]:
        """The body's layers whose outputs are activations, by names that are the same in each process.

        Empty where the body is no graph of layers, each used once.
        """
        return activations(self.body)

    @property
    def layer_names(self) -> frozenset[str]:
        """The names of the body's layers, those inside of others too."""
        return frozenset(layer.name for layer in self._layers())

    def weights(self) -> Weights:
        """A copy of what the variables hold."""
        return {name: variable.numpy() for name, variable in zip(self.names, self.variables, strict=True)}

    def assign(self, weights: Weights) -> None:
        """Put named `weights` into the variables."""
        for name, variable in zip(self.names, self.variables, strict=True):
            variable.assign(np.asarray(weights[name]))

    def inference(self) -> tf.keras.Model:
        """The model that answers: examples float32 [b, *shape] to float32 [b, schema.outputs], nothing left out.

        Its layers are the input, the encoding, the body and the meaning of its outputs.
        """
        return answering(self.body, self._schema)

    def _layers(self) -> list[tf.keras.layers.Layer]:
        return [layer for layer in self.body._flatten_layers() if layer is not self.body]


def answering(body: tf.keras.Model, schema: Schema) -> tf.keras.Model:
    """The model that answers with `body`: see Network.inference."""
    examples = tf.keras.Input(schema.shape, name="examples")
    raw = body(Encode(schema, name="encode")(examples), training=False)
    return tf.keras.Model(examples, Finish(schema, name="finish")(raw))


def activations(body: tf.keras.Model) -> dict[str, tf.keras.layers.Layer]:
    """See Network.activations; empty also where a layer gives other numbers than float32, such as tokens."""
    if not isinstance(body, tf.keras.Sequential) and not getattr(body, "_is_graph_network", False):
        return {}
    layers = [layer for layer in body.layers if not isinstance(layer, tf.keras.layers.InputLayer)]
    if any(len(layer._inbound_nodes) != 1 or isinstance(layer, tf.keras.Model) for layer in layers):
        return {}
    if any(getattr(layer.output, "dtype", None) != tf.float32 for layer in layers):
        return {}
    return {f"{number}/{type(layer).__name__}": layer for number, layer in enumerate(layers, 1)}


@contextlib.contextmanager
def _deterministic(seed: int) -> Iterator[None]:
    """Let the block make the same names and initial weights in every process.

    Keras draws the seeds of its initializers from Python's generator. No random state of TensorFlow is touched: its
    global seed would reach into the shuffling of client data.
    """
    before = random.getstate()
    random.seed(seed)
    tf.keras.backend.reset_uids()
    try:
        yield
    finally:
        random.setstate(before)


def _body(model: Model, schema: Schema) -> tf.keras.Model:
    if model.factory:
        factory = factories.load(model.factory, "model.factory", model.code)
    else:
        name = model.name or DEFAULT
        check(name, schema)
        factory = factories.load(FACTORIES[name], "model.name")
    made = factories.make(factory, model, schema)
    if not isinstance(made, tf.keras.Model):
        raise TaskError(
            f"model {model.shown} gives a {type(made).__name__}, not a tf.keras.Model: give one back, or name its "
            "framework in model.framework"
        )
    factories.check_shapes(model, schema, lambda: made(tf.keras.Input(schema.encoded_shape)))
    return _raw(made) if schema.label.classes else made


def _raw(made: tf.keras.Model) -> tf.keras.Model:
    """`made` without a softmax or sigmoid at its end: losses take logits, which do not saturate."""
    if not isinstance(made, tf.keras.Sequential) and not getattr(made, "_is_graph_network", False):
        return made
    last = made.layers[-1] if isinstance(made, tf.keras.Sequential) else made.get_layer(made.output_names[0])
    if isinstance(last, tf.keras.layers.Softmax) or (
        isinstance(last, tf.keras.layers.Activation) and last.activation in PROBABILITIES
    ):
        return tf.keras.Model(made.inputs, last.input)
    if getattr(last, "activation", None) in PROBABILITIES:
        last.activation = tf.keras.activations.linear
    return made


def _unique(names: list[str]) -> list[str]:
    """`names` with a number behind each that was there before."""
    seen: dict[str, int] = {}
    made = []
    for name in names:
        seen[name] = seen.get(name, 0) + 1
        made.append(name if seen[name] == 1 else f"{name}#{seen[name]}")
    return made
