"""Answers by name for each kind of label, and the schema that a model file carries."""

import io
import zipfile

import numpy as np
import pytest

from fededge import named
from fededge.documents import Feature, Label, Schema
from fededge.errors import RequestError, VariantError
from fededge.model_files import schema_of, with_schema

pytestmark = pytest.mark.environment("edge", "platform", "serving", "worker")
PAIR = [Feature(name="a", dtype="float32", shape=[2])]


def told(label: Label, outputs: list[list[float]]) -> list[dict[str, object]]:
    x = np.zeros((len(outputs), 2), np.float32)
    return named.answers(np.array(outputs, np.float32), x, Schema(features=PAIR, label=label))


def test_answers_say_what_the_label_is() -> None:
    assert told(Label(classes=2), [[0.75, 0.25]]) == [{"label": "0", "probabilities": {"0": 0.75, "1": 0.25}}]
    assert told(Label(kind="multi-label", classes=2, names=["u", "v"]), [[0.75, 0.25]]) == [
        {"labels": ["u"], "probabilities": {"u": 0.75, "v": 0.25}}
    ]
    assert told(Label(kind="number"), [[3.5]]) == [{"value": 3.5}]
    assert told(Label(kind="number", shape=[2]), [[3.5, 1.0]]) == [{"values": [3.5, 1.0]}]
    sequence = Label(kind="sequence", classes=2, shape=[2], names=["u", "v"])
    assert told(sequence, [[0.1, 0.9, 0.8, 0.2]]) == [{"labels": ["v", "u"]}]
    assert told(Label(kind="none"), [[1.0, 3.0]]) == [{"error": 5.0}]


def test_arrays_are_read_by_their_shape() -> None:
    schema = Schema(features=[*PAIR, Feature(name="b", dtype="float32", shape=[])], label=Label(classes=2))
    np.testing.assert_array_equal(named.examples([{"b": 3, "a": [1, 2]}], schema), [[1, 2, 3]])
    for wrong in ([1], "ab", [[1, 2], [3]]):
        with pytest.raises(RequestError, match="shape"):
            named.examples([{"a": wrong, "b": 1}], schema)


def test_a_model_file_tells_its_schema_and_its_bytes_are_the_same_each_time() -> None:
    schema = Schema(features=PAIR, label=Label(classes=2, names=["u", "v"]))
    made = with_schema(b"model" * 100, schema)
    assert made.startswith(b"model" * 100)
    assert made == with_schema(b"model" * 100, schema)
    assert schema_of(made) == schema
    assert schema_of(b"model" * 100) is None


def test_a_schema_that_is_none_or_bursts_is_not_read() -> None:
    def archive(content: bytes) -> bytes:
        file = io.BytesIO()
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as made:
            made.writestr("schema.json", content)
        return file.getvalue()

    assert schema_of(archive(b" " * (5 << 20))) is None
    with pytest.raises(VariantError, match="schema"):
        schema_of(archive(b"{}"))
    damaged = bytearray(archive(b'{"format": 1}' * 50))
    damaged[40] ^= 0xFF
    with pytest.raises(VariantError, match="schema"):
        schema_of(bytes(damaged))
