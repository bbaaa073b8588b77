"""The code of a model version in MLflow: it answers a frame, or arrays, with one variant of the version.

MLflow keeps a copy of this file with the version ("models from code": nothing is pickled) and runs it where FedEdge
is not installed. So it imports nothing of FedEdge, and what an example looks like comes from the version's
schema.json. Encoding, batches and threads are those of fededge.inference: answers are equal bit for bit.
"""

import json
import math
import os
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.models import set_model
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE
from mlflow.pyfunc.model import PythonModel

BATCH = 50
"""Examples at once, as in fededge.inference."""
EPOCH, DAY = pd.Timestamp(0, tz="UTC"), pd.Timedelta(days=1)
Content = dict[str, Any]
Run = Callable[[np.ndarray], np.ndarray]
"""Of a batch, float32 [n, *shape], to outputs float32 [n, outputs]."""


class VariantModel(PythonModel):
    """Loads `variant`, a LiteRT or an ONNX file, and `schema`, from the artifacts of the version."""

    def load_context(self, context: Any) -> None:
        """See MLflow."""
        with open(context.artifacts["schema"], encoding="utf-8") as file:
            schema = json.load(file)
        self._features, self._label = schema["features"], schema["label"]
        file = context.artifacts["variant"]
        self._batch = _onnx(file) if file.endswith(".onnx") else _litert(file)
        self._turn = threading.Lock()

    def predict(self, context: Any, model_input: pd.DataFrame, params: Content | None = None) -> pd.DataFrame:
        """One row of answers for each example.

        Args:
            context: of MLflow.
            model_input: a frame with a column a feature; or arrays by feature, or the array of the only feature
                (MLflow knows no type for all of them, and leaves what comes with this one alone).
            params: none.

        Raises:
            MlflowException: a value is missing, or none that the feature can have.
        """
        x = examples(self._features, model_input)
        outputs = self._run(x)
        index = model_input.index if isinstance(model_input, pd.DataFrame) else None
        return answers(self._features, self._label, x, outputs, index)

    def _run(self, x: np.ndarray) -> np.ndarray:
        with self._turn:
            made = [self._batch(x[start : start + BATCH]) for start in range(0, len(x), BATCH)]
        return np.concatenate(made)


def _litert(file: str) -> Run:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=file, num_threads=1)

    def run(x: np.ndarray) -> np.ndarray:
        place = interpreter.get_input_details()[0]
        if tuple(place["shape"]) != x.shape:
            interpreter.resize_tensor_input(place["index"], x.shape)
        interpreter.allocate_tensors()
        interpreter.set_tensor(place["index"], x)
        interpreter.invoke()
        found: np.ndarray = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
        return found

    return run


def _onnx(file: str) -> Run:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", os.devnull)
    with open(file, "rb") as content:  # the whole model: no file beside it is read
        session = onnxruntime.InferenceSession(content.read(), options, providers=["CPUExecutionProvider"])

    def run(x: np.ndarray) -> np.ndarray:
        (found,) = session.run(None, {session.get_inputs()[0].name: x})
        answers: np.ndarray = found
        return answers

    return run


def examples(features: list[Content], given: Any) -> np.ndarray:
    """What a variant takes, float32 [n, *shape], of what `predict` is given."""
    only = features[0] if len(features) == 1 else None
    if isinstance(given, np.ndarray):
        if only is None:
            raise mistake("an array alone does not name its features: give a frame with a column for each")
        given = {only["name"]: given}
    count = len(given) if isinstance(given, pd.DataFrame) else len(next(iter(given.values()), ()))
    if not count:
        raise mistake("there are no examples: give at least one")
    columns = [_column(feature, given, count) for feature in features]
    if only is None:
        return np.concatenate([column.reshape(count, -1) for column in columns], axis=1)
    x = columns[0].reshape(count, *(only["shape"] or [1]))
    return x / np.float32(255) if only["dtype"] == "uint8" else x


def encode(features: list[Content], x: np.ndarray) -> np.ndarray:
    """What a model sees of examples x, float32 [n, w]: numbers standardized, a category as one of as many."""
    made, at, flat = [], 0, x.reshape(len(x), -1)
    for feature in features:
        words = len(feature["categories"])
        size = math.prod(feature["shape"])
        values = flat[:, at : at + size]
        if words:
            made.append((values[:, :, None] == np.arange(words)).reshape(len(x), -1).astype(np.float32))
        else:
            if log := feature["log"]:
                values = np.sign(values) * np.log1p(np.abs(values) / np.float32(log))
            mean, std = ((feature["mean"] or 0.0), feature["std"]) if feature["std"] else (0.0, 1.0)
            made.append((values - np.float32(mean)) / np.float32(std))
        at += size
    return np.concatenate(made, axis=1)


def answers(
    features: list[Content], label: Content, x: np.ndarray, outputs: np.ndarray, index: Any = None
) -> pd.DataFrame:
    """A row of answers for each of the outputs, float32 [n, outputs]; columns as `output_names` says."""
    names = output_names(features, label)
    classes = np.array(class_names(label), object)
    if label["kind"] == "sequence":
        best = outputs.reshape(len(outputs), *label["shape"], label["classes"]).argmax(axis=2)
        return pd.DataFrame(classes[best], index, names)
    if label["kind"] == "class":
        made = pd.DataFrame(outputs, index, names[1:])
        made.insert(0, names[0], classes[outputs.argmax(axis=1)])
        return made
    if label["kind"] == "none":
        made = pd.DataFrame(outputs, index, names[1:])
        made.insert(0, names[0], ((encode(features, x) - outputs) ** 2).mean(axis=1))
        return made
    return pd.DataFrame(outputs, index, names)


def class_names(label: Content) -> list[str]:
    """Names of the classes; their numbers where they have none."""
    return label["names"] or [str(number) for number in range(label["classes"])]


def output_names(features: list[Content], label: Content) -> list[str]:
    """The columns of an answer.

    | kind of label | columns |
    |---|---|
    | class | label (a name), then the probability of each class, by its name |
    | multi-label | the probability of each label, by its name |
    | number | the number by its name (`value` without one); with several, name:0, name:1 ... |
    | sequence | step:0, step:1 ...: the name of the class at each step |
    | none | error, then what the model made of each encoded feature: name, name:0 ... or name=word |
    """
    kind, name = label["kind"], label["name"] or "value"
    if kind == "class":
        return ["label", *(f"{each}:class" if each == "label" else each for each in class_names(label))]
    if kind == "multi-label":
        return class_names(label)
    if kind == "sequence":
        return [f"step:{number}" for number in range(label["shape"][0])]
    if kind == "number":
        count = math.prod(label["shape"])
        return [name] if count == 1 else [f"{name}:{number}" for number in range(count)]
    made = ["error"]
    for feature in features:
        name = f"{feature['name']}:feature" if feature["name"] == "error" else feature["name"]
        places = [f"{name}:{n}" for n in range(math.prod(feature["shape"]))] if feature["shape"] else [name]
        words = feature["categories"]
        made += [f"{place}={word}" for place in places for word in words] if words else places
    return made


def mistake(message: str) -> MlflowException:
    """The error of a request that cannot be answered; MLflow's server answers it with status 400."""
    return MlflowException(message, error_code=INVALID_PARAMETER_VALUE)


def _column(feature: Content, given: Any, count: int) -> np.ndarray:
    """float32 [count, size] of one feature, with what stands where nothing was given."""
    name, size = feature["name"], math.prod(feature["shape"])
    if name not in given:
        values = np.full((count, size), np.nan)
    else:
        values = _values(feature, given[name], count, size)
    if feature["missing"] is not None:
        values = np.where(np.isnan(values), feature["missing"], values)
    elif np.isnan(values).any():
        empty = int(np.isnan(values).any(axis=1).sum())
        raise mistake(f"{name} is missing in {empty:,} of {count:,} examples: give it a value in each")
    with np.errstate(over="ignore"):
        made = values.astype(np.float32)
    if not np.isfinite(made).all():
        raise mistake(f"{name} holds infinite values, or values beyond float32: give finite numbers")
    return made


def _values(feature: Content, column: Any, count: int, size: int) -> np.ndarray:
    """float64 [count, size], NaN where nothing was given."""
    name, shape = feature["name"], feature["shape"]
    if shape:
        try:
            cells = [np.asarray(cell).reshape(size) for cell in column]
            flat = pd.Series(np.concatenate(cells))
        except (TypeError, ValueError) as error:
            raise mistake(f"an example's {name} is no array of shape {shape}: give one for each") from error
    else:
        flat = pd.Series(np.asarray(column).ravel() if isinstance(column, np.ndarray) else column)
        if len(flat) != count:
            raise mistake(f"{name} has {len(flat):,} values for {count:,} examples: give one for each")
    found = _places(feature, flat) if feature["categories"] else _numbers(feature, flat)
    return found.reshape(count, size)


def _places(feature: Content, words: pd.Series) -> np.ndarray:
    places = {word: place for place, word in enumerate(feature["categories"])}
    found = words.map(lambda word: places.get(str(word), -1), na_action="ignore").astype(object)
    values = np.array([np.nan if pd.isna(place) else place for place in found], np.float64)
    if (values == -1).any():
        wrong = str(words[found == -1].iloc[0])[:60]
        raise mistake(
            f"{feature['name']} is {wrong!r}, which is none of its {len(places)} categories: "
            f"{', '.join(places)[:200]}"
        )
    return values


def _numbers(feature: Content, values: pd.Series) -> np.ndarray:
    try:
        if feature["unit"] == "days" and not pd.api.types.is_numeric_dtype(values.dtype):
            times = pd.to_datetime(values, utc=True, format="ISO8601")
            return ((times - EPOCH) / DAY).to_numpy(np.float64, na_value=np.nan)
        return pd.to_numeric(values).to_numpy(np.float64, na_value=np.nan)
    except (TypeError, ValueError) as error:
        raise mistake(f"{feature['name']} holds {str(error)[:100]!r}: give numbers") from error


set_model(VariantModel())
