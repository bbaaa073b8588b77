"""Tasks whose examples lie at clients of a fleet, and cohorts: what fits together, and why the rest is refused."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from fededge.errors import TaskError
from fededge.task import Cohort, DigitsData, FederatedTask, FleetData, Prices, load, parse

pytestmark = pytest.mark.environment("platform", "worker", "edge")
FLEET: dict[str, Any] = {
    "name": "ward",
    "data": {"source": "fleet", "dataset": "ward-3", "held_out": {"source": "digits"}},
}


def task(content: dict[str, Any] = FLEET, **changes: Any) -> FederatedTask:
    return parse(yaml.safe_dump(content | changes))


def test_the_examples_of_a_fleet_are_not_simulated_and_those_that_judge_are_read_here() -> None:
    found = task()
    assert isinstance(found.data, FleetData)
    assert not found.simulated
    assert isinstance(found.local_data, DigitsData)
    assert FederatedTask.from_json(found.to_json()) == found
    simulated = task(FLEET | {"data": {"source": "digits"}})
    assert simulated.simulated
    assert simulated.local_data is simulated.data


def test_a_cohort_of_a_fleet_may_be_larger_than_any_partition() -> None:
    assert task(learning={"cohort": {"size": 500}}).learning.cohort.size == 500


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"partition": {"clients": 5}}, "clients hold what they hold: remove partition"),
        ({"compare": {"centralized": True}}, r"compare\.centralized .* nobody holds them all: remove it"),
        ({"compare": {"alone": True}}, r"compare\.alone .* nobody holds them all: remove it"),
        ({"learning": {"engine": "simulation"}}, "they stay at the clients: say federated"),
        ({"learning": {"cohort": {"policy": "mine:Policy"}}}, "runs no code of a task"),
        (
            {"data": {**FLEET["data"], "held_out": {"source": "digits", "split": {}}}},
            r"remove held_out\.split",
        ),
        ({"data": {**FLEET["data"], "held_out": FLEET["data"]}}, r"data\.held_out: .*'fleet'"),
        ({"data": {"source": "fleet", "dataset": "d"}}, r"data\.held_out: Field required"),
        ({"data": {**FLEET["data"], "dataset": "a b"}}, r"data\.dataset: "),
        (
            {"data": {**FLEET["data"], "held_out": {"source": "csv", "pth": "x"}}},
            r"data\.held_out\.path: Field required; .*data\.held_out\.pth: unknown key; did you mean path\?",
        ),
    ],
)
def test_what_a_fleet_cannot_have_is_refused_with_the_reason(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(TaskError, match=words):
        task(**changes)


@pytest.mark.parametrize(
    ("learning", "words"),
    [
        ({"cohort": {"policy": "geo"}}, "needs regions, which only clients of a gateway have"),
        ({"cohort": {"policy": "weighted", "weights": {"geo": 1}}}, "needs regions"),
        ({"cohort": {"allocation": "deadline"}}, "needs the speed of each client"),
        ({"engine": "simulation", "cohort": {"policy": "oort"}}, "needs the loss of each client"),
        ({"engine": "simulation", "cohort": {"over_selection": 1.5}}, "in a simulation every client"),
        ({"cohort": {"policy": "poisson"}}, r"by operation\.quorum"),
    ],
)
def test_what_simulated_clients_cannot_have_is_refused_with_the_reason(
    learning: dict[str, Any], words: str
) -> None:
    with pytest.raises(TaskError, match=words):
        task(FLEET | {"data": {"source": "digits"}}, learning=learning)
    task(learning={key: value for key, value in learning.items() if key != "engine"}, operation={"quorum": 1})


@pytest.mark.parametrize(
    ("cohort", "words"),
    [
        ({"policy": "luck"}, "unknown policy: use data_size, .* or module:name of your own"),
        ({"policy": "weighted"}, "go together"),
        ({"weights": {"fair": 1}}, "go together"),
        ({"policy": "weighted", "weights": {"luck": 1}}, "weights names 'luck'"),
        ({"policy": "weighted", "weights": {"poisson": 1}}, "weights names 'poisson'"),
        ({"policy": "weighted", "weights": {"fair": 0}}, "greater than 0"),
        ({"code": "folder"}, "name it as module:name, too"),
        ({"over_selection": 0.9}, "greater than or equal to 1"),
    ],
)
def test_a_cohort_that_contradicts_itself_is_refused(cohort: dict[str, Any], words: str) -> None:
    with pytest.raises(TaskError, match=words):
        task(learning={"cohort": cohort})


@pytest.mark.parametrize(
    ("size", "factor", "asked"), [(10, 1.0, 10), (10, 1.3, 13), (3, 1.01, 4), (100, 1.1, 110), (7, 10, 70)]
)
def test_over_selection_asks_as_many_more_clients_rounded_up(size: int, factor: float, asked: int) -> None:
    assert Cohort(size=size, over_selection=factor).asked == asked


def test_paths_of_held_out_examples_and_of_a_policys_code_are_relative_to_the_task_file(
    tmp_path: Path,
) -> None:
    content = FLEET | {"data": {**FLEET["data"], "held_out": {"source": "npy", "x": "x.npy", "y": "y.npy"}}}
    (tmp_path / "task.yaml").write_text(yaml.safe_dump(content))
    held_out = load(tmp_path / "task.yaml").local_data
    assert (held_out.x, held_out.y) == (str(tmp_path / "x.npy"), str(tmp_path / "y.npy"))  # type: ignore[union-attr]
    own = {
        "name": "a",
        "data": {"source": "digits"},
        "learning": {"cohort": {"policy": "mine:P", "code": "c"}},
    }
    (tmp_path / "task.yaml").write_text(yaml.safe_dump(own))
    found = load(tmp_path / "task.yaml")
    assert found.code == {("learning", "cohort"): str(tmp_path / "c")}
    assert found.with_code({("learning", "cohort"): "other"}).learning.cohort.code == "other"


def test_prices_make_a_cost() -> None:
    prices = Prices(gigabyte=0.1, client_second=0.01, coordinator_second=1.0)
    assert prices.cost(5 * 10**9, 60.0, 2.0) == pytest.approx(0.5 + 0.6 + 2.0)
    priced = task(operation={"prices": {"gigabyte": 0.09}})
    assert priced.operation.prices == Prices(gigabyte=0.09)
    assert priced.identity == task().identity
