"""The learning components with clients that are functions: they learn, evaluate, and those that are away are told."""

import json
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fededge.documents import Evaluation
from fededge.errors import TaskError
from fededge.learning import state as states
from fededge.task import FederatedTask, parse
from tests.components.learning.begun_task import BegunTask
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
    begun = BegunTask(plain, artifact, here, "run")
    away, *there = begun.clients
    with ExitStack() as stack:
        urls = {
            client: stack.enter_context(
                function(
                    "train",
                    "--data",
                    begun.data / client,
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
        learned = begun.learn(called, "run", until=1, calibrate=False)
    first, final = (states.load(each, here.identity) for each in (begun.state, learned.state))
    (record,) = final.history
    assert record.reported == there
    assert "name its URL" in record.failed[away]
    assert all(np.abs(value - first.weights[name]).max() > 0 for name, value in final.weights.items())
    found = Evaluation.read(learned.evaluation)
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
