"""A model version as MLflow's pyfunc: its signature, what it takes, and its answers where FedEdge is not installed."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.models import Model as MlflowModel

from fededge import encoding, model_files, named, settings
from fededge.delivery import pyfunc
from fededge.delivery.pyfunc import answering
from fededge.delivery.variants import conversion
from fededge.documents import Feature, Label, Schema
from fededge.host.layout import UV, VENVS
from fededge.learning.frameworks import model_spec
from fededge.task import Model
from tests.test_house import pins

pytestmark = pytest.mark.environment("worker")
IMAGES = Path(__file__).resolve().parents[3] / "images"

TABLE = Schema(
    features=[
        Feature(name="age", dtype="float32", shape=[], unit="years", mean=40.0, std=10.0),
        Feature(name="job", dtype="int64", shape=[], categories=["cook", "smith", "missing"], missing=2.0),
        Feature(name="member", dtype="bool", shape=[]),
        Feature(
            name="since", dtype="float32", shape=[], unit="days", missing=0.0, log=30.0, mean=2.0, std=1.5
        ),
    ],
    label=Label(kind="class", classes=2, names=["stays", "leaves"]),
)
IMAGE = Schema(
    features=[Feature(name="image", dtype="uint8", shape=[28, 28, 1])], label=Label(kind="class", classes=10)
)
FRAME = pd.DataFrame(
    {
        "age": [31, 58, 44],
        "job": ["smith", None, "cook"],
        "member": [True, False, True],
        "since": pd.to_datetime(["1970-01-02 00:00", "1970-01-01 12:00", None]),
    },
    index=[7, 3, 5],
)


def labeled(schema: Schema, **label: Any) -> Schema:
    return schema.model_copy(update={"label": Label(**label)})


def content(schema: Schema) -> tuple[Any, Any]:
    made = schema.to_content()
    return made["features"], made["label"]


def saved(folder: Path, schema: Schema, model: Model) -> MlflowModel:
    """Saves a model of random weights of which float16 and float32 were built."""
    spec = model_spec(model, schema, 3)
    answers = spec.inference(spec.initial_weights())
    kinds = ["float16", "float32"]
    for kind in kinds:
        built = model_files.with_schema(conversion.build(answers, kind), schema)
        (folder / "variants").mkdir(parents=True, exist_ok=True)
        (folder / "variants" / kind).write_bytes(built)
    assert pyfunc.save(folder / "model", schema, folder / "variants", kinds, "tiny") == "float32"
    return MlflowModel.load(str(folder / "model"))


def test_a_table_is_signed_by_its_columns_and_answers(tmp_path: Path) -> None:
    model = saved(tmp_path, TABLE, Model(name="mlp"))
    takes, gives = model.signature.inputs, model.signature.outputs
    assert takes.input_names() == ["age", "job", "member", "since"]
    assert takes.required_input_names() == ["age", "member"]
    assert gives.input_names() == ["label", "stays", "leaves"]
    assert model.signature.params is None
    facts: Any = (model.metadata or {})["fededge"]
    assert facts["variant"] == "float32"
    assert facts["units"] == {"age": "years", "since": "days"}
    example: Any = model.load_input_example(str(tmp_path / "model"))
    assert example["job"].tolist() == ["cook", "smith"]
    assert example["age"].tolist() == [40.0, 50.0]


def test_an_image_is_signed_as_a_tensor_by_its_name(tmp_path: Path) -> None:
    model = saved(tmp_path, IMAGE, Model(name="cnn"))
    (tensor,) = model.signature.inputs.inputs
    assert (tensor.name, tensor.type, tensor.shape) == ("image", np.uint8, (-1, 28, 28, 1))
    assert model.signature.outputs.input_names() == ["label", *map(str, range(10))]


def test_the_folder_holds_no_pickle_and_asks_for_pinned_packages_alone(tmp_path: Path) -> None:
    saved(tmp_path, IMAGE, Model(name="cnn"))
    files = {str(f.relative_to(tmp_path / "model")) for f in (tmp_path / "model").rglob("*") if f.is_file()}
    assert files == {
        *("MLmodel", "answering.py", "artifacts/schema.json", "artifacts/variant.tflite", "conda.yaml"),
        *("input_example.json", "python_env.yaml", "requirements.txt", "serving_input_example.json"),
    }
    packages = (tmp_path / "model" / "requirements.txt").read_text().split()
    assert packages == [*pyfunc.REQUIREMENTS, pyfunc.RUNTIMES["litert"]]
    assert "import fededge" not in pyfunc.CODE.read_text()
    assert "from fededge" not in pyfunc.CODE.read_text()


def test_the_packages_are_those_of_the_environments_of_this_release() -> None:
    locked = {name: pins(IMAGES / name / "requirements.lock") for name in ("platform", "edge", "worker")}
    wanted = dict(pin.split("==") for pin in (*pyfunc.REQUIREMENTS, *pyfunc.RUNTIMES.values()))
    assert wanted["ai-edge-litert"] == locked["edge"]["ai-edge-litert"]
    assert wanted["numpy"] == locked["edge"]["numpy"]
    assert wanted["onnxruntime"] == locked["worker"]["onnxruntime"]
    assert wanted["mlflow"] == locked["platform"]["mlflow"]


def test_an_onnx_variant_answers_where_no_other_was_built(tmp_path: Path) -> None:
    spec = model_spec(Model(framework="sklearn", name="MLPClassifier"), TABLE, 3)
    weights, kind = spec.initial_weights(), "onnx-float32"
    (tmp_path / "variants").mkdir()
    (tmp_path / "variants" / kind).write_bytes(spec.onnx(weights))
    assert pyfunc.save(tmp_path / "model", TABLE, tmp_path / "variants", [kind], "tiny") == kind
    assert (tmp_path / "model" / "artifacts" / "variant.onnx").exists()
    assert pyfunc.RUNTIMES["onnx"] in (tmp_path / "model" / "requirements.txt").read_text().split()
    found = mlflow.pyfunc.load_model(str(tmp_path / "model")).predict(FRAME)
    days = [1.0, 0.5, None]
    rows = [{**row, "since": since} for row, since in zip(FRAME.to_dict("records"), days, strict=True)]
    x = named.examples(rows, TABLE)
    np.testing.assert_allclose(found[["stays", "leaves"]], spec.predict(weights, x), atol=1e-6)


numbers = st.floats(-1e6, 1e6, width=32)
rows = st.lists(
    st.fixed_dictionaries(
        {
            "age": numbers,
            "job": st.sampled_from(["cook", "smith", "missing", None]),
            "member": st.booleans(),
            "since": st.none() | numbers,
        }
    ),
    min_size=1,
    max_size=5,
)


@given(rows)
def test_a_frame_is_encoded_as_an_endpoint_encodes_records(records: list[dict[str, Any]]) -> None:
    features, _ = content(TABLE)
    x = answering.examples(features, pd.DataFrame(records))
    np.testing.assert_array_equal(x, named.examples(records, TABLE))
    np.testing.assert_array_equal(answering.encode(features, x), encoding.encode(TABLE, x))


def test_whole_numbers_words_truth_values_and_times_of_a_frame_are_taken() -> None:
    x = answering.examples(content(TABLE)[0], FRAME)
    assert x.tolist() == [[31, 1, 1, 1], [58, 2, 0, 0.5], [44, 0, 1, 0]]
    words = FRAME.assign(since=["1970-01-02", "1970-01-01 12:00", None], job=FRAME["job"].astype("category"))
    np.testing.assert_array_equal(answering.examples(content(TABLE)[0], words), x)
    np.testing.assert_array_equal(answering.examples(content(TABLE)[0], FRAME.drop(columns="job"))[:, 1], 2)


def test_levels_are_scaled_and_arrays_may_be_flat() -> None:
    features, _ = content(IMAGE)
    levels = np.random.default_rng(0).integers(0, 256, (4, 28, 28, 1), np.uint8)
    scaled = answering.examples(features, levels)
    np.testing.assert_array_equal(scaled, np.divide(levels, np.float32(255), dtype=np.float32))
    for frame in ({"image": list(levels)}, {"image": [level.ravel().tolist() for level in levels]}):
        np.testing.assert_array_equal(answering.examples(features, pd.DataFrame(frame)), scaled)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"job": "king"}, "job is 'king', which is none of its 3 categories: cook, smith, missing"),
        ({"age": [1.0, None, 2.0]}, "age is missing in 1 of 3 examples"),
        ({"age": "old"}, "age holds .*give numbers"),
        ({"age": 1e300}, "age holds infinite values, or values beyond float32"),
        ({"since": "someday"}, "since holds .*give numbers"),
    ],
)
def test_a_value_that_a_feature_cannot_have_is_named(change: dict[str, Any], message: str) -> None:
    with pytest.raises(MlflowException, match=message) as caught:
        answering.examples(content(TABLE)[0], FRAME.assign(**change))
    assert caught.value.get_http_status_code() == 400


def test_no_examples_and_arrays_without_names_are_refused() -> None:
    with pytest.raises(MlflowException, match="no examples"):
        answering.examples(content(TABLE)[0], FRAME[:0])
    with pytest.raises(MlflowException, match="a column for each"):
        answering.examples(content(TABLE)[0], np.zeros((2, 4)))
    with pytest.raises(MlflowException, match=r"no array of shape \[28, 28, 1\]"):
        answering.examples(content(IMAGE)[0], {"image": np.zeros((2, 5))})


OUTPUTS = np.array([[0.25, 0.75, 0.5, 0.125], [0.5, 0.125, 0.0, 1.0]], np.float32)


@pytest.mark.parametrize(
    ("label", "rows"),
    [
        (
            {"kind": "class", "classes": 4, "names": ["a", "b", "c", "label"]},
            [{"label": "b", "a": 0.25, "b": 0.75, "c": 0.5, "label:class": 0.125}],
        ),
        ({"kind": "multi-label", "classes": 4}, [{"0": 0.25, "1": 0.75, "2": 0.5, "3": 0.125}]),
        (
            {"kind": "number", "shape": [4], "name": "load"},
            [{"load:0": 0.25, "load:1": 0.75, "load:2": 0.5, "load:3": 0.125}],
        ),
        ({"kind": "sequence", "classes": 2, "shape": [2]}, [{"step:0": "1", "step:1": "0"}]),
    ],
    ids=lambda value: value["kind"] if isinstance(value, dict) else "",
)
def test_answers_are_named_by_kind_of_label(label: dict[str, Any], rows: list[Any]) -> None:
    features, written = content(labeled(TABLE, **label))
    found = answering.answers(features, written, np.zeros((2, 4), np.float32), OUTPUTS, [4, 9])
    assert found.index.tolist() == [4, 9]
    assert found.columns.tolist() == answering.output_names(features, written)
    assert found.iloc[:1].to_dict("records") == rows


def test_one_number_has_the_name_of_the_label() -> None:
    features, label = content(labeled(TABLE, kind="number", name="load", unit="kW"))
    assert answering.output_names(features, label) == ["load"]
    assert label["unit"] == "kW"


def test_a_reconstruction_comes_with_its_error_over_the_encoded_features() -> None:
    schema = labeled(TABLE, kind="none")
    features, label = content(schema)
    x = answering.examples(features, FRAME)
    outputs = encoding.encode(schema, x)
    outputs[1, 0] += 2
    found = answering.answers(features, label, x, outputs)
    assert found.columns.tolist() == [
        "error",
        "age",
        "job=cook",
        "job=smith",
        "job=missing",
        "member",
        "since",
    ]
    np.testing.assert_allclose(found["error"], [0, 4 / 6, 0], rtol=1e-6)


LOADED = """
import sys, mlflow, numpy as np, pandas as pd
assert "fededge" not in sys.modules
x = np.load(sys.argv[2])
given = x if x.ndim > 2 else pd.read_json(sys.argv[3], orient="split")
answer = mlflow.pyfunc.load_model(sys.argv[1]).predict(given)
np.save(sys.argv[4], answer.drop(columns="label").to_numpy())
print(answer["label"].tolist())
"""
REGISTERED = """
import sys, numpy as np
from pathlib import Path
from fededge.inference import load_model
np.save(sys.argv[3], load_model(Path(sys.argv[1]).read_bytes()).predict(np.load(sys.argv[2])))
"""


@pytest.mark.slow
@pytest.mark.skipif(not UV.exists(), reason="no uv: `make setup` installs it")
@pytest.mark.timeout(900)
def test_a_champion_answers_bit_for_bit_in_the_environment_that_mlflow_builds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free_port: int
) -> None:
    monkeypatch.setenv("MLFLOW_ENV_ROOT", str(tmp_path / "environments"))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", settings.tracking_uri())
    monkeypatch.setenv("PATH", f"{UV.parent}:{os.environ['PATH']}")
    for name in ("FEDEDGE_TEST_ENVIRONMENT", "PYTHONPATH"):
        monkeypatch.delenv(name, raising=False)
    levels = np.random.default_rng(0).integers(0, 256, (120, 28, 28, 1), np.uint8)
    cases = {"table": (TABLE, "mlp"), "image": (IMAGE, "cnn")}
    client = MlflowClient(settings.tracking_uri(), settings.tracking_uri())
    for name, (schema, model) in cases.items():
        saved(tmp_path / name, schema, Model(name=model))
        champion(client, name, tmp_path / name / "model")
    frame = FRAME.drop(columns="since")
    frame.to_json(tmp_path / "frame.json", orient="split")
    mlflow = Path(sys.executable).with_name("mlflow")
    served = ["-m", "models:/table@champion", "--env-manager", "uv"]
    prepared = run([mlflow, "models", "prepare-env", *served], tmp_path)
    assert prepared.returncode == 0, prepared.stderr
    (python,) = (tmp_path / "environments").rglob("bin/python")
    given = {
        "table": answering.examples(content(TABLE)[0], frame),
        "image": levels,
    }
    for name, x in given.items():
        np.save(tmp_path / f"{name}.npy", x)
        np.save(
            tmp_path / f"{name}-x.npy", answering.examples(content(cases[name][0])[0], x) if x.ndim > 2 else x
        )
        found, wanted = tmp_path / f"{name}-found.npy", tmp_path / f"{name}-wanted.npy"
        arguments = [f"models:/{name}@champion", tmp_path / f"{name}.npy", tmp_path / "frame.json", found]
        loaded = run([python, "-c", LOADED, *arguments], tmp_path)
        assert loaded.returncode == 0, loaded.stderr
        variant = tmp_path / name / "variants" / "float32"
        edge = VENVS / "edge" / "bin" / "python"
        told = run([edge, "-c", REGISTERED, variant, tmp_path / f"{name}-x.npy", wanted], IMAGES.parent)
        assert told.returncode == 0, told.stderr
        assert np.load(found).dtype == np.float32
        np.testing.assert_array_equal(np.load(found), np.load(wanted))
    serve = [mlflow, "models", "serve", *served, "--port", str(free_port)]
    with serving(serve, free_port) as ask:
        answers = ask({"dataframe_split": json.loads((tmp_path / "frame.json").read_text())})
    wanted = np.load(tmp_path / "table-wanted.npy")
    assert [row.pop("label") for row in answers] == [
        TABLE.label.names[place] for place in wanted.argmax(axis=1)
    ]
    np.testing.assert_allclose([list(row.values()) for row in answers], wanted, rtol=1e-6)


@contextlib.contextmanager
def serving(command: list[Any], port: int) -> Iterator[Callable[[Any], Any]]:
    """Runs MLflow's server; gives what asks it."""

    def ask(content: Any) -> Any:
        request = urllib.request.Request(
            f"http://127.0.0.1:{port}/invocations",
            json.dumps(content).encode(),
            {"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)["predictions"]

    process = subprocess.Popen([str(part) for part in command], start_new_session=True)
    try:
        for _ in range(600):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                break
            assert process.poll() is None
            time.sleep(0.2)
        yield ask
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def champion(client: MlflowClient, name: str, folder: Path) -> None:
    """Registers `folder` as the champion `name`, as register_model does."""
    run_id = client.create_run(client.create_experiment(name, (folder.parent / "store").as_uri())).info.run_id
    client.log_artifacts(run_id, str(folder), "model")
    source = f"{client.get_run(run_id).info.artifact_uri}/model"
    client.create_registered_model(name)
    client.set_registered_model_alias(
        name, "champion", client.create_model_version(name, source, run_id).version
    )


def run(command: list[Any], folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(part) for part in command], cwd=folder, capture_output=True, text=True)
