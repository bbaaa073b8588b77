"""deploy_endpoint, as a plain function and, with check_endpoint, through the local runner."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from kfp import compiler, dsl
from kfp.dsl import Artifact, Dataset, Metrics, Model

from components.delivery.check_endpoint.component import check_endpoint
from components.delivery.deploy_endpoint.component import deploy_endpoint
from fededge import examples, lineage, settings, storage
from fededge.delivery.endpoints import local as local_endpoint
from fededge.delivery.endpoints import prediction
from fededge.delivery.rollback import roll_back
from fededge.documents import Endpoint, EndpointCheck, ModelVersion
from fededge.errors import EndpointError, IntegrityError, ReleaseError
from fededge.task import FederatedTask, parse
from fededge.tracking.run import TrackedRun
from pipelines import local
from tests.registered_models import register_version

TINY = (Path(__file__).parents[2] / "serving" / "fixtures" / "tiny.tflite").read_bytes()
TASK = parse(
    "{name: tiny, data: {source: digits}, variants: [{kind: float32}], endpoint: {name: tiny}, devices: [{name: hub}]}"
)


@pytest.fixture(autouse=True)
def _local(monkeypatch: pytest.MonkeyPatch, _home: None) -> Iterator[None]:
    monkeypatch.setenv("FEDEDGE_PLATFORM", "local")
    yield
    local_endpoint.stop("tiny")


@pytest.fixture
def registered(artifact: Any) -> Callable[..., Any]:
    """Registers a model as pipeline run `run` would; the artifact of its version."""

    def call(run: str, task: FederatedTask = TASK, score: float = 0.98) -> Any:
        version, _ = register_version(task, run, {"float32": TINY}, weights=run.encode(), score=score)
        made = artifact(Model, f"version-{run}")
        version.write(made.path)
        lineage.seal(made)
        return made

    return call


@pytest.fixture
def deploy(plain: Any, artifact: Any) -> Callable[..., tuple[Endpoint, Any, Any]]:
    """Runs the component for `run`; the endpoint, its artifact and that of what is served."""

    def call(run: str, version: Any, task: FederatedTask = TASK) -> tuple[Endpoint, Any, Any]:
        endpoint, served = artifact(Artifact, f"endpoint-{run}"), artifact(Model, f"served-{run}")
        plain("delivery/deploy_endpoint")(task.to_json(), run, "image", version, endpoint, served)
        return Endpoint.read(endpoint.path), endpoint, served

    return call


def serving() -> list[tuple[int, str]]:
    return [(endpoint.version, endpoint.variant) for endpoint in local_endpoint.running()]


def test_it_serves_and_says_where_and_a_retry_changes_nothing(registered: Any, deploy: Any) -> None:
    version = registered("run-1")
    for _ in range(2):
        document, endpoint, served = deploy("run-1", version)
        lineage.verify(endpoint, served)
        assert ModelVersion.read(served.path) == ModelVersion.read(version.path)
        assert served.metadata["parents"] == [version.metadata["digest"]]
        assert (document.version, document.instead_of) == (1, None)
        assert Endpoint.from_content(TrackedRun.join("run-1", TASK).records()["endpoint"]) == document
        running = local_endpoint.running()[0]
        assert document.rest == running.rest
    outputs, tags = prediction.predict(document.rest, np.zeros((2, 28, 28, 1), np.uint8))
    assert outputs.shape == (2, 10)
    assert tags["digest"] == storage.digest(TINY)


def test_an_older_run_that_is_resumed_leaves_the_newer_champion_where_it_is(
    registered: Any, deploy: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    first = registered("run-1")  # and stopped
    deploy("run-2", registered("run-2"))
    pid = local_endpoint.running()[0].pid
    document, _, served = deploy("run-1", first)  # resumed
    assert (document.version, document.instead_of) == (2, 1)
    assert ModelVersion.read(served.path).version == served.metadata["version"] == 2
    assert [running.pid for running in local_endpoint.running()] == [pid]
    assert "version 1 is no longer the champion: version 2 is" in capsys.readouterr().out
    recorded = Endpoint.from_content(TrackedRun.join("run-1", TASK).records()["endpoint"])
    assert (recorded.version, recorded.instead_of) == (2, 1)


def test_the_champion_of_another_run_is_served_as_its_own_task_says(registered: Any, deploy: Any) -> None:
    first = registered("run-1")
    canary = parse(TASK.to_json(), changes=["endpoint.namespace=models"])
    deploy("run-2", registered("run-2", canary), canary)
    assert deploy("run-1", first)[0].namespace == "models"


def test_a_resumed_run_of_a_version_that_was_rolled_back_does_not_bring_it_back(
    registered: Any, deploy: Any
) -> None:
    registered("run-1")
    second = registered("run-2")
    deploy("run-2", second)
    roll_back("tiny", 1, "worse")
    assert deploy("run-2", second)[0].version == 1
    assert serving() == [(1, "float32")]


def test_another_champion_between_reading_and_serving_is_served_in_the_end(
    registered: Any, deploy: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fededge.delivery.endpoints import deployment

    first = registered("run-1")
    whole = deployment.deploy
    served: list[int] = []

    def late(wanted: Any, replicas: int, version: ModelVersion, image: str) -> Endpoint:
        if not served:
            registered("run-2")
        served.append(version.version)
        return whole(wanted, replicas, version, image)

    monkeypatch.setattr(deployment, "deploy", late)
    assert deploy("run-1", first)[0].version == 2
    assert served == [1, 2]
    assert serving() == [(2, "float32")]


def test_a_version_without_the_variant_leaves_nothing(registered: Any, deploy: Any, tmp_path: Path) -> None:
    asked = parse(
        "{name: tiny, data: {source: digits}, variants: [{kind: float32}, {kind: int8}], "
        "endpoint: {name: tiny, variant: int8}}"
    )
    version = registered("run-1")
    with pytest.raises(EndpointError, match="has no variant int8"):
        deploy("run-3", version, asked)
    assert not (tmp_path / "artifacts" / "endpoint-run-3").exists()
    assert local_endpoint.running() == []


def test_nothing_but_the_champion_is_served(registered: Any, deploy: Any) -> None:
    version = registered("run-1", score=0.5)
    with pytest.raises(ReleaseError, match="no version of tiny has the alias champion"):
        deploy("run-1", version)
    assert local_endpoint.running() == []


def test_a_tampered_version_is_not_served(registered: Any, deploy: Any) -> None:
    version = registered("run-1")
    ModelVersion.read(version.path).model_copy(update={"version": 2}).write(version.path)
    with pytest.raises(IntegrityError, match="was changed"):
        deploy("run-1", version)


def test_deployed_and_checked_through_the_local_runner(
    registered: Any, artifact: Any, tmp_path: Path
) -> None:
    version, test = registered("run-2"), artifact(Dataset, "test")
    x = np.random.default_rng(2).random((12, 28, 28, 1), dtype=np.float32)
    examples.write(Path(test.path), x, np.zeros(12, np.int64))
    lineage.seal(test)

    def given(made: Any) -> Any:
        return dsl.importer(artifact_uri=made.uri, artifact_class=type(made), metadata=made.metadata).output

    @dsl.pipeline(name="serve")
    def serve(task: str) -> Metrics:
        run = dsl.PIPELINE_JOB_ID_PLACEHOLDER
        deployed = deploy_endpoint(task=task, run=run, image="serving:1", version=given(version))
        checked = check_endpoint(
            task=task,
            run=run,
            endpoint=deployed.outputs["endpoint"],
            version=deployed.outputs["served"],
            test=given(test),
        )
        return checked.outputs["check"]

    package = tmp_path / "serve.yaml"
    compiler.Compiler().compile(serve, str(package))
    local.run_local(package, {"task": TASK.to_json()}, "run-2", settings.home())
    records = TrackedRun.join("run-2", TASK).records()
    endpoint = Endpoint.from_content(records["endpoint"])
    assert endpoint.rest == local_endpoint.running()[0].rest
    assert endpoint.manifest["spec"]["predictors"][0]["componentSpecs"][0]["spec"]["containers"][0][
        "image"
    ].startswith("serving:1")
    assert EndpointCheck.from_content(records["endpoint_check"]).grpc.max_abs_difference <= 1e-6
    assert records["steps/check_endpoint"]["status"] == "succeeded"
