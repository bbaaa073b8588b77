"""Clients on TensorFlow and clients on LiteRT learn in one round, and give the weights that either alone give."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fededge.documents import Plan
from fededge.host.layout import ROOT
from fededge.learning.federated import FederatedEngine
from fededge.learning.frameworks import add_litert
from fededge.learning.interfaces import RoundResult
from fededge.learning.runtimes.local import LocalSites
from tests.litert_process import COMMAND, needs_edge

pytestmark = pytest.mark.environment("worker")


class MixedSites(LocalSites):
    """Local sites of which some run on LiteRT, in the edge environment."""

    def __init__(self, plan: Path, clients: Path, on_litert: set[str]) -> None:
        super().__init__(plan, clients)
        self._on_litert = on_litert

    def command(self, client: str) -> list[str]:
        return COMMAND if client in self._on_litert else super().command(client)


@needs_edge
@pytest.mark.slow
def test_a_mixed_cohort_learns_what_either_kind_learns(
    prepared: Any, make_task: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(os.environ, "PYTHONPATH", str(ROOT))
    task = make_task(client={"batch_size": 32})
    plan, weights = prepared.plan(task), prepared.spec(task).initial_weights()
    add_litert(prepared.spec(task), task.learning.client, plan)

    def after_a_round(on_litert: set[str]) -> RoundResult:
        sites = MixedSites(plan, prepared.clients, on_litert)
        document = Plan.read(plan / "plan.json")
        with FederatedEngine(document, task.learning, task.operation, task.seed, sites) as engine:
            return engine.next(weights, engine.initialize(), 1, prepared.population.clients)

    first = prepared.ids[0]
    results = [after_a_round(on_litert) for on_litert in (set(), {first}, set(prepared.ids))]
    for result in results:
        assert result.reported == prepared.ids
        assert result.examples == results[0].examples
        assert result.loss == pytest.approx(results[0].loss, rel=1e-4)
        for name, value in results[0].weights.items():
            assert (value != weights[name]).any()
            np.testing.assert_allclose(result.weights[name], value, rtol=0, atol=1e-5)
