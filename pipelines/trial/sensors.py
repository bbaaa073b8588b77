"""The sensors of a trial fleet's relay: what it is told of them, and the program that plays them.

    python -m pipelines.trial.sensors FOLDER HOST:PORT [--sensors 8] [--per-second 200]

plays the examples in FOLDER (x.npy, y.npy, schema.json), in the edge environment: each sensor has its share of them, and
sends an example as JSON, with its label. It sends all of them, and then the last ones anew now and then.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np

from fededge import examples
from fededge.documents import Schema
from fededge.errors import TaskError

TOPIC = "trial/{sensor}/reading"
NUMBER, LABEL = "number", "label"


def relay_file(schema: Schema, dataset: str, port: int) -> dict[str, Any]:
    """The relay's file for sensors that send examples of `schema` to the broker on `port` of this machine.

    Raises:
        TaskError: an example is no row of numbers with one label.
    """
    label = schema.label
    rows = all(
        feature.dtype == "float32" and not feature.shape and not feature.categories
        for feature in schema.features
    )
    labeled = label.kind == "number" or (label.kind == "class" and label.names)
    if not rows or not labeled or label.shape:
        raise TaskError(
            "sensors send rows of numbers with one label, a number or a class that has a name: try this task without "
            "a relay"
        )
    features = [{"name": feature.name, "unit": feature.unit} for feature in schema.features]
    kind = "int64" if label.classes else "float32"
    return {
        "broker": {"host": "127.0.0.1", "port": port, "plain": True, "client_id": "relay"},
        "groups": [
            {
                "name": "trial",
                "sensors": ["sensor-*"],
                "topic": TOPIC,
                "payload": {
                    "kind": "json",
                    "fields": [
                        {"name": NUMBER, "type": "int64"},
                        *features,
                        {"name": LABEL, "type": kind, "unit": label.unit},
                    ],
                },
                "reading": {"id": NUMBER},
                "label": {"field": LABEL, "name": label.name}
                | ({"classes": label.names} if label.classes else {}),
                "quota": {"per_second": 1000, "burst": 100_000},
                "dataset": {
                    "name": dataset,
                    "features": [feature.name for feature in schema.features],
                    "new_examples": 50,
                    "every_seconds": 5,
                    "seconds_between": 2,
                },
            }
        ],
    }


def play(folder: Path, host: str, port: int, sensors: int, per_second: float) -> None:
    """Send the examples in `folder`, so many a second, until the process is ended."""
    from paho.mqtt.client import Client
    from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

    schema = Schema.read(folder / "schema.json")
    x, y = (examples.open_array(folder / name) for name in ("x.npy", "y.npy"))
    client = Client(CallbackAPIVersion.VERSION2, "sensors", protocol=MQTTProtocolVersion.MQTTv5)
    client.connect(host, port)
    client.loop_start()
    began = time.monotonic()
    for number in range(10**9):
        place = number % len(x)
        values = np.asarray(x[place], np.float64).tolist()
        said = dict(zip((feature.name for feature in schema.features), values, strict=True))
        said |= {NUMBER: number, LABEL: np.asarray(y[place]).item()}
        topic = TOPIC.replace("{sensor}", f"sensor-{number % sensors}")
        client.publish(topic, json.dumps(said), qos=1)
        due = began + number / per_second if number < len(x) else time.monotonic() + 1.0
        time.sleep(max(0.0, due - time.monotonic()))


def main() -> None:
    """Read the command line, and play."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("broker", metavar="HOST:PORT")
    parser.add_argument("--sensors", type=int, default=8)
    parser.add_argument("--per-second", type=float, default=200.0)
    options = parser.parse_args()
    host, _, port = options.broker.rpartition(":")
    play(options.folder, host, int(port), options.sensors, options.per_second)


if __name__ == "__main__":
    main()
