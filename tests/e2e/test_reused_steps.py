"""A run on Kubeflow whose cache has steps of an earlier run: what MLflow is told is what that run told it.

All steps that may be reused are here, and those that tell of them, but for run_rounds, which tells of initialize_model.
kfp.local's cache of files stands for Kubeflow's; a run gets the entries of the run before it. Kubeflow looks for the
same image, command and parameters, kfp.local also for the same artifacts.
"""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from kfp import dsl
from kfp.compiler import Compiler

from components import images
from components.delivery.gate_model.component import gate_model
from components.fleet.select_cohort.component import select_cohort
from components.learning.initialize_model.component import initialize_model
from components.learning.prepare_data.component import prepare_data
from components.learning.train_alone.component import train_alone
from components.learning.train_centralized.component import train_centralized
from fededge import settings
from fededge.host.layout import VENVS
from fededge.task import FederatedTask
from fededge.tracking.connection import connect
from fededge.tracking.run import TrackedRun
from pipelines.federated_training import steps
from pipelines.local import run_local

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not VENVS.is_dir(), reason="no environments: `make run` sets them up"),
]

TASK = FederatedTask.from_json(
    json.dumps(
        {
            "name": "reused",
            "data": {"source": "sklearn", "name": "iris"},
            "partition": {"clients": 3},
            "model": {"framework": "sklearn", "name": "SGDClassifier", "arguments": {"loss": "log_loss"}},
            "learning": {"engine": "federated", "rounds": 1, "cohort": {"size": 3}},
            "compare": {"centralized": True, "alone": True},
            "gate": {"min": 0.0},
            "variants": [{"kind": "float32", "max_score_loss": 1.0}],
        }
    )
)
REUSED = {"prepare_data", "initialize_model", "train_centralized", "train_alone"}
TOLD = REUSED - {"initialize_model"}
OF_THE_RUN = {
    "started",
    "seconds",
    "at",
    "client_seconds",
    "coordinator_seconds",
    "latency_ms_1",
    "latency_ms_500",
}


def pipeline(worker: str) -> Any:
    """The steps, as they are compiled for a cluster with this image."""

    @dsl.pipeline(name="fededge-reused")
    def reusing(task: str = TASK.to_json()) -> None:
        with steps.settings_for(TASK, on_cluster=True, cache=True):
            given = steps.depending(task, worker)
            prepared = steps.step(prepare_data(compiled=given["task"], **given), worker).outputs
            clients = {name: prepared[name] for name in ("population", "data", "test")}
            population = clients["population"]
            initial = steps.step(initialize_model(population=population, **given), worker).outputs
            own = {"task": task, "run": steps.RUN}
            cohort = select_cohort(compiled=TASK.to_json(), population=population, **own)
            steps.step(cohort, images.PLATFORM)
            trained = steps.step(train_centralized(**given, **clients), worker).outputs
            alone = steps.step(train_alone(**given, **clients), worker).outputs["alone"]
            gate = gate_model(
                evaluation=trained["centralized"],
                state=initial["state"],
                centralized=trained["Output"],
                trained=trained["centralized"],
                alone=alone,
                **own,
            )
            steps.step(gate, images.PLATFORM)

    return reusing


def without_times(content: Any) -> Any:
    if isinstance(content, Mapping):
        return {key: without_times(each) for key, each in content.items() if key not in OF_THE_RUN}
    return [without_times(each) for each in content] if isinstance(content, list) else content


def told(run: str) -> dict[str, Any]:
    """What MLflow knows of a run's comparisons: its records, without times, its metrics and its data set."""
    tracked = TrackedRun.find(run)
    found: Any = connect().get_run(tracked.run_id)
    metrics = {
        name: tracked.points(name) for name in found.data.metrics if name.startswith(("centralized", "alone"))
    }
    inputs = [(each.dataset.name, each.dataset.digest) for each in found.inputs.dataset_inputs]
    parameters = tracked.parameters
    return {
        "records": without_times(tracked.records()),
        "metrics": metrics,
        "data": inputs,
        "task": parameters,
    }


def test_a_run_that_reuses_steps_tells_mlflow_what_the_run_before_it_did(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home"
    monkeypatch.setenv("FEDEDGE_HOME", str(home))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", settings.tracking_uri(home))
    worker = f"registry/worker@sha256:{7:064x}"
    monkeypatch.setitem(steps.RESOURCES, worker, steps.RESOURCES[images.WORKER])
    Compiler().compile(pipeline(worker), str(tmp_path / "pipeline.yaml"))

    lines: dict[str, list[str]] = {"run-1": [], "run-2": []}
    for run, said in lines.items():
        run_local(tmp_path / "pipeline.yaml", {"task": TASK.to_json()}, run, home, say=said.append)
        if run == "run-1":
            shutil.copytree(home / "runs" / run / "cache", home / "runs" / "run-2" / "cache")

    started = {
        run: {line.split()[0] for line in said if line.endswith(" started")} for run, said in lines.items()
    }
    assert {name.replace("-", "_") for name in started["run-1"] - started["run-2"]} == REUSED
    first, second = told("run-1"), told("run-2")
    del first["records"]["steps/initialize_model"]
    of_steps = {name: second["records"][f"steps/{name}"].pop("reused") for name in TOLD}
    assert of_steps == dict.fromkeys(TOLD, "run-1")
    for name in TOLD:
        assert first["records"][f"steps/{name}"].pop("reused") is None
    assert second == first
