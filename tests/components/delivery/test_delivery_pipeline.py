"""The delivery components together through the local runner, each in the environment of its image."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from kfp import compiler, dsl
from kfp.dsl import Artifact, Dataset, Metrics, Model

from components.delivery.build_variants.component import build_variants
from components.delivery.gate_model.component import gate_model
from components.delivery.measure_variants.component import measure_variants
from components.delivery.register_model.component import register_model
from fededge import examples, lineage, settings, storage
from fededge.delivery import registry
from fededge.delivery.gates import NOT_COMPARED
from fededge.documents import (
    CalibrationRanges,
    Evaluation,
    Feature,
    Label,
    Population,
    RoundRecord,
    Schema,
    TensorRange,
)
from fededge.host.layout import VENVS
from fededge.learning.state import State
from fededge.task import FederatedTask
from fededge.tracking.run import TrackedRun
from pipelines import local

KINDS = ["float32", "int8"]
SCHEMA = Schema(
    features=[Feature(name="image", dtype="float32", shape=[28, 28, 1])],
    label=Label(kind="class", classes=10),
)
ACTIVATIONS = [
    *("input", "1/PooledConvolution", "2/Dropout", "3/PooledConvolution"),
    *("4/Flatten", "5/Dense", "6/Dropout", "7/Dense"),
]
SHAPES = {
    "conv1/kernel": (5, 5, 1, 32),
    "conv1/bias": (32,),
    "conv2/kernel": (5, 5, 32, 64),
    "conv2/bias": (64,),
    "dense1/kernel": (1024, 256),
    "dense1/bias": (256,),
    "logits/kernel": (256, 10),
    "logits/bias": (10,),
}
TASK = FederatedTask.from_json(
    json.dumps(
        {
            "name": "tiny",
            "data": {"source": "digits"},
            "gate": {"min": 0.5},
            "variants": [{"kind": kind, "max_score_loss": 1.0} for kind in KINDS],
            "devices": [{"name": "camera", "kinds": ["int8"]}],
        }
    )
)


@pytest.fixture
def inputs(artifact: Any) -> dict[str, Any]:
    """What the delivery steps get from the learning steps, for a model with random weights."""
    random = np.random.default_rng(5)
    state, test = artifact(Model, "state"), artifact(Dataset, "test")
    evaluation, ranges = artifact(Metrics, "evaluation"), artifact(Artifact, "ranges")
    tensors = {name: random.normal(0, 0.05, shape).astype(np.float32) for name, shape in SHAPES.items()}
    history = [
        RoundRecord(round=n, cohort=[], reported=[], examples=9, loss=1, score=0.5, seconds=1, at=0)
        for n in range(1, 5)
    ]
    State(TASK.identity, 4, tensors, [], history).save(state.path)
    lineage.seal(state, round=4)
    examples.write(
        Path(test.path), random.random((20, 28, 28, 1), np.float32), random.integers(0, 10, 20), SCHEMA
    )
    lineage.seal(test)
    measured = [TensorRange(name=name, low=0.0, high=4.0) for name in ACTIVATIONS]
    CalibrationRanges(clients=3, examples=90, ranges=measured).write(ranges.path)
    lineage.seal(ranges)
    Evaluation(round=4, score=0.6, loss=1.0, examples=20, samples=36, per_class=[], confusion=[]).write(
        evaluation.path
    )
    lineage.seal(evaluation)
    population = artifact(Artifact, "population")
    Population(clients=[], example=SCHEMA, examples=0, simulated=True).write(population.path)
    lineage.seal(population)
    return {
        "population": population,
        "state": state,
        "test": test,
        "ranges": ranges,
        "evaluation": evaluation,
    }


def compiled(inputs: dict[str, Any], file: Path) -> Path:
    def given(name: str) -> Any:
        made = inputs[name]
        return dsl.importer(artifact_uri=made.uri, artifact_class=type(made), metadata=made.metadata).output

    @dsl.pipeline(name="delivery")
    def delivery(task: str) -> Artifact:
        run = dsl.PIPELINE_JOB_ID_PLACEHOLDER
        population, state, test, ranges, evaluation = map(
            given, ("population", "state", "test", "ranges", "evaluation")
        )
        gate = gate_model(task=task, run=run, evaluation=evaluation, state=state, centralized=NOT_COMPARED)
        with dsl.If(gate.outputs["Output"] == "pass"):
            built = build_variants(task=task, run=run, population=population, state=state, ranges=ranges)
            variants = built.outputs["variants"]
            measured = measure_variants(
                task=task, run=run, variants=variants, test=test, evaluation=evaluation
            )
            register_model(
                task=task,
                run=run,
                population=population,
                state=state,
                evaluation=evaluation,
                decision=gate.outputs["decision"],
                variants=variants,
                measurements=measured.output,
                pyfunc=built.outputs["pyfunc"],
            )
        return gate.outputs["decision"]

    compiler.Compiler().compile(delivery, str(file))
    return file


@pytest.mark.skipif(not VENVS.is_dir(), reason="no environments: `make run` sets them up")
def test_a_model_goes_from_its_gate_to_a_registered_version(inputs: dict[str, Any], tmp_path: Path) -> None:
    package = compiled(inputs, tmp_path / "delivery.yaml")
    lines: list[str] = []
    local.run_local(
        package,
        {"task": TASK.to_json()},
        "run-1",
        settings.home(),
        say=lines.append,
        environments=VENVS,
    )
    records = TrackedRun.join("run-1", TASK).records()
    document = records["version"]
    assert document["version"] == 1
    assert document["devices"] == {"camera": "int8"}
    for variant in document["variants"]:
        content = storage.read_verified(variant["url"], variant["digest"])
        assert len(content) == variant["bytes"] == records[f"variant-{variant['kind']}"]["bytes"]
    assert {name for name in records if name.startswith("steps/")} == {
        "steps/gate_model",
        "steps/build_variants",
        "steps/measure_variants",
        "steps/register_model",
    }
    champion = registry.champion("tiny")
    assert champion
    assert champion.round == 4
    files = Path(TrackedRun.join("run-1", TASK).artifact_uri.removeprefix("file://")) / "model"
    assert (files / "MLmodel").is_file()
    assert (files / "README.md").read_text().startswith("# tiny, version 1\n")
    assert (files / "artifacts" / "variant.tflite").read_bytes() == (files / "float32.tflite").read_bytes()
