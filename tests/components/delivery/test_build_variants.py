"""build_variants: the global weights of a state become LiteRT files."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from kfp.dsl import Artifact, Model

from fededge import lineage
from fededge.documents import CalibrationRanges, Feature, Label, Population, Schema, TensorRange
from fededge.errors import IntegrityError
from fededge.inference import load_model
from fededge.learning.frameworks import model_spec
from fededge.learning.frameworks.keras.network import Network
from fededge.learning.state import State
from fededge.task import FederatedTask
from fededge.tracking.run import TrackedRun

pytestmark = pytest.mark.environment("worker")

TASK = FederatedTask.from_json(
    json.dumps(
        {"name": "tiny", "data": {"source": "digits"}, "variants": [{"kind": "float32"}, {"kind": "int8"}]}
    )
)


SCHEMA = Schema(
    features=[Feature(name="image", dtype="uint8", shape=[28, 28, 1])], label=Label(kind="class", classes=10)
)
SPEC = model_spec(TASK.model, SCHEMA, TASK.seed)
WEIGHTS = SPEC.initial_weights()


@pytest.fixture
def inputs(artifact: Any) -> Any:
    population, state, ranges = (
        artifact(kind, name)
        for kind, name in ((Artifact, "population"), (Model, "state"), (Artifact, "ranges"))
    )
    Population(clients=[], example=SCHEMA, examples=0, simulated=True).write(population.path)
    lineage.seal(population)
    server = [np.zeros(3, np.float32)]
    State(task=TASK.identity, round=0, weights=WEIGHTS, server=server).save(state.path)
    lineage.seal(state, round=12.0)
    names = ["input", *Network(TASK.model, SCHEMA).activations]
    found = [TensorRange(name=name, low=0.0, high=1.0) for name in names]
    CalibrationRanges(clients=3, examples=100, ranges=found).write(ranges.path)
    lineage.seal(ranges)
    return population, state, ranges


def test_a_variant_answers_like_the_global_model(plain: Any, artifact: Any, inputs: Any) -> None:
    variants = artifact(Model, "variants")
    plain("delivery/build_variants")(TASK.to_json(), "run-1", *inputs, variants, artifact(Model, "pyfunc"))
    interpreter = tf.lite.Interpreter(model_content=(Path(variants.path) / "float32").read_bytes())
    interpreter.allocate_tensors()
    x = np.random.default_rng(1).random((1, 28, 28, 1), np.float32)
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], x)
    interpreter.invoke()
    found = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
    np.testing.assert_allclose(found, SPEC.predict(WEIGHTS, x), atol=1e-5)


def test_variants_are_built_for_each_runtime(plain: Any, artifact: Any, inputs: Any) -> None:
    population, state, ranges = inputs
    kinds = ["float32", "onnx-float32", "onnx-dynamic-int8"]
    given = {"framework": "sklearn", "name": "SGDClassifier", "arguments": {"loss": "log_loss"}}
    content = TASK.model_dump() | {"model": given, "variants": [{"kind": kind} for kind in kinds]}
    task = FederatedTask.from_json(json.dumps(content))
    model, rng = model_spec(task.model, SCHEMA, task.seed), np.random.default_rng(3)
    weights = {
        name: rng.normal(0, 0.1, value.shape).astype(np.float32)
        for name, value in model.initial_weights().items()
    }
    State(task=task.identity, round=0, weights=weights, server=[]).save(state.path)
    lineage.seal(state, round=12.0)
    variants, pyfunc = artifact(Model, "variants"), artifact(Model, "pyfunc")
    plain("delivery/build_variants")(task.to_json(), "run-1", population, state, ranges, variants, pyfunc)
    assert (variants.metadata["kinds"], pyfunc.metadata["kind"]) == (kinds, "float32")
    files = {kind: (Path(variants.path) / kind).read_bytes() for kind in kinds}
    assert len(files["onnx-dynamic-int8"]) < 0.4 * len(files["onnx-float32"])
    x = rng.random((120, 28, 28, 1), np.float32)
    wanted = model.predict(weights, x)
    for kind, tolerance in (("onnx-float32", 1e-5), ("onnx-dynamic-int8", 0.05)):
        loaded = load_model(files[kind], kind)
        assert loaded.schema == SCHEMA
        np.testing.assert_allclose(loaded.predict(x), wanted, atol=tolerance)


def test_variants_are_sealed_with_their_kinds_parents_and_round(
    plain: Any, artifact: Any, inputs: Any
) -> None:
    made = artifact(Model, "first"), artifact(Model, "again")
    for variants in made:
        tf.keras.backend.clear_session()  # a step is a process of its own, so layers' names start anew
        plain("delivery/build_variants")(
            TASK.to_json(), "run-1", *inputs, variants, artifact(Model, f"{variants.name}-pyfunc")
        )
    first, again = (variants.metadata for variants in made)
    assert first == again
    assert (first["kinds"], first["round"]) == (["float32", "int8"], 12)
    assert first["parents"] == [given.metadata["digest"] for given in inputs]
    assert {file.name for file in Path(made[0].path).iterdir()} == {"float32", "int8"}
    lineage.verify(*made)
    assert TrackedRun.join("run-1", TASK).records()["steps/build_variants"]["status"] == "succeeded"


def test_only_int8_reads_the_ranges(plain: Any, artifact: Any, inputs: Any) -> None:
    population, state, ranges = inputs
    Path(ranges.path).unlink()
    task = TASK.model_copy(update={"variants": TASK.variants[:1]})
    variants = artifact(Model, "variants")
    plain("delivery/build_variants")(
        task.to_json(), "run-1", population, state, ranges, variants, artifact(Model, "pyfunc")
    )
    assert variants.metadata["parents"] == [population.metadata["digest"], state.metadata["digest"]]


def test_mlflow_s_model_holds_the_float32_variant_and_the_schema(
    plain: Any, artifact: Any, inputs: Any
) -> None:
    variants, pyfunc = artifact(Model, "variants"), artifact(Model, "pyfunc")
    plain("delivery/build_variants")(TASK.to_json(), "run-1", *inputs, variants, pyfunc)
    held = Path(pyfunc.path) / "artifacts"
    assert (held / "variant.tflite").read_bytes() == (Path(variants.path) / "float32").read_bytes()
    assert Schema.read(held / "schema.json") == SCHEMA
    assert pyfunc.metadata["kind"] == "float32"
    assert pyfunc.metadata["parents"] == [inputs[0].metadata["digest"], variants.metadata["digest"]]
    lineage.verify(pyfunc)


@pytest.mark.parametrize("which", [0, 1, 2], ids=["population", "state", "ranges"])
def test_a_tampered_input_is_refused(plain: Any, artifact: Any, inputs: Any, which: int) -> None:
    content = bytearray(Path(inputs[which].path).read_bytes())
    content[-1] ^= 1
    Path(inputs[which].path).write_bytes(content)
    variants = artifact(Model, "variants")
    with pytest.raises(IntegrityError, match="was changed"):
        plain("delivery/build_variants")(
            TASK.to_json(), "run-1", *inputs, variants, artifact(Model, "pyfunc")
        )
    assert not Path(variants.path).exists()
