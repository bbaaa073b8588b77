"""The Keras models that ship, by the name that a task gives, and the examples that each takes. Imports no framework."""

from fededge.documents import Schema
from fededge.errors import TaskError

FACTORIES = {
    "cnn": "fededge.learning.models.cnn:build",
    "batchnorm-cnn": "fededge.learning.models.batchnorm_cnn:build",
    "mlp": "fededge.learning.models.mlp:build",
    "regression": "fededge.learning.models.mlp:regression",
    "cnn1d": "fededge.learning.models.series:convolutional",
    "gru": "fededge.learning.models.series:recurrent",
    "resnet": "fededge.learning.models.resnet:build",
    "transformer": "fededge.learning.models.transformer:build",
}
"""Import path of the function that makes it."""
DEFAULT = "cnn"
PIXELS = {"cnn": 16, "batchnorm-cnn": 8, "resnet": 8}
"""Height and width of the smallest images, of models that take images."""
SERIES = frozenset({"cnn1d", "gru"})
TOKENS = frozenset({"transformer"})


def check(name: str, schema: Schema) -> tuple[int, ...]:
    """The shape of an encoded example, which the model `name` takes.

    Raises:
        TaskError: no such model ships, or it takes other examples.
    """
    if name not in FACTORIES:
        raise TaskError(
            f"model.name {name} is no Keras model that ships: use {', '.join(FACTORIES)}, or name your own as "
            "model.factory"
        )
    shape = schema.encoded_shape
    if name in PIXELS and (len(shape) != 3 or min(shape[:2]) < PIXELS[name]):
        wanted = f"images of at least {PIXELS[name]}x{PIXELS[name]} pixels with channels"
    elif name in SERIES and len(shape) != 2:
        wanted = "series of shape [steps, channels]"
    elif name in TOKENS and len(shape) != 1:
        wanted = "tokens of shape [steps]"
    else:
        return shape
    raise TaskError(
        f"model {name} takes {wanted}, but an example has the shape {list(shape)}: change the data, or take another "
        "model, such as mlp"
    )
