"""check_endpoint: an endpoint's answers over REST and gRPC against those of its model file."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from kfp.dsl import Artifact, Dataset, Metrics, Model

from fededge import lineage, storage
from fededge.delivery.endpoints import deployment as endpoints
from fededge.delivery.endpoints import local as local_endpoint
from fededge.errors import EndpointError, IntegrityError
from fededge.task import FederatedTask
from fededge.tracking.run import TrackedRun

pytestmark = pytest.mark.environment("serving")

TINY = Path(__file__).parents[2] / "serving" / "fixtures" / "tiny.tflite"
VARIANT = {"kind": "float32", "url": str(TINY), "digest": storage.digest(TINY.read_bytes())}
DOCUMENT = {"name": "tiny", "version": 1, "variants": [VARIANT]}
TASK = FederatedTask.from_json('{"name": "tiny", "data": {"source": "digits"}, "endpoint": {"name": "tiny"}}')


@pytest.fixture(scope="module")
def served() -> Iterator[dict[str, Any]]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FEDEDGE_PLATFORM", "local")
        yield endpoints.deploy(TASK, DOCUMENT, "image")
    local_endpoint.stop("tiny")


@pytest.fixture
def inputs(artifact: Any, served: dict[str, Any]) -> tuple[Any, Any, Any]:
    endpoint, version, test = (
        artifact(Artifact, "endpoint"),
        artifact(Model, "version"),
        artifact(Dataset, "test"),
    )
    Path(endpoint.path).write_text(json.dumps(served))
    Path(version.path).write_text(json.dumps(DOCUMENT))
    Path(test.path).mkdir()
    np.save(Path(test.path) / "x.npy", np.random.default_rng(2).random((12, 28, 28, 1), dtype=np.float32))
    np.save(Path(test.path) / "y.npy", np.zeros(12, np.int64))
    for each in (endpoint, version, test):
        lineage.seal(each)
    return endpoint, version, test


def test_a_good_endpoint_passes_and_is_recorded(plain: Any, artifact: Any, inputs: Any) -> None:
    check = artifact(Metrics, "check")
    plain("delivery/check_endpoint")(TASK.to_json(), "run-1", *inputs, check)
    found = json.loads(Path(check.path).read_bytes())
    assert found["examples"] == 12
    assert found["rest"]["max_abs_difference"] <= 1e-6
    assert found["grpc"]["max_abs_difference"] <= 1e-6
    assert TrackedRun.join("run-1", TASK).records()["endpoint_check"] == found
    assert check.metadata["parents"] == [each.metadata["digest"] for each in inputs]
    lineage.verify(check)


def test_an_endpoint_of_another_version_fails_and_leaves_nothing(
    plain: Any, artifact: Any, inputs: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FEDEDGE_PLATFORM", "local")
    _, version, _ = inputs
    Path(version.path).write_text(json.dumps({**DOCUMENT, "version": 2}))
    lineage.seal(version)
    check = artifact(Metrics, "check")
    with pytest.raises(EndpointError, match="serves model_version 1, not 2"):
        plain("delivery/check_endpoint")(TASK.to_json(), "run-1", *inputs, check)
    assert not Path(check.path).exists()


def test_a_tampered_endpoint_document_is_not_followed(plain: Any, artifact: Any, inputs: Any) -> None:
    Path(inputs[0].path).write_text("{}")
    with pytest.raises(IntegrityError, match="was changed"):
        plain("delivery/check_endpoint")(TASK.to_json(), "run-1", *inputs, artifact(Metrics, "check"))
