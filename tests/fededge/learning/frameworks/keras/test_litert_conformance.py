"""A Keras plan's clients on LiteRT learn as every framework's do, and as its clients on TensorFlow."""

from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest

from fededge.clients import Client
from fededge.errors import VariantError
from fededge.learning.frameworks import add_litert, model_spec, open_client
from fededge.seeds import seed_for
from fededge.task import ClientOptimizer, Model
from fededge.weights import Weights
from tests.fededge.learning.frameworks.conformance import schema_of
from tests.fededge.learning.frameworks.keras import test_conformance as keras
from tests.litert_process import NAME, ROUND, LiteRTProcess, needs_edge

pytestmark = pytest.mark.environment("worker")


class OnLiteRT(keras.TestKeras):
    """The suite, whose clients are processes of the edge environment."""

    def export(self, kind: str, work: ClientOptimizer, plan: Path) -> None:
        spec = model_spec(self.models[kind], schema_of(kind), 7)
        super().export(kind, work, plan)
        add_litert(spec, work, plan)

    def client(self, plan: Path, data: Path) -> Client:
        return LiteRTProcess(plan, data)

    def local(self, kind: str, weights: Weights, data: Path, seed: int) -> Weights:
        return super().local(kind, weights, data, seed_for(seed, ROUND, NAME))

    def test_ranges_are_of_the_input_and_each_layer(self, kind: str, home: Path, weights: Weights) -> None:
        with pytest.raises(VariantError, match="measures no ranges"):
            self.client(home / "plan", home).ranges(weights)

    def test_both_hand_in_the_same(self, kind: str, home: Path, weights: Weights) -> None:
        theirs = open_client(home / "plan", home).train(weights, seed_for(11, ROUND, NAME))
        ours = self.client(home / "plan", home).train(weights, 11)
        for name, value in theirs.delta.items():
            np.testing.assert_allclose(ours.delta[name], value, rtol=0, atol=self.tolerance)
        assert ours.examples == theirs.examples
        assert ours.loss_sum == pytest.approx(theirs.loss_sum, rel=1e-4)
        assert ours.sums == pytest.approx(theirs.sums, rel=1e-4)


@needs_edge
class TestOnLiteRT(OnLiteRT):
    models: ClassVar = {"class": Model(factory="tests.litert_models:small")}


@needs_edge
@pytest.mark.slow
class TestOtherLabelsOnLiteRT(OnLiteRT):
    models: ClassVar = dict.fromkeys(("number", "multi-label", "sequence", "none"), keras.SMALL)


@needs_edge
@pytest.mark.slow
class TestAdamOnLiteRT(OnLiteRT):
    models: ClassVar = {"two classes": keras.SMALL}
    work = ClientOptimizer(batch_size=8, epochs=2, optimizer="adam", learning_rate=0.01)
    tolerance = 1e-4
