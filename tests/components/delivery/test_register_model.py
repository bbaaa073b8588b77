"""register_model: variants, measurements and a decision become a model version."""

import json
from pathlib import Path
from typing import Any

import pytest
from kfp.dsl import Artifact, Metrics, Model

from fededge import lineage, storage
from fededge.delivery import registry
from fededge.errors import IntegrityError
from fededge.task import FederatedTask
from fededge.tracking.run import TrackedRun

KINDS = ("float32", "int8")
TASK = FederatedTask.from_json(
    json.dumps(
        {
            "name": "tiny",
            "data": {"source": "digits"},
            "variants": [{"kind": kind} for kind in KINDS],
            "devices": [{"name": "camera", "kinds": ["int8"]}],
        }
    )
)


def sealed(made: Any, content: Any, **facts: Any) -> Any:
    Path(made.path).write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    lineage.seal(made, **facts)
    return made


@pytest.fixture
def inputs(artifact: Any) -> dict[str, Any]:
    variants = [sealed(artifact(Model, f"{kind}.tflite"), kind.encode(), kind=kind) for kind in KINDS]
    usual = {"compressed_bytes": 5, "accuracy": 0.97, "latency_ms_1": 0.1, "latency_ms_500": 20.0}
    usual |= {"shape": [28, 28, 1], "classes": 10, "passed": True, "reasons": []}
    measurements = [
        sealed(
            artifact(Metrics, f"measurement-{kind}"),
            {"kind": kind, "digest": storage.digest(kind.encode()), "bytes": len(kind), **usual},
        )
        for kind in reversed(KINDS)
    ]
    return {
        "state": sealed(artifact(Model, "state"), b"weights", round=12.0),
        "evaluation": sealed(artifact(Metrics, "evaluation"), {"accuracy": 0.98}),
        "decision": sealed(artifact(Artifact, "decision"), {"decision": "pass"}),
        "variants": variants,
        "measurements": measurements,
    }


def test_a_version_document_says_what_a_release_needs(plain: Any, artifact: Any, inputs: Any) -> None:
    version = artifact(Model, "version")
    plain("delivery/register_model")(TASK.to_json(), "run-1", **inputs, version=version)
    document = json.loads(Path(version.path).read_bytes())
    expected = {
        "name": "tiny",
        "version": 1,
        "round": 12,
        "run": "run-1",
        "champion": True,
        "accuracy": 0.98,
        "shape": [28, 28, 1],
        "classes": 10,
        "devices": {"camera": "int8"},
        "task_digest": TASK.digest,
        "state_digest": inputs["state"].metadata["digest"],
    }
    assert {key: document[key] for key in expected} == expected
    for variant in document["variants"]:
        assert storage.read_verified(variant["url"], variant["digest"]) == variant["kind"].encode()
    assert TrackedRun.join("run-1", TASK).records()["version"] == document
    assert len(version.metadata["parents"]) == 7
    lineage.verify(version)


def test_a_retry_gives_the_same_version(plain: Any, artifact: Any, inputs: Any) -> None:
    versions = artifact(Model, "first"), artifact(Model, "again")
    for version in versions:
        plain("delivery/register_model")(TASK.to_json(), "run-1", **inputs, version=version)
    assert versions[0].metadata == versions[1].metadata
    assert len(registry.versions("tiny")) == 1


def test_a_model_that_failed_its_gate_is_a_candidate_only(plain: Any, artifact: Any, inputs: Any) -> None:
    sealed(inputs["decision"], {"decision": "fail"})
    plain("delivery/register_model")(TASK.to_json(), "run-1", **inputs, version=artifact(Model, "version"))
    assert registry.versions("tiny")[0].aliases == ("candidate",)


@pytest.mark.parametrize("name", ["state", "variants", "measurements", "decision"])
def test_a_tampered_input_is_refused(plain: Any, artifact: Any, inputs: Any, name: str) -> None:
    tampered = inputs[name][-1] if isinstance(inputs[name], list) else inputs[name]
    Path(tampered.path).write_bytes(Path(tampered.path).read_bytes() + b" ")
    version = artifact(Model, "version")
    with pytest.raises(IntegrityError, match="was changed"):
        plain("delivery/register_model")(TASK.to_json(), "run-1", **inputs, version=version)
    assert registry.versions("tiny") == []
    assert not Path(version.path).exists()
