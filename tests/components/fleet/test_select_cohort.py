"""select_cohort: cohorts of the next rounds from population and state."""

import json
from pathlib import Path
from typing import Any

import pytest
from kfp.dsl import Artifact, Dataset, Model

from fededge import lineage
from fededge.errors import IntegrityError, TaskError
from fededge.fleet import selection
from fededge.task import FederatedTask


def task_for(size: int) -> FederatedTask:
    learning = {"rounds": 6, "cohort": {"size": size}}
    content = {
        "name": "tiny",
        "data": {"source": "digits"},
        "partition": {"clients": 5},
        "learning": learning,
    }
    return FederatedTask.from_json(json.dumps(content))


@pytest.fixture
def inputs(artifact) -> Any:
    data, state = artifact(Dataset, "data"), artifact(Model, "state")
    Path(data.path).mkdir()
    clients = [{"id": f"site-{i}", "train": 10, "test": 1, "labels": [10]} for i in range(4)]
    (Path(data.path) / "population.json").write_text(json.dumps({"clients": clients}))
    lineage.seal(data)
    Path(state.path).write_bytes(b"weights")
    lineage.seal(state, round=3)
    return data, state


def test_the_next_rounds_each_have_a_cohort(plain, artifact, inputs) -> None:
    data, state = inputs
    cohorts = artifact(Artifact, "cohorts")
    task = task_for(2)
    plain("fleet/select_cohort")(task.to_json(), "run-1", data, state, 2, cohorts)
    selected = json.loads(Path(cohorts.path).read_text())
    population = selection.read_population(data.path)
    assert selected == {str(number): selection.cohort(task, number, population) for number in (4, 5)}
    assert cohorts.metadata["parents"] == [data.metadata["digest"], state.metadata["digest"]]
    assert cohorts.metadata["round"] == 3
    lineage.verify(cohorts)


def test_a_retry_selects_the_same_and_no_round_beyond_the_last(plain, artifact, inputs) -> None:
    data, state = inputs
    state.metadata["round"] = 3.0  # as numbers may arrive from Kubeflow
    first, again = artifact(Artifact, "first"), artifact(Artifact, "again")
    for cohorts in (first, again):
        plain("fleet/select_cohort")(task_for(2).to_json(), "run-1", data, state, 50, cohorts)
    assert first.metadata["digest"] == again.metadata["digest"]
    assert list(json.loads(Path(first.path).read_text())) == ["4", "5", "6"]


def test_a_tampered_population_is_refused(plain, artifact, inputs) -> None:
    data, state = inputs
    population = Path(data.path) / "population.json"
    population.write_text(population.read_text().replace("site-3", "site-9"))
    cohorts = artifact(Artifact, "cohorts")
    with pytest.raises(IntegrityError, match="was changed"):
        plain("fleet/select_cohort")(task_for(2).to_json(), "run-1", data, state, 2, cohorts)
    assert not Path(cohorts.path).exists()


def test_a_cohort_larger_than_the_population_is_refused(plain, artifact, inputs) -> None:
    data, state = inputs
    cohorts = artifact(Artifact, "cohorts")
    with pytest.raises(TaskError, match="only 4 clients"):
        plain("fleet/select_cohort")(task_for(5).to_json(), "run-1", data, state, 2, cohorts)
    assert not Path(cohorts.path).exists()
