"""select_cohort: pool, policy and seed of a run's rounds, from its population."""

import json
from pathlib import Path
from typing import Any

import pytest
from kfp.dsl import Artifact

from fededge import lineage
from fededge.documents import ClientCounts, Feature, Label, Population, Schema, Selection
from fededge.errors import IntegrityError, TaskError
from fededge.task import FederatedTask
from fededge.tracking.run import TrackedRun


def task_for(size: int) -> FederatedTask:
    learning = {"rounds": 6, "cohort": {"size": size}}
    content = {"name": "tiny", "data": {"source": "digits"}, "partition": {"clients": 5}}
    return FederatedTask.from_json(json.dumps({**content, "learning": learning}))


def decide(plain: Any, size: int, population: Any, selection: Any, compiled: int | None = None) -> None:
    given = task_for(size).to_json()
    plain("fleet/select_cohort")(given, task_for(compiled or size).to_json(), "run-1", population, selection)


@pytest.fixture
def population(artifact: Any) -> Any:
    population = artifact(Artifact, "population")
    Population(
        clients=[ClientCounts(id=f"site-{i}", train=10, test=1) for i in range(4)],
        example=Schema(features=[Feature(name="x", dtype="float32", shape=[2])], label=Label(classes=2)),
        examples=40,
        simulated=True,
    ).write(population.path)
    lineage.seal(population)
    return population


def test_pool_policy_and_seed_are_handed_on_and_a_retry_decides_the_same(
    plain: Any, artifact: Any, population: Any
) -> None:
    first, again = artifact(Artifact, "first"), artifact(Artifact, "again")
    for selection in (first, again):
        decide(plain, 2, population, selection)
    chosen = Selection.read(first.path)
    assert (chosen.policy, chosen.size, chosen.seed) == ("uniform", 2, 0)
    assert [client.id for client in chosen.pool] == ["site-0", "site-1", "site-2", "site-3"]
    assert first.metadata["parents"] == [population.metadata["digest"]]
    assert first.metadata["digest"] == again.metadata["digest"]
    lineage.verify(first)


def test_a_tampered_population_is_refused(plain: Any, artifact: Any, population: Any) -> None:
    file = Path(population.path)
    file.write_text(file.read_text().replace("site-3", "site-9"))
    selection = artifact(Artifact, "selection")
    with pytest.raises(IntegrityError, match="was changed"):
        decide(plain, 2, population, selection)
    assert not Path(selection.path).exists()


def test_a_cohort_larger_than_the_population_is_refused(plain: Any, artifact: Any, population: Any) -> None:
    selection = artifact(Artifact, "selection")
    with pytest.raises(TaskError, match="only 4 clients"):
        decide(plain, 5, population, selection)
    assert not Path(selection.path).exists()


def test_another_task_than_the_pipeline_was_compiled_for_is_refused(
    plain: Any, artifact: Any, population: Any
) -> None:
    selection = artifact(Artifact, "selection")
    with pytest.raises(TaskError, match=r"compiled for another task.*learning\.cohort\.size"):
        decide(plain, 2, population, selection, compiled=3)
    assert not Path(selection.path).exists()


def test_mlflow_is_told_of_data_that_another_run_prepared(plain: Any, artifact: Any, population: Any) -> None:
    selection = artifact(Artifact, "selection")
    population.metadata.update(step="prepare_data", run="run-1")
    decide(plain, 2, population, selection)
    records = TrackedRun.find("run-1").records()
    assert {"steps/prepare_data", "data"}.isdisjoint(records)
    population.metadata.update(run="run-0")
    decide(plain, 2, population, selection)
    records = TrackedRun.find("run-1").records()
    assert records["steps/prepare_data"]["reused"] == "run-0"
    assert records["steps/prepare_data"]["status"] == "succeeded"
    assert records["data"]["examples"] == 40
