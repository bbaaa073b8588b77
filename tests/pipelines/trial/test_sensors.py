"""The sensors that a trial fleet's relay listens to."""

from pathlib import Path

import pytest
import yaml

from fededge.device.relay.file import load
from fededge.device.relay.schema import schema_of
from fededge.documents import Feature, Label, Schema
from fededge.errors import TaskError
from pipelines.trial.sensors import relay_file

pytestmark = pytest.mark.environment("platform")
CLASSES = Label(kind="class", classes=2, names=["empty", "occupied"], name="occupancy")


def schema(label: Label, **feature: object) -> Schema:
    row: dict[str, object] = {"name": "light", "dtype": "float32", "shape": [], "unit": "lx"}
    return Schema(features=[Feature.model_validate(row | feature)], label=label)


@pytest.mark.parametrize("label", [CLASSES, Label(kind="number", name="load", unit="kW")])
def test_what_a_relay_makes_of_their_readings_has_the_form_of_the_tasks_examples(
    label: Label, tmp_path: Path
) -> None:
    examples = schema(label, mean=3.0, std=2.0)
    (tmp_path / "relay.yaml").write_text(yaml.safe_dump(relay_file(examples, "rooms", 1883)))
    (group,) = load(tmp_path / "relay.yaml").groups
    assert schema_of(group).form_digest == examples.form_digest


@pytest.mark.parametrize(
    "examples",
    [
        schema(CLASSES, shape=[28, 28]),
        schema(CLASSES, categories=["on", "off"]),
        schema(CLASSES, dtype="uint8"),
        schema(Label(kind="class", classes=2)),
        schema(Label(kind="none")),
    ],
)
def test_examples_that_no_sensor_sends_are_refused(examples: Schema) -> None:
    with pytest.raises(TaskError, match="try this task without a relay"):
        relay_file(examples, "rooms", 1883)
