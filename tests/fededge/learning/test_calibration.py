"""Calibration ranges: measured by clients, screened, and merged over no fewer than the floor."""

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from fededge import examples
from fededge.client_reports import RangesReport
from fededge.documents import ClientCounts, Plan
from fededge.errors import DataError
from fededge.learning.calibration import merge
from fededge.learning.engines import open_runtime
from fededge.task import FederatedTask, Privacy

pytestmark = pytest.mark.environment("worker")
NAMES = ["input", "1/Dense"]
FLOOR = Privacy(min_clients=3, min_examples=20)


def holding(*train: int) -> list[ClientCounts]:
    return [ClientCounts(id=f"c{i}", train=count, test=1) for i, count in enumerate(train)]


def report(number: int, examples: Any = 50, low: Any = (0.0, -1.0), high: Any = (1.0, 2.0)) -> RangesReport:
    return RangesReport(f"c{number}", {"examples": examples, "low": list(low), "high": list(high)})


def test_the_merged_range_is_the_median_of_the_clients() -> None:
    reports = [report(0), report(1, high=(3.0, 4.0)), report(2, low=(-5.0, -1.0), high=(2.0, 9.0))]
    merged = merge(reports, NAMES, holding(50, 50, 50), FLOOR)
    assert (merged.clients, merged.examples) == (3, 150)
    assert [(found.name, found.low, found.high) for found in merged.ranges] == [
        ("input", 0.0, 2.0),
        ("1/Dense", -1.0, 4.0),
    ]


@pytest.mark.parametrize(
    "bad",
    [
        {"examples": 51},
        {"examples": 19},
        {"examples": 0},
        {"examples": "50"},
        {"low": (0.0,)},
        {"high": (float("nan"), 1.0)},
        {"high": (float("inf"), 1.0)},
        {"high": (1e31, 2.0)},
        {"low": (2.0, 0.0)},
        {"high": ("1", 2.0)},
    ],
)
def test_a_report_that_cannot_be_is_not_merged(bad: dict[str, Any]) -> None:
    reports = [report(0), report(1), report(2), report(3, **bad)]
    assert merge(reports, NAMES, holding(50, 50, 50, 50), FLOOR).clients == 3


def test_a_summary_of_fewer_clients_or_examples_than_the_floor_is_not_made() -> None:
    two = [report(0), report(1), RangesReport("c2", None, "no report within 1 s")]
    with pytest.raises(DataError, match=r"2 clients where privacy\.min_clients asks for 3.*no report within"):
        merge(two, NAMES, holding(50, 50, 50), FLOOR)
    with pytest.raises(DataError, match=r"has 5 examples where privacy\.min_examples asks for 20"):
        merge([report(0), report(1), report(2, examples=5)], NAMES, holding(50, 50, 5), FLOOR)


def test_sites_and_simulation_measure_what_the_model_computes_on_their_training_examples(
    prepared: Any, make_task: Callable[..., FederatedTask]
) -> None:
    import tensorflow as tf

    from fededge.learning.frameworks.keras.network import Network

    found = {}
    for engine in ("simulation", "federated"):
        task = make_task(engine=engine)
        weights = prepared.spec(task).initial_weights()
        with open_runtime(engine, prepared.plan(task), prepared.clients) as runtime:
            found[engine] = {
                each.client: each.ranges for each in runtime.ranges(weights, 0, prepared.ids, 120)
            }
    assert found["federated"] == found["simulation"]
    document = Plan.read(prepared.plan(task) / "plan.json")
    network = Network(task.model, prepared.population.example, task.seed)
    network.assign(weights)
    model, layers = network.body, network.activations
    assert document.activations == ["input", *layers]
    x, _ = examples.read(prepared.clients / "site-0" / "train")
    outputs = tf.keras.Model(model.inputs, [*model.inputs, *(each.output for each in layers.values())])(x)
    mine = found["federated"]["site-0"]
    assert mine is not None
    assert mine["examples"] == len(x)
    for number, values in enumerate(outputs):
        flat = np.asarray(values).reshape(len(x), -1)
        assert mine["low"][number] == pytest.approx(np.quantile(flat.min(axis=1), 0.01), abs=1e-5)
        assert mine["high"][number] == pytest.approx(np.quantile(flat.max(axis=1), 0.99), abs=1e-5)


def test_a_report_holds_two_numbers_a_tensor_and_a_count_whatever_the_examples_are(
    prepared: Any, make_task: Callable[..., FederatedTask]
) -> None:
    task = make_task(engine="simulation")
    weights = prepared.spec(task).initial_weights()
    with open_runtime("simulation", prepared.plan(task), prepared.clients) as runtime:
        (measured,) = runtime.ranges(weights, 0, ["site-0"], 120)
    assert measured.ranges
    assert set(measured.ranges) == {"examples", "low", "high"}
    assert len(json.dumps(measured.ranges)) < 1000
