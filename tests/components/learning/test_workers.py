"""The learning components with workers: what comes out is what comes out without them, bit for bit."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from kfp.dsl import Artifact, ClassificationMetrics, Dataset, Metrics, Model

from fededge import lineage
from fededge.documents import CalibrationRanges, Evaluation, Population
from fededge.fleet.selection import select
from fededge.learning import state as states
from fededge.task import FederatedTask
from fededge.weights import digest_of

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
    data = {
        "population": artifact(Artifact, "population"),
        "data": artifact(Dataset, "data"),
        "test": artifact(Dataset, "test"),
    }
    begin = {"plan": artifact(Artifact, "plan"), "state": artifact(Model, "state")}
    selection = artifact(Artifact, "selection")

    def call(name: str, spec: FederatedTask, **given: Any) -> None:
        plain(f"learning/{name}")(task=spec.to_json(), run=f"run-{spec is spread}", **given)

    call("prepare_data", alone, compiled=alone.to_json(), **data)
    call("initialize_model", alone, population=data["population"], **begin)
    select(alone.learning.cohort, alone.seed, Population.read(data["population"].path)).write(selection.path)
    lineage.seal(selection)
    found = []
    for spec in (alone, spread):
        after, evaluation = artifact(Model, f"after-{spec.digest}"), artifact(Metrics, f"e-{spec.digest}")
        ranges = artifact(Artifact, f"ranges-{spec.digest}")
        call(
            "run_rounds",
            spec,
            until=2,
            next_state=after,
            figures=artifact(Metrics, "figures"),
            selection=selection,
            **data,
            **begin,
        )
        call(
            "evaluate_model",
            spec,
            calibrate=True,
            plan=begin["plan"],
            state=after,
            evaluation=evaluation,
            classification=artifact(ClassificationMetrics, "classification"),
            ranges=ranges,
            **data,
        )
        final = states.load(after.path, spec.identity)
        found.append(
            (
                digest_of(final.weights),
                [(record.cohort, record.losses, record.bytes_received) for record in final.history],
                Evaluation.read(evaluation.path),
                CalibrationRanges.read(ranges.path),
            )
        )
    assert found[0] == found[1]
    assert len(found[1][2].clients) == 5
