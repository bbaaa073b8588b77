"""Models registered as pipeline runs do it, without a pipeline."""

from collections.abc import Callable
from typing import Any

import pytest

from fededge import settings, storage
from fededge.delivery import registration
from fededge.delivery.gates import Rival, judge_model
from fededge.documents import Evaluation, GateDecision, Measurement, ModelVersion
from fededge.task import FederatedTask
from fededge.tracking.run import TrackedRun

FILES = {"float32": b"float32 model", "int8": b"int8 model"}


def measured(kind: str = "float32", **facts: Any) -> Measurement:
    """A measurement of the file in FILES that passed its gate."""
    usual = {
        "digest": storage.digest(FILES.get(kind, b"model")),
        "bytes": len(FILES.get(kind, b"model")),
        "compressed_bytes": 5,
        "score": 0.97,
        "score_loss": 0.0,
        "latency_ms_1": 0.1,
        "latency_ms_500": 20.0,
        "shape": [28, 28, 1],
        "classes": 10,
        "passed": True,
        "reasons": [],
    }
    return Measurement(kind=kind, **{**usual, **facts})


def evaluated(score: float, **facts: Any) -> Evaluation:
    """An evaluation with this score."""
    return Evaluation(**{"round": 12, "score": score, "loss": 0.1, "examples": 10, "samples": 9.0, **facts})


def register_version(
    task: FederatedTask,
    run: str,
    files: dict[str, bytes] = FILES,
    *,
    weights: bytes = b"weights",
    score: float = 0.98,
    facts: dict[str, Any] | None = None,
    against: Rival | None = None,
    results: list[Measurement] | None = None,
) -> tuple[ModelVersion, GateDecision]:
    """Register a model as pipeline run `run` would, with a decision that was taken `against` a champion.

    Its evaluation has the `score`, and whatever `facts` say.
    """
    evaluation = evaluated(score, **(facts or {}))
    state = settings.home() / "state.safetensors"
    storage.write(str(state), weights)
    digest = storage.digest(weights)
    if results is None:
        results = [
            measured(kind, digest=storage.digest(data), bytes=len(data)) for kind, data in files.items()
        ]
    return registration.register(
        task,
        run,
        TrackedRun.join(run, task),
        registration.Trained(state, digest, digest, round=12, evaluation=evaluation),
        files,
        results,
        judge_model(task.gate, evaluation, score if task.compare.centralized else None, against, digest),
    )


@pytest.fixture
def register(task: FederatedTask) -> Callable[..., ModelVersion]:
    """Registers a model of `task` as pipeline run `run` would; the version."""

    def call(run: str = "run-1", weights: bytes = b"weights", **options: Any) -> ModelVersion:
        return register_version(task, run, weights=weights, **options)[0]

    return call
