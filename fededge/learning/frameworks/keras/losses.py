"""Losses by the kind of label or by name, and the sums that a score follows from, in TensorFlow.

They take a model's raw outputs (logits for classes, standardized numbers) and the targets of
`fededge.encoding.targets`.
"""

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from fededge import metrics
from fededge.documents import Schema
from fededge.errors import TaskError
from fededge.learning import factories
from fededge.task import Model

Loss = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]
"""Targets and raw outputs to the loss of each example, float32 [b]."""


class ExampleLoss(tf.keras.losses.Loss):
    """The mean over a batch of a loss of each example."""

    def __init__(self, each: Loss) -> None:
        super().__init__()
        self._each = each

    def call(self, y_true: tf.Tensor, y_pred: tf.Tensor) -> tf.Tensor:
        """The loss of each example, float32 [b]."""
        return self._each(y_true, y_pred)


class Sums(tf.keras.metrics.Metric):
    """The sums of `fededge.metrics.SUMS`, in their order, over the examples of a training."""

    def __init__(self, kind: str) -> None:
        super().__init__(name="sums")
        self._kind = kind
        self.total = self.add_weight("total", (len(metrics.SUMS[kind]),), initializer="zeros")

    def update_state(self, y_true: tf.Tensor, y_pred: tf.Tensor, sample_weight: Any = None) -> None:
        """Add a batch."""
        self.total.assign_add(sums(self._kind, y_true, y_pred))

    def reset_state(self) -> None:
        """Begin again."""
        self.total.assign(tf.zeros_like(self.total))

    def result(self) -> tf.Tensor:
        """float32 [sums]."""
        return self.total


def sums(kind: str, wanted: tf.Tensor, raw: tf.Tensor) -> tf.Tensor:
    """The sums over a batch, float32 [len(SUMS[kind])]."""
    return tf.reduce_sum(by_example(kind, wanted, raw), 0)


def by_example(kind: str, wanted: tf.Tensor, raw: tf.Tensor) -> tf.Tensor:
    """What each example adds to the sums, float32 [b, len(SUMS[kind])]."""
    if metrics.METRIC[kind] == "accuracy":
        if kind == "multi-label":
            hits = tf.equal(raw > 0, wanted > 0.5)
        else:
            hits = tf.equal(tf.argmax(raw, -1), wanted)
        return _by_example(tf.cast(hits, tf.float32))[:, tf.newaxis]
    parts = (tf.math.squared_difference(_flat(raw), _flat(wanted)), _flat(wanted), tf.square(_flat(wanted)))
    return tf.stack([_by_example(part) for part in parts], 1)


def loss_of(model: Model, schema: Schema) -> Loss:
    """The loss that a task names, or the one that suits the label.

    Raises:
        TaskError: Keras knows no loss of that name, or the function cannot be imported.
    """
    kind = schema.label.kind
    if model.loss is None:
        return _DEFAULT[kind]
    if ":" in model.loss:
        own = factories.load(model.loss, "model.loss", model.code)
        return lambda wanted, raw: _by_example(own(wanted, raw))
    try:
        named = tf.keras.losses.get(model.loss)
    except ValueError as error:
        raise TaskError(
            f"model.loss {model.loss} is no loss of Keras: name one, such as huber or mean_absolute_error, or a function "
            "as module:function"
        ) from error
    sparse = model.loss.startswith("sparse")
    function = named.call if isinstance(named, tf.keras.losses.Loss) else named

    def each(wanted: tf.Tensor, raw: tf.Tensor) -> tf.Tensor:
        if kind in ("class", "sequence"):
            raw = tf.nn.softmax(raw)
            wanted = wanted if sparse else tf.one_hot(wanted, schema.label.classes)
        elif kind == "multi-label":
            raw = tf.nn.sigmoid(raw)
        else:
            wanted, raw = _flat(wanted), _flat(raw)
        return _by_example(function(wanted, raw))

    return each


def _classes(wanted: tf.Tensor, raw: tf.Tensor) -> tf.Tensor:
    """Cross-entropy of logits float32 [b, classes] against labels int64 [b].

    Its gradient comes from TensorFlow's softmax, not from the exponential inside the fused operation:
    TFF's worker is a build of TensorFlow of its own, which rounds that exponential another way, and
    training amplifies such a last bit. So a client's work has the same bits in either engine.
    """
    return _cross_entropy(raw, wanted)


@tf.custom_gradient
def _cross_entropy(logits: tf.Tensor, labels: tf.Tensor) -> tuple[tf.Tensor, Callable[..., Any]]:
    def gradient(upstream: tf.Tensor) -> tuple[tf.Tensor, None]:
        target = tf.one_hot(labels, tf.shape(logits)[-1])
        return upstream[..., tf.newaxis] * (tf.nn.softmax(logits) - target), None

    return tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits), gradient


def _steps(wanted: tf.Tensor, raw: tf.Tensor) -> tf.Tensor:
    return tf.reduce_mean(_cross_entropy(raw, wanted), axis=1)


def _labels(wanted: tf.Tensor, raw: tf.Tensor) -> tf.Tensor:
    return tf.reduce_mean(tf.nn.sigmoid_cross_entropy_with_logits(wanted, raw), axis=1)


def _numbers(wanted: tf.Tensor, raw: tf.Tensor) -> tf.Tensor:
    return tf.reduce_mean(tf.math.squared_difference(_flat(raw), _flat(wanted)), axis=1)


def _flat(values: tf.Tensor) -> tf.Tensor:
    return tf.reshape(values, [tf.shape(values)[0], -1])


def _by_example(values: tf.Tensor) -> tf.Tensor:
    """The mean of `values` [b, ...] for each example, [b]."""
    return values if values.shape.rank == 1 else tf.reduce_mean(_flat(values), axis=1)


_DEFAULT: dict[str, Loss] = {
    "class": _classes,
    "sequence": _steps,
    "multi-label": _labels,
    "number": _numbers,
    "none": _numbers,
}
