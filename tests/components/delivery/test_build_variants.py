"""build_variants: the global weights of a state become LiteRT files."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from kfp.dsl import Artifact, Model

from fededge import lineage
from fededge.documents import CalibrationRanges, TensorRange
from fededge.errors import IntegrityError
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
    variants = artifact(Model, "variants")
    plain("delivery/build_variants")(TASK.to_json(), "run-1", *inputs, variants)
    interpreter = tf.lite.Interpreter(model_content=(Path(variants.path) / "float32").read_bytes())
    interpreter.allocate_tensors()
    x = np.random.default_rng(1).random((1, 28, 28, 1), np.float32)
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], x)
    interpreter.invoke()
    found = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
    np.testing.assert_allclose(found, inference_model(TASK.model, WEIGHTS)(x), atol=1e-5)


def test_variants_are_sealed_with_their_kinds_parents_and_round(
    plain: Any, artifact: Any, inputs: Any
) -> None:
    made = artifact(Model, "first"), artifact(Model, "again")
    for variants in made:
        tf.keras.backend.clear_session()  # a step is a process of its own, so layers' names start anew
        plain("delivery/build_variants")(TASK.to_json(), "run-1", *inputs, variants)
    first, again = (variants.metadata for variants in made)
    assert first == again
    assert (first["kinds"], first["round"]) == (["float32", "int8"], 12)
    assert first["parents"] == [given.metadata["digest"] for given in inputs]
    assert {file.name for file in Path(made[0].path).iterdir()} == {"float32", "int8"}
    lineage.verify(*made)
    assert TrackedRun.join("run-1", TASK).records()["steps/build_variants"]["status"] == "succeeded"


def test_only_int8_reads_the_ranges(plain: Any, artifact: Any, inputs: Any) -> None:
    state, ranges = inputs
    Path(ranges.path).unlink()
    task = TASK.model_copy(update={"variants": TASK.variants[:1]})
    variants = artifact(Model, "variants")
    plain("delivery/build_variants")(task.to_json(), "run-1", state, ranges, variants)
    assert variants.metadata["parents"] == [state.metadata["digest"]]


@pytest.mark.parametrize("which", [0, 1], ids=["state", "ranges"])
def test_a_tampered_input_is_refused(plain: Any, artifact: Any, inputs: Any, which: int) -> None:
    content = bytearray(Path(inputs[which].path).read_bytes())
    content[-1] ^= 1
    Path(inputs[which].path).write_bytes(content)
    variants = artifact(Model, "variants")
    with pytest.raises(IntegrityError, match="was changed"):
        plain("delivery/build_variants")(TASK.to_json(), "run-1", *inputs, variants)
    assert not Path(variants.path).exists()
