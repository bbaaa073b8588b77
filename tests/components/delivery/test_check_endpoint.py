"""check_endpoint: an endpoint's answers over REST and gRPC against those of its model file."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from kfp.dsl import Artifact, Dataset, Metrics, Model

from fededge import examples, lineage
from fededge.delivery.endpoints import check as endpoint_check
from fededge.delivery.endpoints import deployment as endpoints
from fededge.delivery.endpoints import local as local_endpoint
from fededge.documents import Endpoint, EndpointCheck, ModelVersion
from fededge.errors import EndpointError, IntegrityError
from fededge.task import parse
from fededge.tracking.run import TrackedRun
from tests.registered_models import register_version

pytestmark = pytest.mark.environment("serving")

ROOT = Path(__file__).resolve().parents[3]
TINY = ROOT / "tests" / "serving" / "fixtures" / "tiny.tflite"
TASK = parse("{name: tiny, data: {source: digits}, variants: [{kind: float32}], endpoint: {name: tiny}}")


@pytest.fixture(autouse=True)
def _local(monkeypatch: pytest.MonkeyPatch, _home: None) -> Iterator[None]:
    monkeypatch.setenv("FEDEDGE_PLATFORM", "local")
    yield
    local_endpoint.stop("tiny")


def registered(run: str) -> ModelVersion:
    return register_version(TASK, run, {"float32": TINY.read_bytes()}, weights=run.encode())[0]


def deployed(version: ModelVersion) -> Endpoint:
    assert TASK.endpoint
    return endpoints.deploy(TASK.endpoint, 1, version, "image")


@pytest.fixture
def inputs(artifact: Any) -> tuple[Any, Any, Any]:
    """Endpoint, version and test examples of a run that registered and deployed version 1."""
    endpoint, version, test = (
        artifact(Artifact, "endpoint"),
        artifact(Model, "version"),
        artifact(Dataset, "test"),
    )
    first = registered("run-1")
    first.write(version.path)
    deployed(first).write(endpoint.path)
    x = np.random.default_rng(2).random((12, 28, 28, 1), dtype=np.float32)
    examples.write(Path(test.path), x, np.zeros(12, np.int64))
    for each in (endpoint, version, test):
        lineage.seal(each)
    return endpoint, version, test


def test_a_good_endpoint_passes_and_is_recorded(plain: Any, artifact: Any, inputs: Any) -> None:
    check = artifact(Metrics, "check")
    plain("delivery/check_endpoint")(TASK.to_json(), "run-1", *inputs, check)
    found = EndpointCheck.read(check.path)
    assert (found.version, found.examples) == (1, 12)
    assert found.rest.max_abs_difference <= 1e-6
    assert found.grpc.max_abs_difference <= 1e-6
    assert EndpointCheck.from_content(TrackedRun.join("run-1", TASK).records()["endpoint_check"]) == found
    assert check.metadata["parents"] == [each.metadata["digest"] for each in inputs]
    lineage.verify(check)


def test_what_a_newer_run_put_in_its_place_is_checked_instead(
    plain: Any, artifact: Any, inputs: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    deployed(registered("run-2"))
    check = artifact(Metrics, "check")
    plain("delivery/check_endpoint")(TASK.to_json(), "run-1", *inputs, check)
    assert EndpointCheck.read(check.path).version == check.metadata["version"] == 2
    assert "version 1 is no longer the champion: version 2 is, and was checked" in capsys.readouterr().out


def test_a_newer_champion_that_is_not_deployed_yet_is_no_reason_to_fail(
    plain: Any, artifact: Any, inputs: Any
) -> None:
    registered("run-2")
    check = artifact(Metrics, "check")
    plain("delivery/check_endpoint")(TASK.to_json(), "run-1", *inputs, check)
    assert EndpointCheck.read(check.path).version == 1


def test_an_endpoint_of_neither_version_fails_and_leaves_nothing(
    plain: Any, artifact: Any, inputs: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(endpoint_check, "PATIENCE", {"local": 0.0})
    deployed(ModelVersion.read(inputs[1].path).model_copy(update={"version": 7}))
    check = artifact(Metrics, "check")
    with pytest.raises(EndpointError, match="serves version 7, not 1"):
        plain("delivery/check_endpoint")(TASK.to_json(), "run-1", *inputs, check)
    assert not Path(check.path).exists()


def test_a_tampered_endpoint_document_is_not_followed(plain: Any, artifact: Any, inputs: Any) -> None:
    Path(inputs[0].path).write_text("{}")
    with pytest.raises(IntegrityError, match="was changed"):
        plain("delivery/check_endpoint")(TASK.to_json(), "run-1", *inputs, artifact(Metrics, "check"))


DELIVER = """
import pathlib, runpy, sys
import numpy as np
from fededge.delivery import registry
from fededge.delivery.endpoints.check import check
from fededge.delivery.endpoints.deployment import deploy
from fededge.task import FederatedTask

task, run, model = FederatedTask.from_json(sys.argv[1]), sys.argv[2], pathlib.Path(sys.argv[3])
register_version = runpy.run_path("tests/registered_models.py")["register_version"]
version, _ = register_version(task, run, {"float32": model.read_bytes()}, weights=run.encode())
served, endpoint = registry.for_champion("tiny", lambda found: deploy(task.endpoint, 1, found, "image"))
x = np.random.default_rng(2).random((4, 28, 28, 1), dtype=np.float32)
found = check(endpoint, served, lambda: registry.champion_document("tiny"), x)
print(version.version, found.version)
"""


def test_runs_of_one_task_at_the_same_time_all_end_well_at_the_newest_champion() -> None:
    """Each registers, deploys and checks as the steps of a run do, in a process of its own."""
    commands = [
        [sys.executable, "-c", DELIVER, TASK.to_json(), f"run-{number}", str(TINY)] for number in range(3)
    ]
    runs = [subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) for command in commands]
    said = [run.communicate(timeout=200)[0] for run in runs]
    assert [run.returncode for run in runs] == [0, 0, 0]
    found = [tuple(map(int, line.splitlines()[-1].split())) for line in said]
    assert sorted(version for version, _ in found) == [1, 2, 3]
    assert all(checked >= version for version, checked in found)
    assert [endpoint.version for endpoint in local_endpoint.running()] == [3]
