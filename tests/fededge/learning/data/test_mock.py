"""Mock data of a schema."""

from pathlib import Path

import numpy as np
import pytest

from fededge import examples
from fededge.documents import Feature, Label, Schema
from fededge.learning.data import mock

pytestmark = pytest.mark.environment("worker", "platform")

TABLE = [
    Feature(name="heat", dtype="float32", shape=[], mean=20, std=3),
    Feature(name="color", dtype="int64", shape=[], categories=["red", "blue"]),
    Feature(name="on", dtype="bool", shape=[]),
]
IMAGE = [Feature(name="image", dtype="uint8", shape=[8, 8, 3])]
TOKENS = [Feature(name="tokens", dtype="int64", shape=[6])]


@pytest.mark.parametrize("features", [TABLE, IMAGE, TOKENS])
@pytest.mark.parametrize(
    "label",
    [
        Label(classes=3, names=["a", "b", "c"]),
        Label(kind="multi-label", classes=2),
        Label(kind="number", shape=[2], mean=[5, 6], std=[1, 2]),
        Label(kind="number"),
        Label(kind="sequence", classes=4, shape=[6]),
        Label(kind="none"),
    ],
)
def test_mock_data_are_examples_of_the_schema(tmp_path: Path, features: list[Feature], label: Label) -> None:
    if label.kind == "sequence" and features is not TOKENS:
        pytest.skip("a sequence is predicted from tokens")
    schema = Schema(features=features, label=label)
    mock.make(schema, 50, 0, tmp_path / "one")
    mock.make(schema, 50, 0, tmp_path / "two")
    x, y = examples.read(tmp_path / "one", schema)
    assert len(x) == 50
    assert (x == examples.read(tmp_path / "two", schema)[0]).all()
    assert (y == examples.read(tmp_path / "two", schema)[1]).all()
    if label.kind == "class":
        assert len(np.unique(y)) == 3
