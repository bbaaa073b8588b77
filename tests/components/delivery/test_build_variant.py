"""build_variant: the global weights of a state become a LiteRT file."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from kfp.dsl import Artifact, Model

from fededge import lineage
from fededge.documents import CalibrationRanges, TensorRange
from fededge.errors import IntegrityError, VariantError
from fededge.learning.frameworks.keras.models import activations, inference_model, initial_weights
from fededge.learning.state import State
from fededge.task import FederatedTask
from fededge.tracking.run import TrackedRun

pytestmark = pytest.mark.environment("worker")

TASK = FederatedTask.from_json(
    json.dumps(
        {"name": "tiny", "data": {"source": "digits"}, "variants": [{"kind": "float32"}, {"kind": "int8"}]}
    )
)


WEIGHTS = initial_weights(TASK.model, TASK.seed)


@pytest.fixture
def inputs(artifact: Any) -> Any:
    state, ranges = artifact(Model, "state"), artifact(Artifact, "ranges")
    server = [np.zeros(3, np.float32)]
    State(task=TASK.identity, round=0, weights=WEIGHTS, server=server).save(state.path)
    lineage.seal(state, round=12.0)
    names = ["input", *activations(inference_model(TASK.model))]
    found = [TensorRange(name=name, low=0.0, high=1.0) for name in names]
    CalibrationRanges(clients=3, examples=100, ranges=found).write(ranges.path)
    lineage.seal(ranges)
    return state, ranges


def test_a_variant_answers_like_the_global_model(plain: Any, artifact: Any, inputs: Any) -> None:
    variant = artifact(Model, "variant")
    plain("delivery/build_variant")(TASK.to_json(), "run-1", "float32", *inputs, variant)
    interpreter = tf.lite.Interpreter(model_content=Path(variant.path).read_bytes())
    interpreter.allocate_tensors()
    x = np.random.default_rng(1).random((1, 28, 28, 1), np.float32)
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], x)
    interpreter.invoke()
    found = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
    np.testing.assert_allclose(found, inference_model(TASK.model, WEIGHTS)(x), atol=1e-5)


def test_a_variant_is_sealed_with_its_kind_parents_and_round(plain: Any, artifact: Any, inputs: Any) -> None:
    variants = artifact(Model, "first"), artifact(Model, "again")
    for variant in variants:
        tf.keras.backend.clear_session()  # a step is a process of its own, so layers' names start anew
        plain("delivery/build_variant")(TASK.to_json(), "run-1", "int8", *inputs, variant)
    first, again = (variant.metadata for variant in variants)
    assert first == again
    assert (first["kind"], first["round"]) == ("int8", 12)
    assert first["parents"] == [given.metadata["digest"] for given in inputs]
    lineage.verify(*variants)
    assert TrackedRun.join("run-1", TASK).records()["steps/build_variant-int8"]["status"] == "succeeded"


def test_a_kind_that_the_task_does_not_list_is_refused(plain: Any, artifact: Any, inputs: Any) -> None:
    with pytest.raises(VariantError, match="'float16'"):
        plain("delivery/build_variant")(TASK.to_json(), "run-1", "float16", *inputs, artifact(Model, "v"))


def test_only_int8_reads_the_ranges(plain: Any, artifact: Any, inputs: Any) -> None:
    state, ranges = inputs
    Path(ranges.path).unlink()
    variant = artifact(Model, "variant")
    plain("delivery/build_variant")(TASK.to_json(), "run-1", "float32", state, ranges, variant)
    assert variant.metadata["parents"] == [state.metadata["digest"]]


@pytest.mark.parametrize("which", [0, 1], ids=["state", "ranges"])
def test_a_tampered_input_is_refused(plain: Any, artifact: Any, inputs: Any, which: int) -> None:
    content = bytearray(Path(inputs[which].path).read_bytes())
    content[-1] ^= 1
    Path(inputs[which].path).write_bytes(content)
    variant = artifact(Model, "variant")
    with pytest.raises(IntegrityError, match="was changed"):
        plain("delivery/build_variant")(TASK.to_json(), "run-1", "int8", *inputs, variant)
    assert not Path(variant.path).exists()
