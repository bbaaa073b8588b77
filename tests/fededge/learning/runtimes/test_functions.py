"""Clients that are functions learn what clients that are runners on LiteRT learn, bit for bit."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fededge.documents import Plan
from fededge.learning.federated import FederatedEngine
from fededge.learning.frameworks import add_litert
from fededge.learning.interfaces import ClientRuntime, RoundResult
from fededge.learning.runtimes.functions import FunctionClients
from fededge.learning.runtimes.local import LocalSites
from tests.functions_process import function, needs_serving
from tests.litert_process import COMMAND, needs_edge

pytestmark = pytest.mark.environment("worker")
TOKEN = "a token of the tests"


class LiteRTSites(LocalSites):
    """Sites whose runner is that of devices."""

    def command(self, client: str) -> list[str]:
        return COMMAND


@pytest.fixture(scope="module")
def task(make_task: Any) -> Any:
    return make_task(client={"batch_size": 32})


@pytest.fixture(scope="module")
def plan(prepared: Any, task: Any) -> Path:
    folder: Path = prepared.plan(task)
    add_litert(prepared.spec(task), task.learning.client, folder)
    return folder


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("store")


@pytest.fixture(scope="module")
def urls(prepared: Any, store: Path) -> Iterator[dict[str, str]]:
    secret = store.with_suffix(".token")
    secret.write_text(TOKEN + "\n")
    with ExitStack() as stack:
        yield {
            client: stack.enter_context(
                function(
                    "train", "--data", prepared.clients / client, "--store", store, "--token-file", secret
                )
            )
            for client in prepared.ids
        }


@needs_serving
@pytest.mark.slow
@needs_edge
def test_a_round_of_functions_gives_the_bits_of_a_round_of_runners(
    prepared: Any, task: Any, plan: Path, store: Path, urls: dict[str, str]
) -> None:
    weights = prepared.spec(task).initial_weights()

    def after_a_round(runtime: ClientRuntime) -> RoundResult:
        document = Plan.read(plan / "plan.json")
        with FederatedEngine(document, task.learning, task.operation, task.seed, runtime) as engine:
            return engine.next(weights, engine.initialize(), 1, prepared.population.clients)

    functions = after_a_round(FunctionClients(plan, urls, str(store), TOKEN))
    runners = after_a_round(LiteRTSites(plan, prepared.clients))
    assert functions.reported == runners.reported == prepared.ids
    assert functions.loss == runners.loss
    for name, value in runners.weights.items():
        assert value.tobytes() == functions.weights[name].tobytes()
        assert np.abs(value - weights[name]).max() > 0
    assert list(store.iterdir()) == []


@needs_serving
@pytest.mark.slow
def test_functions_evaluate_and_say_why_they_do_not(
    prepared: Any, task: Any, plan: Path, store: Path, urls: dict[str, str]
) -> None:
    weights = prepared.spec(task).initial_weights()
    first, second, third = prepared.ids
    there = urls | {second: "http://127.0.0.1:9"}
    del there[third]
    with FunctionClients(plan, there, str(store), TOKEN) as clients:
        reports = {each.client: each for each in clients.evaluate(weights, 1, prepared.ids, 60.0)}
        (ranges,) = clients.ranges(weights, 1, [first], 60.0)
    assert (reports[first].counts or {})["examples"] > 0
    assert "does not answer" in (reports[second].failure or "")
    assert "name its URL" in (reports[third].failure or "")
    assert "no ranges" in (ranges.failure or "")
    with FunctionClients(plan, urls, str(store), "another token") as clients:
        (report,) = clients.train(weights, 3, 1, [first], 60.0)
    assert "refuses (401)" in (report.failure or "")


@needs_serving
@pytest.mark.slow
def test_a_function_that_is_late_is_reported_as_failed(
    prepared: Any, task: Any, plan: Path, store: Path, urls: dict[str, str]
) -> None:
    weights = prepared.spec(task).initial_weights()
    with FunctionClients(plan, urls, str(store), TOKEN) as clients:
        (report,) = clients.train(weights, 3, 1, prepared.ids[:1], 0.0)
    assert report.update is None
    assert "within 0 s" in (report.failure or "") or "does not answer" in (report.failure or "")
