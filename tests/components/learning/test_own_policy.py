"""A selection policy of the user's own: packed, signed, proven, and asked when a round begins."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from kfp.dsl import Artifact, Dataset, Metrics, Model

from fededge.documents import Population
from fededge.errors import TaskError
from fededge.learning import bundles
from fededge.learning import state as states
from fededge.task import FederatedTask, parse

pytest_plugins = ["tests.mlflow_store"]
pytestmark = pytest.mark.environment("worker")

POLICY = """
class MostExamples:
    def choose(self, pool, size, seed, round_number):
        return [client.id for client in sorted(pool, key=lambda client: -client.train)[:size]]


class Strangers:
    def choose(self, pool, size, seed, round_number):
        return ["nobody"]


def function():
    return 5
"""


@pytest.fixture
def one_round(
    plain: Callable[..., Any], artifact: Any, store: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Callable[[str], tuple[Population, states.State]]:
    """`one_round("MostExamples")` runs a round with this policy out of a bundle."""
    monkeypatch.setenv("FEDEDGE_PLATFORM", "local")
    (tmp_path / "policies").mkdir()
    (tmp_path / "policies" / "my_policies.py").write_text(POLICY)

    def run(name: str) -> tuple[Population, states.State]:
        own = {"size": 2, "policy": f"my_policies:{name}", "code": str(tmp_path / "policies")}
        content = {
            "name": "small",
            "data": {"source": "digits"},
            "model": {"framework": "sklearn", "name": "SGDClassifier", "loss": "log_loss"},
            "learning": {"rounds": 1, "engine": "simulation", "cohort": own},
        }
        task = bundles.packed(parse(json.dumps(content)), on_cluster=False)
        assert bundles.PACKED.fullmatch(str(task.learning.cohort.code))
        return _run(plain, artifact, task)

    return run


def _run(plain: Any, artifact: Any, task: FederatedTask) -> tuple[Population, states.State]:
    given = {"task": task.to_json(), "run": "run-1"}
    clients = {name: artifact(Dataset, name) for name in ("data", "test")}
    clients["population"] = artifact(Artifact, "population")
    plan, state, selection = (
        artifact(Artifact, "plan"),
        artifact(Model, "state"),
        artifact(Artifact, "selection"),
    )
    after, figures = artifact(Model, "after"), artifact(Metrics, "figures")
    plain("learning/prepare_data")(compiled=task.to_json(), **given, **clients)
    population = clients["population"]
    plain("learning/initialize_model")(population=population, plan=plan, state=state, **given)
    plain("fleet/select_cohort")(compiled=task.to_json(), population=population, selection=selection, **given)
    plain("learning/run_rounds")(
        until=1,
        plan=plan,
        state=state,
        selection=selection,
        next_state=after,
        figures=figures,
        **given,
        **clients,
    )
    return Population.read(population.path), states.load(after.path)


def test_a_policy_out_of_a_signed_bundle_chooses_the_cohort(
    one_round: Callable[[str], tuple[Population, states.State]],
) -> None:
    population, state = one_round("MostExamples")
    largest = sorted(population.clients, key=lambda client: -client.train)[:2]
    assert state.history[0].cohort == sorted(client.id for client in largest)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("Strangers", r"my_policies:Strangers chose \['nobody'\]"),
        ("function", r"my_policies:function failed in round 1: AttributeError: .*Correct it"),
        ("Missing", r"learning\.cohort\.policy my_policies:Missing cannot be imported"),
    ],
)
def test_a_policy_that_fails_is_told_by_its_name(
    name: str, words: str, one_round: Callable[[str], tuple[Population, states.State]]
) -> None:
    with pytest.raises(TaskError, match=words):
        one_round(name)
