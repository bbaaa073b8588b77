"""Training starts from given weights, of the same model and finite."""

from pathlib import Path

import numpy as np
import pytest

from fededge import weights
from fededge.documents import Feature, Label, Schema
from fededge.errors import IntegrityError, TaskError
from fededge.learning import warm_start
from fededge.learning.frameworks import model_spec
from fededge.learning.frameworks.keras.network import Network
from fededge.learning.state import State
from fededge.task import Model

pytestmark = pytest.mark.environment("worker")
SCHEMA = Schema(
    features=[Feature(name="x", dtype="float32", shape=[2])], label=Label(kind="class", classes=3)
)
KERAS = Model(name="mlp", arguments={"hidden": [4]})
INITIAL = {"kernel": np.zeros((2, 3), np.float32), "bias": np.zeros(3, np.float32)}


def test_a_state_or_a_safetensors_file_gives_all_weights_or_some(tmp_path: Path) -> None:
    ones = {name: np.ones_like(value) for name, value in INITIAL.items()}
    State("sha256:" + "0" * 64, 0, ones, []).save(tmp_path / "state")
    (tmp_path / "file").write_bytes(weights.to_bytes({"bias": np.ones(3, np.float64)}))
    whole, part = (
        warm_start.start_from(
            warm_start.read(str(tmp_path / name), model_spec(KERAS, SCHEMA, 0)), INITIAL, name
        )
        for name in ("state", "file")
    )
    assert all((value == 1).all() for value in whole.values())
    assert (part["kernel"] == 0).all()
    assert part["bias"].dtype == np.float32
    assert (part["bias"] == 1).all()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"other": np.zeros(3, np.float32)}, "has other, which the model does not: it has kernel, bias"),
        ({"bias": np.zeros(4, np.float32)}, r"bias of shape \[4\] where the model's is \[3\]"),
        ({"bias": np.full(3, np.nan, np.float32)}, "bias is not finite"),
        ({"bias": np.zeros(3, np.int64)}, "bias is not finite floating point numbers"),
    ],
)
def test_weights_of_another_model_are_refused(given: dict[str, np.ndarray], message: str) -> None:
    with pytest.raises(TaskError, match=message):
        warm_start.start_from(given, INITIAL, "x")


def test_a_file_that_is_none_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"\x80\x04pickle")
    with pytest.raises(IntegrityError, match="not a safetensors file"):
        warm_start.read(str(tmp_path / "file"), model_spec(KERAS, SCHEMA, 0))


@pytest.mark.parametrize("name", ["model.keras", "model.weights.h5", "model.h5"])
def test_a_keras_checkpoint_gives_the_weights_that_it_holds(tmp_path: Path, name: str) -> None:
    other = Network(KERAS, SCHEMA, 7)
    (other.body.save if name == "model.keras" else other.body.save_weights)(tmp_path / name)
    found = warm_start.read(str(tmp_path / name), model_spec(KERAS, SCHEMA, 0))
    assert {n: v.tolist() for n, v in found.items()} == {n: v.tolist() for n, v in other.weights().items()}


def test_a_keras_checkpoint_of_another_model_is_refused(tmp_path: Path) -> None:
    Network(Model(name="mlp", arguments={"hidden": [5]}), SCHEMA).body.save(tmp_path / "model.keras")
    (tmp_path / "no.keras").write_bytes(b"PK")
    for name in ("model.keras", "no.keras"):
        with pytest.raises(TaskError, match=f"{name} is no Keras checkpoint"):
            warm_start.read(str(tmp_path / name), model_spec(KERAS, SCHEMA, 0))


FROZEN = """
LEARNS = False

def build(schema):
    import tensorflow as tf

    frozen = tf.keras.layers.Dense(4, trainable=False)
    return tf.keras.Sequential([tf.keras.Input(schema.encoded_shape), frozen, tf.keras.layers.Dense(schema.outputs)])

def module(schema):
    from torch import nn

    made = nn.Sequential(nn.Linear(2, 4), nn.BatchNorm1d(4), nn.Linear(4, schema.outputs))
    made[0].weight.requires_grad_(LEARNS)
    return made
"""


@pytest.mark.parametrize("framework", ["keras", "torch"])
def test_a_checkpoint_with_other_frozen_weights_is_refused(tmp_path: Path, framework: str) -> None:
    (tmp_path / "frozen_models.py").write_text(FROZEN)
    model = Model.model_validate(
        {
            "framework": framework,
            "factory": "frozen_models:" + ("build" if framework == "keras" else "module"),
            "code": str(tmp_path),
        }
    )
    if framework == "keras":
        name = "other.keras"
        Network(model, SCHEMA, 1).body.save(tmp_path / name)
    else:
        torch = pytest.importorskip("torch", reason="PyTorch is not installed in this environment")
        from fededge.learning.frameworks.torch.network import Network as Module

        name = "other.pt"
        torch.save(Module(model, SCHEMA, 1).module.state_dict(), tmp_path / name)
    with pytest.raises(TaskError, match="other values of frozen weights"):
        warm_start.read(str(tmp_path / name), model_spec(model, SCHEMA, 0))


def test_a_pytorch_checkpoint_gives_the_weights_that_it_holds_and_nothing_is_unpickled(
    tmp_path: Path,
) -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed in this environment")
    from fededge.learning.frameworks.torch.network import Network as Module

    (tmp_path / "learning_models.py").write_text(FROZEN.replace("LEARNS = False", "LEARNS = True"))
    model = Model(framework="torch", factory="learning_models:module", code=str(tmp_path))
    other, spec = Module(model, SCHEMA, 3), model_spec(model, SCHEMA, 0)
    torch.save({"model_state_dict": other.module.state_dict(), "epoch": 3}, tmp_path / "other.pt")
    found = warm_start.read(str(tmp_path / "other.pt"), spec)
    assert {n: v.tolist() for n, v in found.items()} == {n: v.tolist() for n, v in other.weights().items()}
    torch.save(tmp_path, tmp_path / "path.pth")
    with pytest.raises(TaskError, match="no PyTorch checkpoint of this module"):
        warm_start.read(str(tmp_path / "path.pth"), spec)


def test_pickles_of_scikit_learn_are_not_opened(tmp_path: Path) -> None:
    (tmp_path / "model.joblib").write_bytes(b"anything")
    spec = model_spec(Model(framework="sklearn", name="SGDClassifier"), SCHEMA, 0)
    with pytest.raises(TaskError, match="which may do anything when opened"):
        warm_start.read(str(tmp_path / "model.joblib"), spec)
