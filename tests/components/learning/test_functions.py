"""The learning components with clients that are functions: they learn, evaluate, and those that are away are told."""

import json
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from kfp.dsl import Artifact, ClassificationMetrics, Dataset, Metrics, Model

from fededge import lineage
from fededge.documents import Evaluation, Population
from fededge.errors import TaskError
from fededge.fleet.selection import select
from fededge.learning import state as states
from fededge.task import FederatedTask, parse
from tests.functions_process import function, needs_serving

pytest_plugins = ["tests.mlflow_store"]
pytestmark = pytest.mark.environment("worker")


def task(**learning: Any) -> FederatedTask:
    content = {
        "name": "called",
        "seed": 3,
        "data": {"source": "digits", "holdout": 0.5},
        "partition": {"clients": 3},
        "learning": {"rounds": 1, "cohort": {"size": 3}, **learning},
        "operation": {"quorum": 2},
        "variants": [{"kind": "float32"}],
    }
    return FederatedTask.from_json(json.dumps(content))


@needs_serving
@pytest.mark.slow
def test_a_pipelines_clients_may_be_functions(
    plain: Callable[..., Any],
    artifact: Callable[..., Any],
    store: Path,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setenv("FEDEDGE_PLATFORM", "local")
    monkeypatch.setenv("FEDEDGE_STORAGE", f"file://{tmp_path}/storage")
    token = tmp_path / "token"
    token.write_text("a token of the tests\n")
    monkeypatch.setenv("FEDEDGE_FUNCTIONS_TOKEN_FILE", str(token))
    shared = tmp_path / "storage" / "functions"
    here = task(functions={"urls": {"one": "http://127.0.0.1:9"}})
    data = {
        "population": artifact(Artifact, "population"),
        "data": artifact(Dataset, "data"),
        "test": artifact(Dataset, "test"),
    }
    begin = {"plan": artifact(Artifact, "plan"), "state": artifact(Model, "state")}
    selection = artifact(Artifact, "selection")

    def call(name: str, spec: FederatedTask, **given: Any) -> None:
        plain(f"learning/{name}")(task=spec.to_json(), run="run", **given)

    call("prepare_data", here, compiled=here.to_json(), **data)
    call("initialize_model", here, population=data["population"], **begin)
    clients = [client.id for client in Population.read(data["population"].path).clients]
    select(here.learning.cohort, here.seed, Population.read(data["population"].path)).write(selection.path)
    lineage.seal(selection)
    away, *there = clients
    after, evaluation = artifact(Model, "after"), artifact(Metrics, "evaluation")
    with ExitStack() as stack:
        urls = {
            client: stack.enter_context(
                function(
                    "train",
                    "--data",
                    Path(data["data"].path) / client,
                    "--store",
                    shared,
                    "--token-file",
                    token,
                )
            )
            for client in there
        }
        called = task(functions={"urls": urls})
        assert called.identity == here.identity == task().identity
        call(
            "run_rounds",
            called,
            until=1,
            next_state=after,
            figures=artifact(Metrics, "figures"),
            selection=selection,
            **data,
            **begin,
        )
        call(
            "evaluate_model",
            called,
            calibrate=False,
            plan=begin["plan"],
            state=after,
            evaluation=evaluation,
            classification=artifact(ClassificationMetrics, "classification"),
            ranges=artifact(Artifact, "ranges"),
            **data,
        )
    first, final = (states.load(Path(each.path), here.identity) for each in (begin["state"], after))
    (record,) = final.history
    assert record.reported == there
    assert "name its URL" in record.failed[away]
    assert all(np.abs(value - first.weights[name]).max() > 0 for name, value in final.weights.items())
    found = Evaluation.read(evaluation.path)
    assert [client.id for client in found.clients] == there
    assert list(found.failed) == [away]
    assert list(shared.iterdir()) == []


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        (
            "learning: {engine: simulation, functions: {urls: {a: 'http://a'}}}",
            "goes with learning.engine federated",
        ),
        (
            "learning: {functions: {urls: {a: 'http://a'}}}\nmodel: {framework: sklearn, name: MLPClassifier}",
            "keras",
        ),
        ("learning: {functions: {urls: {a: 'http://a'}}}\nvariants: [{kind: int8}]", "measure nothing"),
        ("learning: {functions: {urls: {a: 'ftp://a'}}}", "urls"),
    ],
)
def test_functions_that_cannot_work_are_refused(changes: str, told: str) -> None:
    with pytest.raises(TaskError, match=told):
        parse(f"name: a\ndata: {{source: digits}}\n{changes}\n")
