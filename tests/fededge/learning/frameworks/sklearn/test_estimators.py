"""What a task may ask of scikit-learn, and what its models are elsewhere."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fededge import examples
from fededge.delivery.variants import conversion
from fededge.documents import CalibrationRanges, Feature, Label, Schema, TensorRange
from fededge.errors import DocumentError, TaskError
from fededge.learning.data.checking import check
from fededge.learning.frameworks import model_spec, open_client
from fededge.learning.frameworks.sklearn.work import Work
from fededge.task import ClientOptimizer, FederatedTask, Model
from tests.fededge.learning.frameworks.conformance import IDENTITY, schema_of, table

pytestmark = pytest.mark.environment("worker")
ROOT = Path(__file__).parents[5]


@pytest.mark.parametrize(
    ("model", "kind", "said"),
    [
        ({}, "class", "needs model.name: use SGDClassifier"),
        ({"name": "RandomForestClassifier"}, "class", "no estimator that learns from many clients: use SGD"),
        (
            {"name": "SGDRegressor"},
            "class",
            "learns labels of kind number, not class: use SGDClassifier or MLP",
        ),
        ({"name": "SGDRegressor"}, "numbers", "gives one number, not 2: use MLPRegressor"),
        ({"name": "MLPClassifier"}, "sequence", "not sequence: use Keras"),
        (
            {"name": "SGDClassifier", "arguments": {"eta0": 1.0}},
            "class",
            "model.arguments.eta0 .* takes loss,",
        ),
        ({"name": "SGDClassifier", "arguments": {"alpha": "x"}}, "class", "refuses its arguments: .*alpha"),
        ({"name": "SGDClassifier", "loss": "nonsense"}, "class", "refuses its arguments: .*loss"),
        ({"name": "MLPClassifier", "loss": "hinge"}, "class", "MLPClassifier has its own loss"),
        (
            {"name": "LogisticRegression", "arguments": {"penalty": "l1"}},
            "class",
            "refuses its arguments: .*l1",
        ),
    ],
)
def test_what_an_estimator_cannot_do_is_told(model: dict[str, Any], kind: str, said: str) -> None:
    with pytest.raises(TaskError, match=said):
        model_spec(Model(framework="sklearn", **model), schema_of(kind), 0)


@pytest.mark.parametrize(
    ("name", "work", "key"),
    [
        ("SGDClassifier", {"optimizer": "adam"}, "optimizer adam"),
        ("LogisticRegression", {"learning_rate": 0.1}, "learning_rate 0.1"),
        ("LogisticRegression", {"batch_size": 8}, "batch_size 8"),
    ],
)
def test_client_work_that_an_estimator_cannot_honor_is_refused(
    name: str, work: dict[str, Any], key: str, tmp_path: Path
) -> None:
    spec = model_spec(Model(framework="sklearn", name=name), schema_of("class"), 0)
    with pytest.raises(TaskError, match=rf"learning\.client\.{key} goes with no {name}"):
        spec.export_plan(ClientOptimizer(**work), IDENTITY, tmp_path)


def test_the_check_of_a_task_finds_a_model_that_does_not_fit() -> None:
    def task(name: str, **client: Any) -> FederatedTask:
        content = {
            "name": "a",
            "data": {"source": "sklearn", "name": "wine"},
            "partition": {"kind": "iid"},
            "model": {"framework": "sklearn", "name": name},
            "learning": {"client": client},
        }
        return FederatedTask.model_validate(content)

    found = {finding.checked: finding.found for finding in check(task("SGDClassifier")).findings}
    assert found["model SGDClassifier"] == "42 numbers in 2 tensors; variants for LiteRT and ONNX Runtime"
    with pytest.raises(TaskError, match="learns labels of kind number"):
        check(task("SGDRegressor"))
    with pytest.raises(TaskError, match="optimizer adam"):
        check(task("SGDClassifier", optimizer="adam"))


FACTORY = """
from sklearn.linear_model import SGDClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.ensemble import RandomForestClassifier

def network(schema, units=(4,)): return MLPClassifier(hidden_layer_sizes=units, activation="tanh")
def stateful(schema): return SGDClassifier(average=True)
def forest(schema): return RandomForestClassifier()
class Own(SGDClassifier): pass
def own(schema): return Own()
"""


def test_a_factory_gives_an_estimator_and_clients_need_no_code(tmp_path: Path) -> None:
    (tmp_path / "sklearn_factory.py").write_text(FACTORY)

    def spec(name: str, **arguments: Any) -> Any:
        model = Model(
            framework="sklearn", factory=f"sklearn_factory:{name}", code=str(tmp_path), arguments=arguments
        )
        return model_spec(model, schema_of("class"), 0)

    spec("network", units=[7, 3]).export_plan(ClientOptimizer(), IDENTITY, tmp_path)
    work = json.loads((tmp_path / "work.json").read_text())
    assert work["estimator"] == "MLPClassifier"
    assert work["arguments"] == {"activation": "tanh", "hidden_layer_sizes": [7, 3]}
    with pytest.raises(TaskError, match="average is nothing that SGDClassifier takes here"):
        spec("stateful")
    with pytest.raises(TaskError, match="RandomForestClassifier is no estimator"):
        spec("forest")
    with pytest.raises(TaskError, match="Own is no estimator"):
        spec("own")


def test_a_plan_with_other_work_than_it_says_is_refused(tmp_path: Path) -> None:
    examples.write(tmp_path / "train", *table("class", 9, 1), schema_of("class"))
    spec = model_spec(Model(framework="sklearn", name="SGDClassifier"), schema_of("class"), 0)
    spec.export_plan(ClientOptimizer(), IDENTITY, tmp_path / "plan")
    work = Work.read(tmp_path / "plan" / "work.json")
    work.model_copy(update={"estimator": "os.system"}).write(tmp_path / "plan" / "work.json")
    client = open_client(tmp_path / "plan", tmp_path)
    with pytest.raises(TaskError, match=r"os\.system is no estimator"):
        client.train(spec.initial_weights(), 0)
    (tmp_path / "plan" / "work.json").write_text('{"format": "fededge-sklearn-work-1", "estimator": 1}')
    with pytest.raises(DocumentError, match="no sklearn-work"):
        open_client(tmp_path / "plan", tmp_path)


def test_a_site_learns_without_tensorflow(tmp_path: Path) -> None:
    examples.write(tmp_path / "train", *table("class", 40, 1), schema_of("class"))
    examples.write(tmp_path / "test", *table("class", 9, 2), schema_of("class"))
    spec = model_spec(Model(framework="sklearn", name="SGDClassifier"), schema_of("class"), 0)
    spec.export_plan(ClientOptimizer(), IDENTITY, tmp_path / "plan")
    code = (
        "import sys; from pathlib import Path\n"
        "from fededge.learning.frameworks import open_client\n"
        "from fededge.plan_runner import PlanRunner\n"
        "from fededge.weights import to_bytes; import numpy as np\n"
        "folder = Path(sys.argv[1])\n"
        "weights = {'coef': np.zeros((3, 5), np.float32), 'intercept': np.zeros(3, np.float32)}\n"
        "(folder / 'weights').write_bytes(to_bytes(weights))\n"
        "site = PlanRunner(folder / 'plan', folder, open_client)\n"
        "ask = {'weights': str(folder / 'weights'), 'update': str(folder / 'update'), 'seed': 1, 'round': 1}\n"
        "assert site.answer(ask | {'do': 'train'}) == {}\n"
        "assert site.answer(ask | {'do': 'evaluate'})['counts']['examples'] == 9\n"
        "assert site.answer(ask | {'do': 'ranges'})['ranges']['examples'] == 40\n"
        "assert 'tensorflow' not in sys.modules\n"
    )
    own = os.environ | {"PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], env=own, check=True)


def litert(model: bytes, x: np.ndarray) -> np.ndarray:
    import tensorflow as tf

    interpreter = tf.lite.Interpreter(model_content=model)
    (source,), (target,) = interpreter.get_input_details(), interpreter.get_output_details()
    interpreter.resize_tensor_input(source["index"], x.shape)
    interpreter.allocate_tensors()
    interpreter.set_tensor(source["index"], x)
    interpreter.invoke()
    return interpreter.get_tensor(target["index"])


@pytest.mark.parametrize("name", ["SGDClassifier", "MLPClassifier"])
def test_every_variant_answers_as_the_estimator_does(name: str, tmp_path: Path) -> None:
    schema = Schema(
        features=[Feature(name="image", dtype="uint8", shape=[4, 4, 1])], label=Label(kind="class", classes=2)
    )
    rng = np.random.default_rng(0)
    x = rng.integers(0, 256, (200, 4, 4, 1))
    y = rng.integers(0, 2, 200)
    x[:, 0] = np.where(y[:, None, None], x[:, 0] // 2 + 128, x[:, 0] // 2)
    examples.write(tmp_path / "train", x, y, schema)
    spec = model_spec(Model(framework="sklearn", name=name), schema, 0)
    spec.export_plan(ClientOptimizer(epochs=20), IDENTITY, tmp_path / "plan")
    client, weights = open_client(tmp_path / "plan", tmp_path), spec.initial_weights()
    update = client.train(weights, 1)
    weights = {name: value - update.delta[name] for name, value in weights.items()}
    found = client.ranges(weights)
    names = json.loads((tmp_path / "plan" / "plan.json").read_text())["activations"]
    ranges = CalibrationRanges(
        clients=3,
        examples=200,
        ranges=[
            TensorRange(name=n, low=a, high=b) for n, a, b in zip(names, found.low, found.high, strict=True)
        ],
    )
    stored, _ = examples.read(tmp_path / "train", schema)
    wanted = spec.predict(weights, stored)
    assert (wanted.argmax(axis=1) == y).mean() > 0.9
    for kind in conversion.KINDS:
        built = conversion.build(spec.inference(weights), kind, ranges)
        answers = litert(built, examples.floats(stored))
        assert (answers.argmax(axis=1) == wanted.argmax(axis=1)).mean() > 0.97, kind
