"""A task's PyTorch module as it learns: encoded examples in, raw outputs out.

The float32 tensors that travel are the parameters that learn, by their names, and then the persistent buffers, such as
BatchNorm's statistics. Frozen parameters and integer counters stay: every process makes the same ones from the seed.
"""

import pickle
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch

from fededge.documents import Schema, Variable
from fededge.errors import TaskError, shown
from fededge.learning import factories
from fededge.learning.warm_start import FROZEN
from fededge.task import Model
from fededge.weights import Weights

BATCH = 512
NESTED = ("state_dict", "model_state_dict")
"""Where a checkpoint of a training loop keeps the state dictionary."""


class Network:
    """The module that a task's factory makes for examples of `schema`.

    Args:
        model: the task's section.
        schema: of the examples.
        seed: of the task, from which initial weights are drawn.

    Raises:
        TaskError: there is no factory, it gives no module, or the module does not take and give what the schema says.

    Attributes:
        module: float32 [b, *schema.encoded_shape] to raw outputs: logits, or standardized numbers.
        tensors: those that travel, by name; `statistics`: the names of those that no optimizer moves.
    """

    def __init__(self, model: Model, schema: Schema, seed: int) -> None:
        if model.factory is None:
            raise TaskError(
                "model.framework torch needs model.factory: name your own function as module:function"
            )
        factory = factories.load(model.factory, "model.factory", model.code)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            made = factories.make(factory, model, schema)
        if not isinstance(made, torch.nn.Module):
            raise TaskError(
                f"model {model.shown} gives a {type(made).__name__}, not a torch.nn.Module: give one back"
            )
        self.module = made.to(torch.float32)
        self._schema = schema
        self.module.eval()
        with torch.inference_mode():
            factories.check_shapes(
                model, schema, lambda: self.module(torch.zeros((2, *schema.encoded_shape)))
            )
        parameters = {n: p.data for n, p in self.module.named_parameters() if p.requires_grad}
        kept = self.module.state_dict().keys()
        buffers = {n: b for n, b in self.module.named_buffers() if n in kept and b.dtype == torch.float32}
        if not parameters:
            raise TaskError(f"model {model.shown} has no parameter that learns: let one require a gradient")
        self.tensors: dict[str, torch.Tensor] = parameters | buffers
        self.statistics = set(buffers)
        self._before = {name: value.clone() for name, value in self.module.state_dict().items()}

    @property
    def described(self) -> list[Variable]:
        """The tensors that travel."""
        return [
            Variable(name=name, shape=list(value.shape), statistic=name in self.statistics)
            for name, value in self.tensors.items()
        ]

    def weights(self) -> Weights:
        """A copy of what travels."""
        return {name: value.detach().cpu().numpy().copy() for name, value in self.tensors.items()}

    def begin(self, weights: Mapping[str, np.ndarray]) -> None:
        """Take `weights`, and forget all else that was learned or counted."""
        self.module.load_state_dict(self._before)
        for name, tensor in self.tensors.items():
            tensor.copy_(torch.from_numpy(np.array(weights[name], np.float32)))

    def checkpoint(self, file: Path) -> Weights:
        """The tensors that travel, as a state dictionary in `file` has them.

        Raises:
            TaskError: it is none of this module, or changes what does not travel.
        """
        try:
            held = torch.load(file, map_location="cpu", weights_only=True)
            held = next((held[key] for key in NESTED if key in held), held)
            self.module.load_state_dict(self._before)
            self.module.load_state_dict(held)
        except (RuntimeError, pickle.UnpicklingError, EOFError, KeyError, TypeError, ValueError) as error:
            raise TaskError(
                f"model.weights {file.name} is no PyTorch checkpoint of this module: {shown(str(error), 300)}. Save its "
                "state_dict() with torch.save"
            ) from error
        after = self.module.state_dict()
        for name, value in self._before.items():
            if name not in self.tensors and value.is_floating_point() and not torch.equal(value, after[name]):
                raise TaskError(FROZEN.format(file.name))
        return self.weights()

    def to(self, device: str) -> None:
        """Move to `device`."""
        self.module.to(device)
        parameters, buffers = dict(self.module.named_parameters()), dict(self.module.named_buffers())
        self.tensors = {
            name: (parameters[name].data if name in parameters else buffers[name]) for name in self.tensors
        }

    def raw(self, encoded: np.ndarray) -> np.ndarray:
        """Raw outputs float32 [n, ...] for encoded examples [n, ...], without training."""
        device = next(iter(self.tensors.values())).device
        self.module.eval()
        with torch.inference_mode():
            parts = [
                self.module(torch.from_numpy(encoded[start : start + BATCH]).to(device)).cpu().numpy()
                for start in range(0, len(encoded), BATCH)
            ]
        return np.concatenate(parts)
