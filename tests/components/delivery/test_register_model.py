"""register_model: variants, measurements and a decision become a model version."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from kfp.dsl import Artifact, Metrics, Model

from fededge import lineage, storage, weights
from fededge.delivery import registry
from fededge.delivery.gates import judge_model
from fededge.documents import (
    ClientCounts,
    Document,
    Evaluation,
    Feature,
    GateDecision,
    Label,
    ModelVersion,
    Population,
    Schema,
)
from fededge.learning.state import State
from fededge.task import parse
from fededge.tracking.connection import connect
from fededge.tracking.run import TrackedRun
from tests.registered_models import measured, register_version

KINDS = ("float32", "int8")
TASK = parse(
    """
name: tiny
data: {source: digits}
variants: [{kind: float32}, {kind: int8}]
devices: [{name: camera, kinds: [int8]}]
"""
)
WEIGHTS = {"dense/kernel": np.arange(4, dtype=np.float32)}
DIGEST = weights.digest_of(WEIGHTS)


def sealed(made: Any, content: bytes | Document, **facts: Any) -> Any:
    storage.write(made.path, content if isinstance(content, bytes) else content.to_bytes())
    lineage.seal(made, **facts)
    return made


@pytest.fixture
def inputs(artifact: Callable[..., Any]) -> dict[str, Any]:
    evaluation = Evaluation(
        round=0, score=0.95, loss=0.1, examples=10, samples=0.0, per_class=[], confusion=[]
    )
    state = State(task=TASK.identity, round=0, weights=WEIGHTS, server=[])
    image = Feature(name="image", dtype="uint8", shape=[28, 28, 1])
    population = Population(
        clients=[ClientCounts(id="a", train=8, test=2)],
        example=Schema(features=[image], label=Label(kind="class", classes=10)),
        examples=10,
        simulated=True,
    )
    return {
        "population": sealed(artifact(Artifact, "population"), population),
        "state": sealed(artifact(Model, "state"), state.to_bytes(), round=0.0),
        "evaluation": sealed(artifact(Metrics, "evaluation"), evaluation),
        "decision": sealed(
            artifact(Artifact, "decision"), judge_model(TASK.gate, evaluation, None, None, DIGEST)
        ),
        "variants": folder(artifact(Model, "variants"), {kind: kind.encode() for kind in KINDS}),
        "measurements": folder(
            artifact(Metrics, "measurements"),
            {
                f"{kind}.json": measured(
                    kind, digest=storage.digest(kind.encode()), bytes=len(kind)
                ).to_bytes()
                for kind in KINDS
            },
        ),
        "pyfunc": folder(
            artifact(Model, "pyfunc"), {"MLmodel": b"flavors: {}", "artifacts/schema.json": b"{}"}
        ),
    }


def folder(made: Any, files: dict[str, bytes]) -> Any:
    for name, content in files.items():
        storage.write(f"{made.path}/{name}", content)
    lineage.seal(made, kinds=list(KINDS))
    return made


def test_a_version_document_says_what_a_release_needs(plain: Any, artifact: Any, inputs: Any) -> None:
    version = artifact(Model, "version")
    word = plain("delivery/register_model")(TASK.to_json(), "run-1", **inputs, version=version)
    assert word == "pass"
    document = ModelVersion.read(version.path)
    assert (document.name, document.version, document.run) == ("tiny", 1, "run-1")
    assert (document.champion, document.score, document.round) == (True, 0.95, 0)
    assert (document.shape, document.classes, document.devices) == ([28, 28, 1], 10, {"camera": "int8"})
    assert (document.task_digest, document.weights_digest) == (TASK.digest, DIGEST)
    assert document.state_digest == inputs["state"].metadata["digest"]
    for variant in document.variants:
        assert storage.read_verified(variant.url, variant.digest) == variant.kind.encode()
    records = TrackedRun.join("run-1", TASK).records()
    assert ModelVersion.from_content(records["version"]) == document
    assert len(version.metadata["parents"]) == 7
    kept = TrackedRun.join("run-1", TASK).artifact_uri.removeprefix("file://")
    assert (Path(kept) / "model" / "MLmodel").read_bytes() == b"flavors: {}"
    assert (Path(kept) / "model" / "artifacts" / "schema.json").is_file()
    lineage.verify(version)


def test_a_card_is_kept_with_the_version_and_describes_it(plain: Any, artifact: Any, inputs: Any) -> None:
    for attempt in ("first", "again"):
        plain("delivery/register_model")(TASK.to_json(), "run-1", **inputs, version=artifact(Model, attempt))
    files = Path(TrackedRun.join("run-1", TASK).artifact_uri.removeprefix("file://")) / "model"
    text = (files / "README.md").read_text()
    assert text.startswith("# tiny, version 1\n")
    assert f"- **From state**: {inputs['state'].metadata['digest']}" in text
    assert (files / "README.html").read_text().startswith("<!doctype html>")
    assert connect().get_model_version("tiny", "1").description == text
    connect().update_model_version("tiny", "1", "by hand")
    plain("delivery/register_model")(TASK.to_json(), "run-1", **inputs, version=artifact(Model, "later"))
    assert connect().get_model_version("tiny", "1").description == "by hand"


def test_equal_weights_have_equal_digests_whatever_their_state_says(
    plain: Any, artifact: Any, inputs: Any
) -> None:
    other = State(task=TASK.identity, round=0, weights=WEIGHTS, server=[np.ones(1, np.float32)])
    for run in ("run-1", "run-2"):
        plain("delivery/register_model")(TASK.to_json(), run, **inputs, version=artifact(Model, run))
        inputs["state"] = sealed(artifact(Model, "state"), other.to_bytes(), round=0.0)
    newer, older = registry.versions("tiny")
    assert newer.digest == older.digest
    assert newer.document().state_digest != older.document().state_digest


def test_a_retry_gives_the_same_version(plain: Any, artifact: Any, inputs: Any) -> None:
    versions = artifact(Model, "first"), artifact(Model, "again")
    for version in versions:
        word = plain("delivery/register_model")(TASK.to_json(), "run-1", **inputs, version=version)
        assert word == "pass"
    assert versions[0].metadata == versions[1].metadata


def test_a_stale_decision_is_taken_again_recorded_and_counts(
    plain: Any, artifact: Any, inputs: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    register_version(TASK, "run-0", score=0.99)  # after the gate of run-1, when there was no champion
    version = artifact(Model, "version")
    word = plain("delivery/register_model")(TASK.to_json(), "run-1", **inputs, version=version)
    assert word == version.metadata["decision"] == "fail"
    assert not ModelVersion.read(version.path).champion
    champion = registry.champion("tiny")
    assert champion
    assert champion.version == 1
    recorded = GateDecision.from_content(TrackedRun.join("run-1", TASK).records()["gate"])
    assert recorded.champion
    assert (recorded.decision, recorded.champion.version) == ("fail", 1)
    assert "another version became champion meanwhile" in capsys.readouterr().out
