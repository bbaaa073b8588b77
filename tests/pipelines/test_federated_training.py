"""The compiled pipeline: a valid PipelineSpec with the right tasks, images and wiring."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from google.protobuf import json_format
from kfp import kubernetes
from kfp.pipeline_spec import pipeline_spec_pb2

from components import images
from fededge.delivery.gates import NOT_COMPARED
from fededge.errors import TaskError
from fededge.task import FederatedTask, load
from pipelines.compiled import pods, reused, steps
from pipelines.federated_training import steps as settings
from pipelines.federated_training.pipeline import compile_to

Spec = dict[str, Any]
DIGITS = Path(__file__).resolve().parents[2] / "examples" / "digits" / "task.yaml"
WORKER = f"registry/worker@sha256:{7:064x}"
REUSED = {"prepare-data", "initialize-model", "train-centralized", "train-alone"}
UNCACHED = {"deploy-endpoint", "check-endpoint", "release-variants", "write-report"}
IMAGES = {
    "build-variants": images.WORKER,
    "check-endpoint": images.SERVING,
    "deploy-endpoint": images.PLATFORM,
    "evaluate-model": images.WORKER,
    "gate-model": images.PLATFORM,
    "initialize-model": images.WORKER,
    "measure-variants": images.SERVING,
    "prepare-data": images.WORKER,
    "register-model": images.PLATFORM,
    "release-variants": images.PLATFORM,
    "run-rounds": images.WORKER,
    "select-cohort": images.PLATFORM,
    "train-centralized": images.WORKER,
    "write-report": images.PLATFORM,
}


def task(**changes: Any) -> FederatedTask:
    content = {
        "name": "digits",
        "data": {"source": "digits"},
        "learning": {"rounds": 5},
        "operation": {"rounds_per_step": 2},
        "compare": {"centralized": True},
        "variants": [{"kind": "float32"}, {"kind": "int8"}],
        "devices": [{"name": "gateway"}],
        "endpoint": {"name": "digits"},
    }
    return FederatedTask.from_json(json.dumps({**content, **changes}))


def compiled(spec: FederatedTask, folder: Path) -> list[Spec]:
    """The documents of the compiled pipeline; the first is a PipelineSpec."""
    compile_to(spec, folder / "pipeline.yaml")
    documents = list(yaml.safe_load_all((folder / "pipeline.yaml").read_text()))
    json_format.ParseDict(documents[0], pipeline_spec_pb2.PipelineSpec())
    return documents


def dag(spec: Spec, *path: str) -> Spec:
    """The tasks of the (nested) DAG that is reached by task name prefixes."""
    tasks = spec["root"]["dag"]["tasks"]
    for prefix in path:
        (name,) = [name for name in tasks if name.startswith(prefix)]
        tasks = spec["components"][tasks[name]["componentRef"]["name"]]["dag"]["tasks"]
    return tasks


@pytest.fixture(scope="module")
def documents(tmp_path_factory: pytest.TempPathFactory) -> list[Spec]:
    return compiled(task(), tmp_path_factory.mktemp("compiled"))


@pytest.fixture
def spec(documents: list[Spec]) -> Spec:
    return documents[0]


def test_rounds_are_unrolled_in_chunks(spec: Spec) -> None:
    body = dag(spec, "exit-handler")
    chunks = ["", "-2", "-3"]
    expected = {f"{name}{n}" for name in ("run-rounds", "evaluate-model") for n in chunks}
    expected |= {"prepare-data", "initialize-model", "select-cohort", "train-centralized", "gate-model"}
    expected |= {"build-variants", "measure-variants", "register-model"}
    assert {name for name in body if not name.startswith("condition")} == expected
    last = [body[f"run-rounds{n}"]["inputs"]["parameters"]["until"] for n in chunks]
    assert [chunk["runtimeValue"]["constant"] for chunk in last] == [2, 4, 5]
    calibrated = [body[f"evaluate-model{n}"]["inputs"]["parameters"]["calibrate"] for n in chunks]
    assert [chunk["runtimeValue"]["constant"] for chunk in calibrated] == [False, False, True]


def test_clients_examples_go_to_training_and_evaluation_alone(spec: Spec) -> None:
    receivers = set()
    for tasks in (
        dag(spec, "exit-handler"),
        dag(spec, "exit-handler", "condition"),
    ):
        for name, step in tasks.items():
            for given in step.get("inputs", {}).get("artifacts", {}).values():
                source = given.get("taskOutputArtifact", {})
                if (source.get("producerTask"), source.get("outputArtifactKey")) == ("prepare-data", "data"):
                    receivers.add(name.rstrip("-0123456789"))
    assert receivers == {"run-rounds", "evaluate-model", "train-centralized"}


def test_nothing_is_trained_centrally_unless_the_task_compares(tmp_path: Path) -> None:
    body = dag(compiled(task(compare={}), tmp_path)[0], "exit-handler")
    assert "train-centralized" not in body
    assert (
        body["gate-model"]["inputs"]["parameters"]["centralized"]["runtimeValue"]["constant"] == NOT_COMPARED
    )


def test_the_pipeline_carries_the_task_it_was_compiled_for(spec: Spec) -> None:
    given = dag(spec, "exit-handler")["prepare-data"]["inputs"]["parameters"]["compiled"]
    assert given["runtimeValue"]["constant"] == task().to_json()


def test_the_state_is_handed_from_chunk_to_chunk(spec: Spec) -> None:
    body = dag(spec, "exit-handler")

    def source(name: str, artifact: str) -> tuple[str, str]:
        found = body[name]["inputs"]["artifacts"][artifact]["taskOutputArtifact"]
        return found["producerTask"], found["outputArtifactKey"]

    assert source("run-rounds", "state") == ("initialize-model", "state")
    assert source("run-rounds-2", "state") == ("run-rounds", "next_state")
    assert source("run-rounds-3", "state") == ("run-rounds-2", "next_state")
    for name in ("run-rounds", "run-rounds-3"):
        assert source(name, "selection") == ("select-cohort", "selection")
    assert source("evaluate-model-3", "state") == ("run-rounds-3", "next_state")
    assert source("gate-model", "evaluation") == ("evaluate-model-3", "evaluation")
    compared = body["gate-model"]["inputs"]["parameters"]["centralized"]["taskOutputParameter"]
    assert compared["producerTask"] == "train-centralized"
    assert "prepare-data" in body["initialize-model"]["dependentTasks"]


def test_delivery_depends_on_the_decision_that_counted_at_registration(spec: Spec) -> None:
    (condition,) = [t for n, t in dag(spec, "exit-handler").items() if n.startswith("condition")]
    assert condition["triggerPolicy"]["condition"] == (
        "inputs.parameter_values['pipelinechannel--register-model-Output'] == 'pass'"
    )
    delivery = dag(spec, "exit-handler", "condition")
    assert set(delivery) == {"deploy-endpoint", "check-endpoint", "release-variants"}
    assert "check-endpoint" in delivery["release-variants"]["dependentTasks"]


def test_the_digits_task_runs_in_sixteen_steps(tmp_path: Path) -> None:
    compile_to(load(DIGITS), tmp_path / "digits.yaml")
    spec = next(yaml.safe_load_all((tmp_path / "digits.yaml").read_text()))
    assert steps(spec) == 16
    assert pods(spec) == 35


def test_the_report_is_the_exit_task(spec: Spec) -> None:
    report = dag(spec)["write-report"]
    assert report["triggerPolicy"]["strategy"] == "ALL_UPSTREAM_TASKS_COMPLETED"
    assert "taskFinalStatus" in report["inputs"]["parameters"]["status"]


def test_every_step_gets_the_run_and_the_task(spec: Spec) -> None:
    for tasks in (
        dag(spec, "exit-handler"),
        dag(spec, "exit-handler", "condition"),
    ):
        for name, step in tasks.items():
            if name.startswith(("condition", "for-loop")):
                continue
            parameters = step["inputs"]["parameters"]
            assert parameters["run"]["runtimeValue"]["constant"] == "{{$.pipeline_job_uuid}}", name
            assert parameters["task"]["componentInputParameter"].endswith("task"), name
    assert spec["root"]["inputDefinitions"]["parameters"]["task"]["defaultValue"] == task().to_json()


def test_each_step_runs_in_its_image_with_limits_and_without_installing_kfp(spec: Spec) -> None:
    for name, executor in spec["deploymentSpec"]["executors"].items():
        container = executor["container"]
        step = name.removeprefix("exec-").rstrip("-0123456789")
        assert container["image"] == IMAGES[step], name
        assert {"resourceCpuLimit", "resourceMemoryLimit"} <= container["resources"].keys(), name
        assert "pip install" not in " ".join(container["command"]), name


def executed(spec: Spec) -> dict[str, Spec]:
    """The tasks that start pods, by name."""
    return {
        name: step
        for component in [spec["root"], *spec["components"].values()]
        for name, step in component.get("dag", {}).get("tasks", {}).items()
        if spec["components"][step["componentRef"]["name"]].get("executorLabel")
    }


@pytest.fixture
def pinned(monkeypatch: pytest.MonkeyPatch) -> None:
    """The worker's image as it is named by its digest."""
    monkeypatch.setitem(settings.RESOURCES, WORKER, settings.RESOURCES[images.WORKER])
    monkeypatch.setattr(images, "WORKER", WORKER)


def test_on_this_machine_all_but_steps_that_touch_the_world_are_passed_over_by_a_repeated_run(
    tmp_path: Path,
) -> None:
    compile_to(task(), tmp_path / "p.yaml", on_cluster=False)
    spec = next(yaml.safe_load_all((tmp_path / "p.yaml").read_text()))
    assert set(executed(spec)) - set(reused(spec)) == UNCACHED


@pytest.mark.usefixtures("pinned")
def test_kubeflow_reuses_what_depends_on_the_task_alone_and_is_not_told_the_run(tmp_path: Path) -> None:
    spec, platform = compiled(task(compare={"centralized": True, "alone": True}), tmp_path)
    assert reused(spec) == sorted(REUSED)
    steps = executed(spec)
    executors = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    tasks = {}
    for name in REUSED:
        parameters = steps[name]["inputs"]["parameters"]
        assert all("constant" in each["runtimeValue"] for each in parameters.values()), name
        assert parameters["run"]["runtimeValue"]["constant"] == "", name
        tasks[name] = parameters["task"]["runtimeValue"]["constant"]
        (field,) = executors[f"exec-{name}"]["fieldPathAsEnv"]
        assert field == {"name": "FEDEDGE_RUN", "fieldPath": "metadata.labels['pipeline/runid']"}, name
    assert len(set(tasks.values())) == 1
    assert FederatedTask.from_json(tasks["prepare-data"]).identity == task().identity
    for name in set(steps) - REUSED:
        parameters = steps[name]["inputs"]["parameters"]
        assert "componentInputParameter" in parameters["task"], name
        assert parameters["run"]["runtimeValue"]["constant"], name
    refusing = steps["select-cohort"]["inputs"]["parameters"]["compiled"]["runtimeValue"]["constant"]
    assert refusing == task(compare={"centralized": True, "alone": True}).to_json()
    told = steps["gate-model"]["inputs"]["artifacts"]
    assert told["trained"]["taskOutputArtifact"]["producerTask"] == "train-centralized"
    assert told["alone"]["taskOutputArtifact"]["producerTask"] == "train-alone"


def given(cache: bool = True, **changes: Any) -> Spec:
    """The inputs of a step that depends on the task alone."""
    with settings.settings_for(task(**changes), True, cache):
        return settings.depending("the parameter", WORKER)


def test_what_is_reused_is_keyed_by_what_is_learned() -> None:
    same: Spec = {
        "operation": {"round_deadline_seconds": 60, "steps": {"run-rounds": {"memory_limit": "12Gi"}}},
        "endpoint": None,
        "devices": [],
        "variants": [{"kind": "float32"}],
    }
    assert given(**same) == given()
    assert given(seed=3) != given()
    assert given(learning={"rounds": 6}) != given()


@pytest.mark.parametrize(
    "changes",
    [
        {"data": {"source": "csv", "path": "https://elsewhere/a.csv", "label": "y"}},
        {"data": {"source": "huggingface", "name": "mnist", "feature": "image"}},
        {"data": {"source": "fleet", "dataset": "d", "held_out": {"source": "digits"}}, "compare": {}},
        {"cache": False},
    ],
)
def test_nothing_is_reused_of_data_that_may_be_others_by_then_nor_with_no_cache(
    changes: dict[str, Any],
) -> None:
    assert given(**changes) == {"task": "the parameter", "run": "{{$.pipeline_job_uuid}}"}


@pytest.mark.usefixtures("pinned")
def test_weights_that_are_named_to_start_from_are_read_in_each_run(tmp_path: Path) -> None:
    spec = compiled(task(model={"weights": "models:/digits@champion"}), tmp_path)[0]
    assert reused(spec) == ["prepare-data", "train-centralized"]


def test_a_step_is_not_reused_where_its_image_may_be_another_by_then(spec: Spec) -> None:
    assert reused(spec) == []
    assert {step["retryPolicy"]["maxRetryCount"] for step in executed(spec).values()} == {2}


def test_every_step_is_configured_by_secrets_and_two_hold_a_key(documents: list[Spec]) -> None:
    assert kubernetes.__name__ == "kfp.kubernetes"
    executors = documents[1]["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    assert set(executors) == set(documents[0]["deploymentSpec"]["executors"])
    for name, executor in executors.items():
        secrets = {secret["secretName"]: secret for secret in executor["secretAsEnv"]}
        names = {entry["envVar"] for entry in secrets["fededge-config"]["keyToEnv"]}
        assert names == {"MLFLOW_TRACKING_URI", "FEDEDGE_STORAGE"}, name
        assert secrets["fededge-storage"]["optional"] is True, name
        mounts = [volume["secretName"] for volume in executor.get("secretAsVolume", [])]
        keys = {"release-variants": ["fededge-signing-key"], "run-rounds": ["fededge-checkpoint-key"]}
        assert mounts == keys.get(name.removeprefix("exec-").rstrip("-0123456789"), []), name


def test_steps_that_ask_a_gateway_get_its_token_and_those_that_order_the_release_key(tmp_path: Path) -> None:
    fleet = {"source": "fleet", "dataset": "digits", "held_out": {"source": "digits"}}
    spec, platform = compiled(task(data=fleet, compare={}), tmp_path)
    mounts = {}
    for name, executor in platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"].items():
        step = name.removeprefix("exec-").rstrip("-0123456789")
        mounts[step] = {each["secretName"]: each["mountPath"] for each in executor.get("secretAsVolume", [])}
        variables = {
            each["name"]: each["value"]
            for each in spec["deploymentSpec"]["executors"][name]["container"]["env"]
        }
        if "fededge-fleet" in mounts[step]:
            assert variables["FEDEDGE_GATEWAY_TOKEN_FILE"] == f"{mounts[step]['fededge-fleet']}/token"
            assert "fededge-fleet" in {each["secretName"] for each in executor["secretAsEnv"]}
        if "fededge-signing-key" in mounts[step]:
            file = f"{mounts[step]['fededge-signing-key']}/release.pem"
            assert variables["FEDEDGE_SIGNING_KEY_FILE"] == file
        assert len(set(mounts[step].values())) == len(mounts[step])
    named = {step: set(found) for step, found in mounts.items() if found}
    assert named == {
        "prepare-data": {"fededge-fleet"},
        "run-rounds": {"fededge-fleet", "fededge-signing-key", "fededge-checkpoint-key"},
        "evaluate-model": {"fededge-fleet", "fededge-signing-key"},
        "release-variants": {"fededge-fleet", "fededge-signing-key"},
    }


def test_steps_that_import_a_tasks_own_code_get_the_public_key_and_no_other_step(tmp_path: Path) -> None:
    own = {"factory": "a:b", "code": "sha256:" + "0" * 64}
    spec, platform = compiled(task(model=own), tmp_path)
    for name, executor in platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"].items():
        mounts = [volume["configMapName"] for volume in executor.get("configMapAsVolume", [])]
        image = spec["deploymentSpec"]["executors"][name]["container"]["image"]
        assert mounts == (["fededge-release-key"] if "worker" in image else []), name


def test_a_task_without_endpoint_or_devices_has_no_steps_for_them(tmp_path: Path) -> None:
    spec = compiled(task(endpoint=None, devices=[]), tmp_path)[0]
    body = dag(spec, "exit-handler")
    assert "register-model" in body
    assert not [name for name in body if name.startswith("condition")]


def test_a_chunk_of_rounds_costs_little(tmp_path: Path) -> None:
    def size(rounds: int) -> int:
        compile_to(task(learning={"rounds": rounds}, operation={"rounds_per_step": 5}), tmp_path / "p.yaml")
        return (tmp_path / "p.yaml").stat().st_size

    assert (size(50) - size(25)) / 5 < 29_000


def test_refuses_a_pipeline_that_a_cluster_would_refuse(tmp_path: Path) -> None:
    with pytest.raises(TaskError, match=r"raise operation\.rounds_per_step"):
        compile_to(task(learning={"rounds": 80}, operation={"rounds_per_step": 1}), tmp_path / "p.yaml")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("rate", [1e-05, 3e-7, 1e30, 0.1])
def test_a_task_travels_unchanged(rate: float) -> None:
    spec = task(learning={"client": {"learning_rate": rate}})
    assert spec.learning.client.learning_rate == rate
    assert FederatedTask.from_json(spec.to_json()) == spec


def test_compiles_to_the_same_bytes_each_time(tmp_path: Path) -> None:
    compile_to(task(), tmp_path / "a.yaml")
    compile_to(task(), tmp_path / "b.yaml")
    assert (tmp_path / "a.yaml").read_bytes() == (tmp_path / "b.yaml").read_bytes()


def test_a_task_has_nothing_that_argo_would_take_for_a_template(tmp_path: Path) -> None:
    path = "/data/{{workflow.name}}/{{=1+1}}/{{{x}.npz"
    task = FederatedTask.from_json(json.dumps({"name": "a", "data": {"source": "npz", "path": path}}))
    assert FederatedTask.from_json(task.to_json()) == task
    assert task.data.path == path  # type: ignore[union-attr]
    compile_to(task, tmp_path / "p.yaml")
    text = (tmp_path / "p.yaml").read_text()
    assert "workflow.name" in text
    assert not re.search(r"\{\{(?![$])", text)
