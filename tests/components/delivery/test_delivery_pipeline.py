"""The delivery components together through the local runner, each in the environment of its image."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from kfp import compiler, dsl
from kfp.dsl import Artifact, Dataset, Metrics, Model

from components.delivery.build_variant.component import build_variant
from components.delivery.gate_model.component import gate_model
from components.delivery.measure_variant.component import measure_variant
from components.delivery.register_model.component import register_model
from fededge import lineage, settings, storage, weights
from fededge.delivery import registry
from fededge.task import FederatedTask
from fededge.tracking.run import TrackedRun
from pipelines import local

KINDS = ["float32", "int8"]
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
            "gate": {"min_accuracy": 0.5},
            "variants": [{"kind": kind, "max_accuracy_loss": 1.0} for kind in KINDS],
            "devices": [{"name": "camera", "kinds": ["int8"]}],
        }
    )
)


@pytest.fixture
def inputs(artifact: Any) -> dict[str, Any]:
    """What the delivery steps get from the learning steps, for a model with random weights."""
    random = np.random.default_rng(5)
    state, data, test = artifact(Model, "state"), artifact(Dataset, "data"), artifact(Dataset, "test")
    tensors = {f"model/{n}": random.normal(0, 0.05, s).astype(np.float32) for n, s in SHAPES.items()}
    header = {"task": TASK.digest, "round": 4, "history": [], "origin": ""}
    Path(state.path).write_bytes(weights.to_bytes(tensors, {"state": json.dumps(header)}))
    lineage.seal(state, round=4)
    client = Path(data.path) / "clients" / "site-0"
    client.mkdir(parents=True)
    values = {"mean": 0.5, "std": 0.25, "min": 0.0, "max": 1.0}
    summary = {name: np.full((28, 28, 1), value, np.float32) for name, value in values.items()}
    (client / "summary.safetensors").write_bytes(weights.to_bytes(summary))
    lineage.seal(data)
    Path(test.path).mkdir()
    np.save(Path(test.path) / "x.npy", random.random((20, 28, 28, 1), np.float32))
    np.save(Path(test.path) / "y.npy", random.integers(0, 10, 20))
    lineage.seal(test)
    made = {"state": state, "data": data, "test": test}
    for name in ("evaluation", "centralized"):
        made[name] = artifact(Metrics, name)
        Path(made[name].path).write_text(json.dumps({"accuracy": 0.6}))
        lineage.seal(made[name])
    return made


def compiled(inputs: dict[str, Any], file: Path) -> Path:
    def given(name: str) -> Any:
        made = inputs[name]
        return dsl.importer(artifact_uri=made.uri, artifact_class=type(made), metadata=made.metadata).output

    @dsl.pipeline(name="delivery")
    def delivery(task: str) -> Artifact:
        run = dsl.PIPELINE_JOB_ID_PLACEHOLDER
        state, data, test, evaluation, centralized = map(
            given, ("state", "data", "test", "evaluation", "centralized")
        )
        gate = gate_model(task=task, run=run, evaluation=evaluation, centralized=centralized)
        with dsl.If(gate.outputs["Output"] == "pass"):
            with dsl.ParallelFor(KINDS) as kind:
                built = build_variant(task=task, run=run, kind=kind, state=state, data=data)
                measured = measure_variant(
                    task=task, run=run, variant=built.output, test=test, evaluation=evaluation
                )
            register_model(
                task=task,
                run=run,
                state=state,
                evaluation=evaluation,
                decision=gate.outputs["decision"],
                variants=dsl.Collected(built.output),
                measurements=dsl.Collected(measured.output),
            )
        return gate.outputs["decision"]

    compiler.Compiler().compile(delivery, str(file))
    return file


@pytest.mark.skipif(not local.ENVIRONMENTS.is_dir(), reason="no environments: `make run` sets them up")
def test_a_model_goes_from_its_gate_to_a_registered_version(inputs: dict[str, Any], tmp_path: Path) -> None:
    package = compiled(inputs, tmp_path / "delivery.yaml")
    lines: list[str] = []
    local.run_local(
        package,
        {"task": TASK.to_json()},
        "run-1",
        settings.home(),
        say=lines.append,
        environments=local.ENVIRONMENTS,
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
        "steps/register_model",
        *(f"steps/{step}-{kind}" for step in ("build_variant", "measure_variant") for kind in KINDS),
    }
    champion = registry.champion("tiny")
    assert champion
    assert champion.round == 4


def test_lists_of_variants_and_measurements_reach_registration(
    inputs: dict[str, Any], tmp_path: Path
) -> None:
    text = compiled(inputs, tmp_path / "delivery.yaml").read_text()
    wanted = register_model.component_spec.inputs
    assert {name for name, given in wanted.items() if given.is_artifact_list} == {"variants", "measurements"}
    assert text.count("isArtifactList: true") >= 2
