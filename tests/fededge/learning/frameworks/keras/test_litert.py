"""Keras models train on LiteRT as they do in TensorFlow, or are refused by the name of a layer."""

from pathlib import Path

import pytest
import tensorflow as tf

from fededge import litert_program as names
from fededge import storage
from fededge.documents import Feature, Label, LiteRTProgram, Plan, Schema
from fededge.learning.frameworks import add_litert, litert_refusal, model_spec
from fededge.learning.frameworks.keras.litert.export import build
from fededge.learning.frameworks.keras.litert.forms import Refused
from fededge.learning.models import shipped
from fededge.learning.tff.plan import client_optimizer
from fededge.task import ClientOptimizer, Model
from tests.fededge.learning.frameworks.conformance import IDENTITY
from tests.litert_models import CLASSES, model_of

pytestmark = pytest.mark.environment("worker")
WORK = ClientOptimizer(batch_size=5, learning_rate=1.0)


def built(name: str, work: ClientOptimizer = WORK) -> tuple[bytes, LiteRTProgram]:
    """The file of a model, proven against TensorFlow."""
    model, schema = model_of(name)
    return build(model, schema, 3, work, client_optimizer(work))


@pytest.mark.parametrize(("name", "dropouts"), [("images", 1), ("steps", 8), ("functions", 0)])
def test_a_step_of_many_layers_is_tensorflows(name: str, dropouts: int) -> None:
    data, program = built(name)
    assert program.digest == storage.digest(data)
    assert len(program.dropout) == dropouts
    operators = {op["op_name"] for op in tf.lite.Interpreter(model_content=data)._get_ops_details()}
    assert not [name for name in operators if name.startswith("Flex")]


SEQUENCE = Label(kind="sequence", classes=6, shape=[5])
SHIPPED: dict[str, tuple[list[int], Label]] = {
    "cnn": ([16, 16, 1], CLASSES),
    "batchnorm-cnn": ([8, 8, 3], CLASSES),
    "mlp": ([7], Label(kind="multi-label", classes=3)),
    "regression": ([7], Label(kind="number", mean=[2.0], std=[3.0])),
    "cnn1d": ([8, 3], CLASSES),
    "gru": ([4, 3], CLASSES),
    "resnet": ([8, 8, 3], CLASSES),
    "transformer": ([5], SEQUENCE),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", shipped.FACTORIES)
def test_every_model_that_ships_trains_on_litert(name: str) -> None:
    shape, label = SHIPPED[name]
    schema = Schema(features=[Feature(name="x", dtype="float32", shape=shape)], label=label)
    work = ClientOptimizer(batch_size=5, optimizer="adam")
    data, program = build(Model(name=name), schema, 3, work, client_optimizer(work))
    assert program.digest == storage.digest(data)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("loop", "layer memory has a loop"),
        ("volume", "layer solid needs Conv3D"),
        ("transposed", "layer wider needs Conv2DBackpropInput"),
        ("noise", "layer noise draws random numbers"),
        ("smooth", "layer smooth needs ResizeBilinear"),
    ],
)
def test_what_litert_does_not_train_is_refused_by_the_name_of_its_layer(name: str, reason: str) -> None:
    model, schema = model_of(name)
    assert reason in str(litert_refusal(model_spec(model, schema, 3), WORK))
    assert litert_refusal(model_spec(*model_of("functions"), 3), WORK) is None


@pytest.mark.parametrize("name", ["own_gradient", "batch"])
def test_what_only_numbers_tell_is_refused(name: str) -> None:
    with pytest.raises(Refused, match="not TensorFlow's"):
        built(name)


def test_what_the_converter_refuses_is_told_by_its_layer() -> None:
    with pytest.raises(Refused, match="layer similar needs"):
        built("single", ClientOptimizer(batch_size=1))


def test_a_batch_that_no_device_holds_is_refused() -> None:
    with pytest.raises(Refused, match="batch_size 5,000"):
        built("functions", ClientOptimizer(batch_size=5000))


def test_a_plan_keeps_its_savedmodel_and_says_why_it_has_no_litert_file(tmp_path: Path) -> None:
    model, schema = model_of("noise")
    spec = model_spec(model, schema, 3)
    spec.export_plan(WORK, IDENTITY, tmp_path)
    before = Plan.read(tmp_path / "plan.json")
    assert (before.litert, before.litert_refused) == (None, None)
    add_litert(spec, WORK, tmp_path)
    after = Plan.read(tmp_path / "plan.json")
    assert after.litert is None
    assert "layer noise draws" in str(after.litert_refused)
    assert after.model_copy(update={"litert_refused": None}) == before
    assert (tmp_path / "saved_model.pb").exists()
    assert not (tmp_path / names.FILE).exists()
