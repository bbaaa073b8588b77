"""Losses of raw outputs, by the kind of label, by PyTorch's name or of one's own."""

from collections.abc import Callable

import torch
from torch.nn import functional

from fededge.documents import Schema
from fededge.errors import TaskError
from fededge.learning import factories
from fededge.task import Model

Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""Raw outputs [b, ...] and targets (`fededge.encoding.targets`) to a loss, of which the mean counts."""


def loss_of(model: Model, schema: Schema) -> Loss:
    """The loss that a task names, or the one that suits the label.

    Raises:
        TaskError: PyTorch knows no loss of that name, or the function cannot be imported.
    """
    kind = schema.label.kind
    own = _named(model) if model.loss else None
    if kind == "class":
        return own or functional.cross_entropy
    if kind == "sequence":
        each = own or functional.cross_entropy
        return lambda raw, wanted: each(raw.flatten(0, 1), wanted.flatten())
    if kind == "multi-label":
        return own or functional.binary_cross_entropy_with_logits
    numbers = own or functional.mse_loss
    return lambda raw, wanted: numbers(raw.flatten(1), wanted)


def _named(model: Model) -> Loss:
    name = str(model.loss)
    if ":" in name:
        return factories.load(name, "model.loss", model.code)
    found = getattr(torch.nn, name, None)
    if not isinstance(found, type) or not issubclass(found, torch.nn.modules.loss._Loss):
        raise TaskError(
            f"model.loss {name} is no loss of PyTorch: name one, such as HuberLoss or L1Loss, or a function as "
            "module:function"
        )
    loss: Loss = found()
    return loss
