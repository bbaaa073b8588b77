"""PyTorch's modules learn as every framework's do, and as a plain loop."""

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from fededge import examples
from fededge.documents import Schema
from fededge.learning.frameworks import model_spec
from fededge.learning.streaming import training_blocks
from fededge.task import ClientOptimizer, Model
from fededge.weights import Weights
from tests.fededge.learning.frameworks.conformance import Conformance, schema_of

pytestmark = pytest.mark.environment("worker")
torch: Any = pytest.importorskip("torch", reason="PyTorch is no part of the lock: pip install torch==2.13.0")


def line(schema: Schema, units: int = 6, norm: bool = False) -> Any:
    """A hidden layer; its outputs in the shape that the label asks for."""
    nn, shape = torch.nn, schema.label.output_shape or schema.encoded_shape
    inner = [nn.Linear(schema.encoded_shape[0], units), *([nn.BatchNorm1d(units)] if norm else []), nn.ReLU()]
    last = [nn.Unflatten(1, shape)] if len(shape) > 1 else []
    return nn.Sequential(*inner, nn.Linear(units, int(np.prod(shape))), *last)


HERE = f"{__name__}:line"


class TestTorch(Conformance):
    kinds: ClassVar = ("class", "two classes", "number", "numbers", "multi-label", "none")
    models: ClassVar = dict.fromkeys(kinds, Model(framework="torch", factory=HERE))

    def local(self, kind: str, weights: Weights, data: Path, seed: int) -> Weights:
        schema, functional = schema_of(kind), torch.nn.functional
        loss = {
            "class": functional.cross_entropy,
            "multi-label": functional.binary_cross_entropy_with_logits,
            "sequence": lambda raw, y: functional.cross_entropy(raw.transpose(1, 2), y),
        }.get(schema.label.kind, functional.mse_loss)
        module = line(schema, **self.models[kind].arguments)
        state = {name: torch.from_numpy(value.copy()) for name, value in weights.items()}
        module.load_state_dict(state, strict=False)
        name = {"sgd": "SGD", "adam": "Adam"}[self.work.optimizer]
        optimizer = getattr(torch.optim, name)(module.parameters(), lr=self.work.learning_rate)
        size, (x, y) = self.work.batch_size, examples.read(data)
        for encoded, targets in training_blocks(schema, x, y, seed, size, self.work.epochs):
            for at in range(0, len(encoded), size):
                batch, wanted = (torch.from_numpy(part[at : at + size]) for part in (encoded, targets))
                optimizer.zero_grad()
                loss(module(batch), wanted).backward()
                optimizer.step()
        found = module.state_dict()
        return {name: found[name].detach().numpy() for name in weights}


class TestTorchWithStatistics(TestTorch):
    models: ClassVar = {"class": Model(framework="torch", factory=HERE, arguments={"norm": True})}
    work = ClientOptimizer(batch_size=8, epochs=2, optimizer="adam", learning_rate=0.01)

    def test_statistics_travel_and_counters_stay(self) -> None:
        weights = model_spec(self.models["class"], schema_of("class"), 0).initial_weights()
        assert {"1.running_mean", "1.running_var"} < set(weights)
        assert "1.num_batches_tracked" not in weights


class TestTorchWithoutAKerasForm(TestTorch):
    models: ClassVar = {"sequence": Model(framework="torch", factory=HERE)}
    in_keras = False
