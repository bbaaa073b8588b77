"""The learning components with workers: what comes out is what comes out without them, bit for bit."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fededge.documents import CalibrationRanges, Evaluation
from fededge.learning import state as states
from fededge.task import FederatedTask
from fededge.weights import digest_of
from tests.components.learning.begun_task import BegunTask

pytest_plugins = ["tests.mlflow_store"]
pytestmark = pytest.mark.environment("worker")


def task(learning: dict[str, Any]) -> FederatedTask:
    content = {
        "name": "spread",
        "seed": 3,
        "data": {"source": "digits", "holdout": 0.5},
        "partition": {"clients": 5},
        "model": {"framework": "sklearn", "name": "MLPClassifier", "arguments": {"hidden_layer_sizes": [8]}},
        "learning": {"rounds": 2, "cohort": {"size": 3}, **learning},
        "variants": [{"kind": "int8"}],
    }
    return FederatedTask.from_json(json.dumps(content))


@pytest.mark.slow
def test_rounds_and_evaluation_with_workers_are_those_without(
    plain: Callable[..., Any], artifact: Callable[..., Any], store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FEDEDGE_PLATFORM", "local")
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0, 1})
    alone, spread = task({}), task({"workers": {"replicas": 2}})
    begun = BegunTask(plain, artifact, alone, "run-False")
    found = []
    for spec in (alone, spread):
        learned = begun.learn(spec, f"run-{spec is spread}", until=2, calibrate=True)
        final = states.load(learned.state, spec.identity)
        found.append(
            (
                digest_of(final.weights),
                [(record.cohort, record.losses, record.bytes_received) for record in final.history],
                Evaluation.read(learned.evaluation),
                CalibrationRanges.read(learned.ranges),
            )
        )
    assert found[0] == found[1]
    assert len(found[1][2].clients) == 5
