"""What a run learned from, as MLflow's data set."""

import json
from typing import Any

import pytest

from fededge.documents import ClientCounts, Feature, Label, Population, Schema
from fededge.task import FederatedTask
from fededge.tracking.connection import connect
from fededge.tracking.run import TrackedRun

DIGEST = "sha256:" + "ab" * 32


@pytest.fixture
def population() -> Population:
    return Population(
        clients=[ClientCounts(id=f"site-{n}", train=8, test=2, labels=[5, 3]) for n in range(3)],
        example=Schema(
            features=[
                Feature(name="age", dtype="float32", shape=[]),
                Feature(name="job", dtype="int64", shape=[], categories=["cook", "smith"], missing=0.0),
                Feature(name="load", dtype="float32", shape=[24]),
            ],
            label=Label(kind="class", classes=2, names=["stays", "leaves"], name="churn"),
        ),
        examples=30,
        simulated=True,
        data_digest=DIGEST,
    )


def logged(task: FederatedTask, population: Population) -> list[Any]:
    tracked = TrackedRun.join("run-1", task)
    with tracked.step("prepare_data") as step:
        step.data(population, "csv")
        step.data(population, "csv")
    inputs: Any = connect().get_run(tracked.run_id).inputs
    return list(inputs.dataset_inputs)


def test_a_data_set_is_logged_once_with_schema_counts_and_digest(
    task: FederatedTask, population: Population
) -> None:
    (given,) = logged(task, population)
    made = given.dataset
    assert (made.name, made.digest) == ("csv", "ab" * 18)
    assert json.loads(made.profile) == {"num_rows": 30, "clients": 3, "training": 24}
    assert json.loads(made.source)["digest"] == DIGEST
    assert json.loads(made.schema)["mlflow_colspec"] == [
        {"name": "age", "type": "float", "required": True},
        {"name": "job", "type": "string", "required": False},
        {"name": "load", "type": "array", "items": {"type": "float"}, "required": True},
        {"name": "churn", "type": "string", "required": True},
    ]
    assert [(tag.key, tag.value) for tag in given.tags] == [("mlflow.data.context", "training")]
    assert "site-" not in made.schema + made.source + made.profile


def test_mlflow_reads_the_schema(task: FederatedTask, population: Population) -> None:
    from mlflow.types import Schema as MlflowSchema

    (given,) = logged(task, population)
    columns = json.dumps(json.loads(given.dataset.schema)["mlflow_colspec"])
    assert MlflowSchema.from_json(columns).input_names() == ["age", "job", "load", "churn"]


def test_data_that_stays_at_its_sites_is_known_by_its_counts(
    task: FederatedTask, population: Population
) -> None:
    (given,) = logged(task, population.model_copy(update={"data_digest": None}))
    assert given.dataset.digest != "ab" * 18
