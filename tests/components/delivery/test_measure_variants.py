"""measure_variants: figures of variants, held against their gates."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from kfp.dsl import Dataset, Metrics, Model

from fededge import lineage, storage
from fededge.documents import Evaluation, Measurement
from fededge.errors import IntegrityError
from fededge.inference import load_model
from fededge.task import parse
from fededge.tracking.run import TrackedRun

pytestmark = pytest.mark.environment("serving")

BRIGHTEST = Path(__file__).parents[2] / "fededge" / "delivery" / "fixtures" / "brightest.tflite"
TASK = parse("{name: tiny, data: {source: digits}, variants: [{kind: float32, max_score_loss: 0.1}]}")


@pytest.fixture
def inputs(artifact: Any) -> Any:
    """Variants and test; the one variant is right about three of four examples."""
    variants, test = artifact(Model, "variants"), artifact(Dataset, "test")
    Path(variants.path).mkdir()
    (Path(variants.path) / "float32").write_bytes(BRIGHTEST.read_bytes())
    lineage.seal(variants, kinds=["float32"], round=12)
    Path(test.path).mkdir()
    np.save(Path(test.path) / "x.npy", np.eye(4, dtype=np.float32).reshape(4, 2, 2, 1))
    np.save(Path(test.path) / "y.npy", np.array([0, 1, 2, 0]))
    lineage.seal(test)
    return variants, test


@pytest.fixture
def measure(plain: Any, artifact: Any, inputs: Any) -> Any:
    """Measures against an evaluation with the given accuracy; the artifact."""

    def call(reference: float) -> Any:
        evaluation, measurements = artifact(Metrics, "evaluation"), artifact(Metrics, "measurements")
        Evaluation(
            round=12, score=reference, loss=0.1, examples=4, samples=100.0, per_class=[], confusion=[]
        ).write(evaluation.path)
        lineage.seal(evaluation)
        plain("delivery/measure_variants")(TASK.to_json(), "run-1", *inputs, evaluation, measurements)
        return measurements

    return call


def test_a_variant_within_its_gate_passes(measure: Any, inputs: Any) -> None:
    measurements = measure(0.8)
    figures = Measurement.read(Path(measurements.path) / "float32.json")
    assert (figures.kind, figures.passed, figures.reasons) == ("float32", True, [])
    assert figures.digest == storage.digest(BRIGHTEST.read_bytes())
    assert figures.score == measurements.metadata["float32/accuracy"] == 0.75
    assert Measurement.from_content(TrackedRun.join("run-1", TASK).records()["variant-float32"]) == figures
    assert len(measurements.metadata["parents"]) == 3
    lineage.verify(measurements)


def test_a_variant_is_measured_in_its_runtime(plain: Any, artifact: Any, inputs: Any) -> None:
    variants, test = inputs
    onnx = (Path(__file__).parents[2] / "fixtures" / "first.onnx").read_bytes()
    (Path(variants.path) / "float32").unlink()
    (Path(variants.path) / "onnx-float32").write_bytes(onnx)
    lineage.seal(variants, kinds=["onnx-float32"], round=12)
    x = np.random.default_rng(5).random((8, 4, 4, 1), dtype=np.float32)
    np.save(Path(test.path) / "x.npy", x)
    np.save(Path(test.path) / "y.npy", load_model(onnx, "onnx-float32").predict(x).argmax(axis=1))
    lineage.seal(test)
    evaluation, measurements = artifact(Metrics, "evaluation"), artifact(Metrics, "measurements")
    Evaluation(round=12, score=1.0, loss=0.1, examples=8, samples=8.0, per_class=[], confusion=[]).write(
        evaluation.path
    )
    lineage.seal(evaluation)
    task = parse(
        "{name: tiny, data: {source: digits}, model: {framework: sklearn, name: SGDClassifier}, "
        "variants: [{kind: onnx-float32}]}"
    )
    plain("delivery/measure_variants")(task.to_json(), "run-1", variants, test, evaluation, measurements)
    figures = Measurement.read(Path(measurements.path) / "onnx-float32.json")
    assert (figures.passed, figures.score, figures.bytes) == (True, 1.0, len(onnx))
    assert figures.latency_ms_1 > 0


def test_a_variant_that_loses_too_much_is_measured_and_fails_its_gate(measure: Any) -> None:
    figures = Measurement.read(Path(measure(0.9).path) / "float32.json")
    assert not figures.passed
    assert "max_score_loss" in figures.reasons[0]


def test_a_tampered_variant_is_not_loaded(measure: Any, inputs: Any) -> None:
    (Path(inputs[0].path) / "float32").write_bytes(BRIGHTEST.read_bytes() + b" ")
    with pytest.raises(IntegrityError, match="was changed"):
        measure(0.8)
