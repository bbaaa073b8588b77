"""Where clients of Keras compute."""

from pathlib import Path

import pytest
import tensorflow as tf

from fededge import examples
from fededge.errors import TaskError
from fededge.learning.frameworks import model_spec, open_client
from fededge.task import ClientOptimizer, Model
from tests.fededge.learning.frameworks.conformance import IDENTITY, schema_of, table

pytestmark = pytest.mark.environment("worker")


def test_a_gpu_is_demanded_only_by_a_plan_that_says_so(tmp_path: Path) -> None:
    schema, model = schema_of("class"), Model(name="regression")
    spec, (x, y) = model_spec(model, schema, 0), table("class", 10, 0)
    for split in ("train", "test"):
        examples.write(tmp_path / "client" / split, x, y, schema)
    for device in ("auto", "cpu", "cuda"):
        spec.export_plan(ClientOptimizer(device=device), IDENTITY, tmp_path / device)
    weights = spec.initial_weights()
    updates = [
        open_client(tmp_path / device, tmp_path / "client").train(weights, 1) for device in ("auto", "cpu")
    ]
    if not tf.config.list_physical_devices("GPU"):
        assert all((updates[0].delta[name] == updates[1].delta[name]).all() for name in weights)
        with pytest.raises(TaskError, match="TensorFlow finds no GPU here: use auto or cpu"):
            open_client(tmp_path / "cuda", tmp_path / "client")
