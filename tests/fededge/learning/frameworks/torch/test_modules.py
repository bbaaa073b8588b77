"""What a task may ask of PyTorch, where its code goes, and what its models are elsewhere."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fededge import examples, settings
from fededge.delivery.variants import conversion, onnx_conversion
from fededge.documents import CalibrationRanges, ClientCounts, Feature, Label, Schema, TensorRange
from fededge.errors import IntegrityError, TaskError, VariantError
from fededge.inference import load_model
from fededge.learning import bundles
from fededge.learning.data.checking import check
from fededge.learning.engines import open_engine
from fededge.learning.frameworks import model_spec, open_client
from fededge.signing import SigningKey, public_file
from fededge.task import ClientOptimizer, FederatedTask, Learning, Model, Operation
from fededge.task.learning import Cohort
from tests.fededge.learning.frameworks.conformance import IDENTITY, schema_of, table

pytestmark = pytest.mark.environment("worker")
torch: Any = pytest.importorskip("torch", reason="PyTorch is no part of the lock: pip install torch==2.13.0")
nn = torch.nn
ROOT = Path(__file__).parents[5]

OWN = """
import torch
class Net(torch.nn.Module):
    def __init__(self, width, outputs):
        super().__init__()
        self.hidden, self.last = torch.nn.Linear(width, 8), torch.nn.Linear(8, outputs)
        self.frozen = torch.nn.Parameter(torch.randn(8), requires_grad=False)
        self.drop = torch.nn.Dropout(0.2)
    def forward(self, x): return self.last(self.drop(torch.tanh(self.hidden(x)) + self.frozen))
def build(schema): return Net(schema.encoded_shape[0], schema.outputs)
def narrow(schema): return Net(schema.encoded_shape[0], 1)
def blind(schema): return Net(2, schema.outputs)
def nothing(schema): return None
def constant(schema): return Net(schema.encoded_shape[0], schema.outputs).requires_grad_(False)
def focal(raw, wanted): return torch.nn.functional.cross_entropy(raw, wanted, reduction="none") ** 2
def broken(raw, wanted): raise RuntimeError("no loss today")
"""


@pytest.fixture
def code(tmp_path: Path) -> str:
    """The digest of the packed code of OWN."""
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "torch_factory.py").write_text(OWN)
    content = {
        "name": "a",
        "data": {"source": "digits"},
        "model": {
            "framework": "torch",
            "factory": "torch_factory:build",
            "code": str(tmp_path / "own"),
        },
    }
    return str(bundles.packed(FederatedTask.model_validate(content), on_cluster=False).model.code)


def own(code: str, name: str = "build", **more: Any) -> Model:
    return Model(framework="torch", factory=f"torch_factory:{name}", code=code, **more)


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ({}, "needs model.factory"),
        ({"factory": "nowhere:build"}, "nowhere:build cannot be imported"),
        ({"factory": "torch_factory:nothing"}, "gives a NoneType, not a torch.nn.Module"),
        ({"factory": "torch_factory:narrow"}, r"outputs of shape \[1\] .* asks for \[3\]"),
        ({"factory": "torch_factory:blind"}, r"does not take examples of shape \[5\]: RuntimeError"),
        ({"factory": "torch_factory:constant"}, "no parameter that learns"),
        ({"factory": "torch_factory:build", "loss": "Conv2d"}, "Conv2d is no loss of PyTorch"),
        ({"factory": "torch_factory:build", "arguments": {"depth": 3}}, "model.arguments of .*depth"),
    ],
)
def test_what_is_no_model_is_told(code: str, model: dict[str, Any], said: str) -> None:
    section = {"framework": "torch", **model, **({"code": code} if "factory" in model else {})}
    with pytest.raises(TaskError, match=said):
        model_spec(Model(**section), schema_of("class"), 0).initial_weights()


def test_a_gpu_that_is_not_there_is_told(code: str, tmp_path: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    examples.write(tmp_path / "train", *table("class", 9, 1), schema_of("class"))
    spec = model_spec(own(code), schema_of("class"), 0)
    spec.export_plan(ClientOptimizer(device="cuda"), IDENTITY, tmp_path / "plan")
    with pytest.raises(TaskError, match=r"learning\.client\.device is cuda, but PyTorch finds no GPU"):
        open_client(tmp_path / "plan", tmp_path)


@pytest.mark.parametrize("loss", [None, "MultiMarginLoss", "torch_factory:focal"])
def test_losses_go_by_name_or_import_path_and_frozen_weights_stay(
    code: str, loss: str | None, tmp_path: Path
) -> None:
    examples.write(tmp_path / "train", *table("class", 60, 1), schema_of("class"))
    examples.write(tmp_path / "test", *table("class", 60, 2), schema_of("class"))
    spec = model_spec(own(code, loss=loss), schema_of("class"), 0)
    spec.export_plan(ClientOptimizer(epochs=20), IDENTITY, tmp_path / "plan")
    client, weights = open_client(tmp_path / "plan", tmp_path), spec.initial_weights()
    assert "frozen" not in weights
    before = client.evaluate(weights)
    delta = client.train(weights, 1).delta
    weights = {name: value - delta[name] for name, value in weights.items()}
    assert client.evaluate(weights)["correct"] > before["correct"]
    x, y = table("class", 60, 2)
    assert (spec.predict(weights, x).argmax(axis=1) == y).sum() == client.evaluate(weights)["correct"]


def test_a_loss_that_raises_is_told(code: str, tmp_path: Path) -> None:
    examples.write(tmp_path / "train", *table("class", 9, 1), schema_of("class"))
    spec = model_spec(own(code, loss="torch_factory:broken"), schema_of("class"), 0)
    spec.export_plan(ClientOptimizer(), IDENTITY, tmp_path / "plan")
    with pytest.raises(TaskError, match="failed in training: RuntimeError: no loss today"):
        open_client(tmp_path / "plan", tmp_path).train(spec.initial_weights(), 1)


SITE = """
import sys; from pathlib import Path
from fededge.learning.frameworks import open_client
from fededge.plan_runner import PlanRunner
folder = Path(sys.argv[1])
ask = {'weights': str(folder / 'weights'), 'update': str(folder / 'update'), 'seed': 1, 'round': 1}
answer = PlanRunner(folder / 'plan', folder, open_client).answer(ask | {'do': 'train'})
assert 'tensorflow' not in sys.modules
print(answer.get('error', ''))
"""


def test_a_site_needs_the_plan_and_the_public_key_only(code: str, tmp_path: Path) -> None:
    from fededge.weights import to_bytes

    examples.write(tmp_path / "train", *table("class", 9, 1), schema_of("class"))
    spec = model_spec(own(code), schema_of("class"), 0)
    spec.export_plan(ClientOptimizer(), IDENTITY, tmp_path / "plan")
    (tmp_path / "weights").write_bytes(to_bytes(spec.initial_weights()))
    home = tmp_path / "home"
    (home / "keys").mkdir(parents=True)
    key = home / "keys" / "release.pub.pem"
    key.write_bytes(public_file(settings.signing_key_file()).read_bytes())

    def answer() -> str:
        variables = os.environ | {"PYTHONPATH": str(ROOT), "FEDEDGE_HOME": str(home)}
        command = [sys.executable, "-c", SITE, str(tmp_path)]
        return subprocess.run(
            command, env=variables, check=True, capture_output=True, text=True
        ).stdout.strip()

    assert answer() == ""
    SigningKey.create(tmp_path / "other.pem").export_public(key)
    assert "is trusted here" in answer()


def test_a_changed_plan_is_refused(code: str, tmp_path: Path) -> None:
    examples.write(tmp_path / "train", *table("class", 9, 1), schema_of("class"))
    model_spec(own(code), schema_of("class"), 0).export_plan(ClientOptimizer(), IDENTITY, tmp_path / "plan")
    bundle = tmp_path / "plan" / f"{code.removeprefix('sha256:')}.zip"
    bundle.write_bytes(bundle.read_bytes().replace(b"no loss today", b"no loss ahead"))
    with pytest.raises(IntegrityError, match="changed or damaged"):
        open_client(tmp_path / "plan", tmp_path)


def test_sites_and_simulation_learn_the_same_in_rounds(code: str, tmp_path: Path) -> None:
    schema, model, names = schema_of("class"), own(code), ["site-0", "site-1"]
    for number, name in enumerate(names):
        examples.write(tmp_path / "clients" / name / "train", *table("class", 40, number), schema)
    pool = [ClientCounts(id=name, train=40, test=1) for name in names]
    learned = []
    for engine in ("simulation", "federated"):
        learning = Learning(engine=engine, cohort=Cohort(size=2))
        spec = model_spec(model, schema, 0)
        spec.export_plan(learning.client, IDENTITY, tmp_path / engine)
        weights = spec.initial_weights()
        with open_engine(model, learning, Operation(), 0, tmp_path / engine, tmp_path / "clients") as opened:
            result = opened.next(weights, opened.initialize(), 1, pool)
        assert result.reported == names
        assert any((result.weights[name] != weights[name]).any() for name in weights)
        learned.append(result.weights)
    for name, value in learned[0].items():
        np.testing.assert_array_equal(value, learned[1][name])


def convolutional(schema: Schema) -> Any:
    from fededge.learning.frameworks.torch.layers import ChannelsFirst

    return nn.Sequential(
        ChannelsFirst(),
        nn.Conv2d(2, 4, 3, padding=1),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Sequential(nn.Conv2d(4, 3, (3, 2), stride=(1, 2), bias=False), nn.Tanh(), nn.AvgPool2d((2, 1))),
        nn.Flatten(),
        nn.Dropout(0.5),
        nn.Linear(6, schema.outputs),
    )


def with_channels_before(schema: Schema) -> Any:
    return nn.Sequential(nn.Conv2d(10, 4, (3, 1)), nn.Sigmoid(), nn.Flatten(), nn.Linear(56, schema.outputs))


def residual(schema: Schema) -> Any:
    """A module of its own, with a shortcut and functions."""

    class Residual(nn.Module):  # type: ignore[name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Conv2d(2, 4, 3, padding="same"), nn.Conv2d(4, 4, 1)
            self.norm, self.last = nn.BatchNorm2d(4), nn.Linear(360, schema.outputs)

        def forward(self, x: Any) -> Any:
            x = torch.relu(self.first(x.permute(0, 3, 1, 2)))
            x = x + self.norm(self.second(x)).tanh()
            return self.last(nn.functional.dropout(torch.flatten(x, 1), 0.1, self.training))

    return Residual()


def own_form(schema: Schema, calculate: Any) -> Any:
    class Own(nn.Module):  # type: ignore[name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.last = nn.Linear(180, schema.outputs)

        def forward(self, x: Any) -> Any:
            return calculate(self.last(x.flatten(1)))

    return Own()


def powers(schema: Schema) -> Any:
    return own_form(schema, lambda x: x**2)


def branching(schema: Schema) -> Any:
    return own_form(schema, lambda x: x if x.sum() > 0 else -x)


def normalized(schema: Schema) -> Any:
    return nn.Sequential(nn.Flatten(), nn.Linear(180, schema.outputs), nn.LayerNorm(schema.outputs))


def image_schema(shape: tuple[int, ...] = (10, 9, 2)) -> Schema:
    return Schema(
        features=[Feature(name="image", dtype="uint8", shape=list(shape))],
        label=Label(kind="class", classes=2),
    )


def spec_of(name: str) -> Any:
    return model_spec(Model(framework="torch", factory=f"{__name__}:{name}"), image_schema(), 0)


@pytest.mark.parametrize("name", ["convolutional", "with_channels_before", "residual"])
def test_every_variant_answers_as_the_module_does(name: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, 120)
    x = rng.integers(0, 200, (120, 10, 9, 2))
    x[:, :5] += 50 * y[:, None, None, None]
    examples.write(tmp_path / "train", x, y, image_schema())
    spec = spec_of(name)
    spec.export_plan(
        ClientOptimizer(epochs=30, optimizer="adam", learning_rate=0.01), IDENTITY, tmp_path / "plan"
    )
    client, weights = open_client(tmp_path / "plan", tmp_path), spec.initial_weights()
    delta = client.train(weights, 1).delta
    weights = {name: value - delta[name] for name, value in weights.items()}
    stored, _ = examples.read(tmp_path / "train", image_schema())
    wanted = spec.predict(weights, stored)
    assert (wanted.argmax(axis=1) == y).mean() > 0.8
    found, names = (
        client.ranges(weights),
        json.loads((tmp_path / "plan" / "plan.json").read_text())["activations"],
    )
    ranges = CalibrationRanges(
        clients=3,
        examples=120,
        ranges=[
            TensorRange(name=n, low=a, high=b) for n, a, b in zip(names, found.low, found.high, strict=True)
        ],
    )
    answering = spec.inference(weights)
    np.testing.assert_allclose(answering(examples.floats(stored)).numpy(), wanted, atol=1e-5)
    for kind in conversion.KINDS:
        answers = litert(conversion.build(answering, kind, ranges), examples.floats(stored))
        assert (answers.argmax(axis=1) == wanted.argmax(axis=1)).mean() > 0.9, kind


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("normalized", "the layer LayerNorm has no Keras form"),
        ("branching", "cannot be traced"),
        ("powers", "pow has no Keras form"),
    ],
)
def test_a_module_without_a_keras_form_has_no_variant_for_litert(name: str, said: str) -> None:
    spec = spec_of(name)
    weights = spec.initial_weights()
    with pytest.raises(VariantError, match=said):
        spec.inference(weights)


def separable(schema: Schema) -> Any:
    from fededge.learning.frameworks.torch.layers import ChannelsFirst

    return nn.Sequential(
        ChannelsFirst(),
        nn.Conv2d(2, 4, 3),
        nn.GroupNorm(2, 4),
        nn.GELU(),
        nn.Conv2d(4, 4, 3, groups=4, bias=False),
        nn.BatchNorm2d(4),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(4, schema.outputs),
    )


def recurrent(schema: Schema) -> Any:
    class Recurrent(nn.Module):  # type: ignore[name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.rows, self.last = nn.GRU(18, 5, batch_first=True), nn.Linear(5, schema.outputs)

        def forward(self, x: Any) -> Any:
            return self.last(self.rows(x.flatten(2))[0][:, -1])

    return Recurrent()


def counting(schema: Schema) -> Any:
    return own_form(schema, lambda x: x * float(len(x)))


def foreign(schema: Schema) -> Any:
    return own_form(schema, lambda x: torch.special.i1(x))


@pytest.mark.parametrize("name", ["separable", "recurrent", "residual", "powers"])
def test_onnx_variants_answer_as_the_module_does(name: str) -> None:
    spec, rng = spec_of(name), np.random.default_rng(1)
    weights = spec.initial_weights()
    x = rng.random((60, 10, 9, 2), np.float32)
    wanted = spec.predict(weights, x)
    file = spec.onnx(weights)
    for kind, tolerance in (("onnx-float32", 1e-5), ("onnx-dynamic-int8", 0.05)):
        built = onnx_conversion.build(file, kind)
        assert built == onnx_conversion.build(file, kind)
        loaded = load_model(built, kind)
        assert loaded.schema == image_schema()
        np.testing.assert_allclose(loaded.predict(x), wanted, atol=tolerance)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("counting", "answers other batches than the traced one"),
        ("foreign", "PyTorch cannot export the model"),
    ],
)
def test_a_module_that_cannot_be_exported_has_no_onnx_variant(
    name: str, said: str, capfd: pytest.CaptureFixture[str]
) -> None:
    spec = spec_of(name)
    with pytest.raises(VariantError, match=said):
        spec.onnx(spec.initial_weights())
    assert capfd.readouterr() == ("", "")


def wine(kind: str, **more: Any) -> FederatedTask:
    content = {
        "name": "a",
        "data": {"source": "sklearn", "name": "wine"},
        "partition": {"kind": "iid"},
        "model": {"framework": "torch", "factory": f"{__name__}:table_with_norm"},
        "variants": [{"kind": kind}],
        **more,
    }
    return FederatedTask.model_validate(content)


def test_the_check_of_a_task_tells_the_runtimes_that_its_model_fits() -> None:
    (found,) = (
        each.found for each in check(wine("onnx-float32")).findings if each.checked.startswith("model")
    )
    assert "variants for ONNX Runtime; the layer LayerNorm has no Keras form" in found


@pytest.mark.parametrize(
    "task",
    [
        wine("float32"),
        wine(
            "onnx-float32", variants=[{"kind": "float32"}, {"kind": "onnx-float32"}], devices=[{"name": "d"}]
        ),
        wine(
            "onnx-float32", variants=[{"kind": "float32"}, {"kind": "onnx-float32"}], endpoint={"name": "e"}
        ),
    ],
    ids=["variants", "devices", "endpoint"],
)
def test_the_check_of_a_task_finds_variants_that_it_needs_and_the_model_cannot_have(
    task: FederatedTask,
) -> None:
    with pytest.raises(
        VariantError, match=r"the layer LayerNorm has no Keras form.*It has variants of kind onnx"
    ):
        check(task)


def table_with_norm(schema: Schema) -> Any:
    return nn.Sequential(nn.Linear(schema.encoded_shape[0], schema.outputs), nn.LayerNorm(schema.outputs))


def litert(model: bytes, x: np.ndarray) -> np.ndarray:
    import tensorflow as tf

    interpreter = tf.lite.Interpreter(model_content=model)
    (source,), (target,) = interpreter.get_input_details(), interpreter.get_output_details()
    interpreter.resize_tensor_input(source["index"], x.shape)
    interpreter.allocate_tensors()
    interpreter.set_tensor(source["index"], x)
    interpreter.invoke()
    return interpreter.get_tensor(target["index"])
