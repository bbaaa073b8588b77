"""A PyTorch module without a Keras form goes from its code to an endpoint by ONNX variants alone."""

from pathlib import Path

import pytest

from fededge.documents import ModelVersion, Steps

from .conftest import VENVS, Machine

pytestmark = pytest.mark.slow

NET = """
from torch import nn

def build(schema):
    width = schema.encoded_shape[0]
    return nn.Sequential(nn.Linear(width, 16), nn.LayerNorm(16), nn.GELU(), nn.Linear(16, schema.outputs))
"""
TASK = """
name: wine
data: {source: sklearn, name: wine}
partition: {kind: iid, clients: 2}
model: {framework: torch, factory: "net:build", code: .}
learning: {rounds: 2, cohort: {size: 2}, client: {optimizer: adam, learning_rate: 0.02, epochs: 5, batch_size: 16}}
operation: {rounds_per_step: 2}
gate: {min: 0.8}
variants:
  - {kind: onnx-float32}
  - {kind: onnx-dynamic-int8, max_score_loss: 0.1}
devices:
  - {name: hub, runtime: onnx}
endpoint: {name: wine, variant: onnx-float32}
"""


@pytest.mark.timeout(600)
@pytest.mark.skipif(
    not list(VENVS.glob("worker/lib/*/site-packages/torch")),
    reason="PyTorch is not installed in the worker environment",
)
def test_a_module_without_a_keras_form_is_learned_delivered_and_asked(
    machine: Machine, tmp_path: Path
) -> None:
    (tmp_path / "net.py").write_text(NET)
    file = tmp_path / "task.yaml"
    file.write_text(TASK)
    ended = machine.fededge("run", file)
    assert ended.returncode == 0, ended.stderr
    assert "endpoint wine serves version 1, onnx-float32" in ended.stdout
    asked = machine.fededge("predict", "wine", "--sample", "5")
    assert asked.returncode == 0, asked.stderr
    assert "answered by version 1, onnx-float32" in asked.stdout
    (run,) = (machine.home / "runs").iterdir()
    registered = ModelVersion.read(
        Steps.read(run / "steps.json").steps["register-model"].artifacts["version"]
    )
    assert registered.devices["hub"] in ("onnx-float32", "onnx-dynamic-int8")
    assert all(variant.url.endswith(f"/{variant.kind}.onnx") for variant in registered.variants)
