"""deploy_endpoint, as a plain function and, with check_endpoint, through the local runner."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from kfp import compiler, dsl
from kfp.dsl import Artifact, Dataset, Metrics, Model

from components.delivery.check_endpoint.component import check_endpoint
from components.delivery.deploy_endpoint.component import deploy_endpoint
from fededge import lineage, settings, storage
from fededge.delivery.endpoints import local as local_endpoint
from fededge.delivery.endpoints import prediction
from fededge.errors import EndpointError, IntegrityError
from fededge.task import FederatedTask
from fededge.tracking.run import TrackedRun
from pipelines import local

TINY = Path(__file__).parents[2] / "serving" / "fixtures" / "tiny.tflite"
VARIANT = {"kind": "float32", "url": str(TINY), "digest": storage.digest(TINY.read_bytes())}
DOCUMENT = {"name": "tiny", "version": 1, "variants": [VARIANT]}
TASK = FederatedTask.from_json('{"name": "tiny", "data": {"source": "digits"}, "endpoint": {"name": "tiny"}}')


@pytest.fixture(autouse=True)
def _local(monkeypatch: pytest.MonkeyPatch, _home: None) -> Iterator[None]:
    monkeypatch.setenv("FEDEDGE_PLATFORM", "local")
    yield
    local_endpoint.stop("tiny")


@pytest.fixture
def version(artifact: Any) -> Any:
    made = artifact(Model, "version")
    Path(made.path).write_text(json.dumps(DOCUMENT))
    lineage.seal(made)
    return made


def test_it_serves_and_says_where_and_a_retry_changes_nothing(
    plain: Any, artifact: Any, version: Any
) -> None:
    documents = []
    for name in ("endpoint", "again"):
        endpoint = artifact(Artifact, name)
        plain("delivery/deploy_endpoint")(TASK.to_json(), "run-1", version, endpoint)
        documents.append(json.loads(Path(endpoint.path).read_bytes()))
        lineage.verify(endpoint)
        assert endpoint.metadata["parents"] == [version.metadata["digest"]]
    assert documents[0] == documents[1] == TrackedRun.join("run-1", TASK).records()["endpoint"]
    outputs, tags = prediction.predict(documents[0]["rest"], np.zeros((2, 28, 28, 1), np.uint8))
    assert outputs.shape == (2, 10)
    assert tags["digest"] == VARIANT["digest"]


def test_a_version_without_the_variant_leaves_nothing(plain: Any, artifact: Any, version: Any) -> None:
    Path(version.path).write_text(json.dumps({**DOCUMENT, "variants": []}))
    lineage.seal(version)
    endpoint = artifact(Artifact, "endpoint")
    with pytest.raises(EndpointError, match="has no variant float32"):
        plain("delivery/deploy_endpoint")(TASK.to_json(), "run-1", version, endpoint)
    assert not Path(endpoint.path).exists()
    assert local_endpoint.running() == []


def test_a_tampered_version_is_not_served(plain: Any, artifact: Any, version: Any) -> None:
    Path(version.path).write_text(json.dumps({**DOCUMENT, "version": 2}))
    with pytest.raises(IntegrityError, match="was changed"):
        plain("delivery/deploy_endpoint")(TASK.to_json(), "run-1", version, artifact(Artifact, "endpoint"))


def test_deployed_and_checked_through_the_local_runner(artifact: Any, version: Any, tmp_path: Path) -> None:
    test = artifact(Dataset, "test")
    Path(test.path).mkdir()
    np.save(Path(test.path) / "x.npy", np.random.default_rng(2).random((12, 28, 28, 1), dtype=np.float32))
    np.save(Path(test.path) / "y.npy", np.zeros(12, np.int64))
    lineage.seal(test)

    def given(made: Any) -> Any:
        return dsl.importer(artifact_uri=made.uri, artifact_class=type(made), metadata=made.metadata).output

    @dsl.pipeline(name="serve")
    def serve(task: str) -> Metrics:
        run = dsl.PIPELINE_JOB_ID_PLACEHOLDER
        registered = given(version)
        deployed = deploy_endpoint(task=task, run=run, version=registered)
        checked = check_endpoint(
            task=task, run=run, endpoint=deployed.outputs["endpoint"], version=registered, test=given(test)
        )
        return checked.outputs["check"]

    package = tmp_path / "serve.yaml"
    compiler.Compiler().compile(serve, str(package))
    local.run_local(package, {"task": TASK.to_json()}, "run-2", settings.home())
    records = TrackedRun.join("run-2", TASK).records()
    assert records["endpoint"]["rest"] == local_endpoint.running()[0].rest
    assert records["endpoint_check"]["grpc"]["max_abs_difference"] <= 1e-6
    assert records["steps/check_endpoint"]["status"] == "succeeded"
