"""Both engines aggregate what scikit-learn's clients learn."""

from pathlib import Path

import numpy as np
import pytest

from fededge import examples
from fededge.documents import ClientCounts
from fededge.learning.engines import open_engine
from fededge.learning.frameworks import model_spec
from fededge.task import Learning, Model, Operation
from tests.fededge.learning.frameworks.conformance import IDENTITY, schema_of, table

pytestmark = pytest.mark.environment("worker")


def test_sites_and_simulation_learn_the_same_in_rounds(tmp_path: Path) -> None:
    schema, model = schema_of("class"), Model(framework="sklearn", name="SGDClassifier", loss="log_loss")
    names = ["site-0", "site-1", "site-2"]
    for number, name in enumerate(names):
        x, y = table("class", 60, number)
        x, y = (x[y == 0], y[y == 0]) if number == 0 else (x, y)  # a client without two of the classes
        examples.write(tmp_path / "clients" / name / "train", x, y, schema)
    pool = [ClientCounts(id=name, train=60, test=1) for name in names]
    test_x, test_y = table("class", 200, 9)
    learned = []
    for engine in ("simulation", "federated"):
        learning = Learning(engine=engine, rounds=5)
        spec = model_spec(model, schema, 0)
        spec.export_plan(learning.client, IDENTITY, tmp_path / engine)
        weights = spec.initial_weights()
        with open_engine(model, learning, Operation(), 0, tmp_path / engine, tmp_path / "clients") as opened:
            server = opened.initialize()
            for number in range(1, learning.rounds + 1):
                result = opened.next(weights, server, number, pool)
                weights, server = result.weights, result.server
        assert result.reported == names
        assert (spec.predict(weights, test_x).argmax(axis=1) == test_y).mean() > 0.9
        learned.append(weights)
    for name, value in learned[0].items():
        np.testing.assert_array_equal(value, learned[1][name])
