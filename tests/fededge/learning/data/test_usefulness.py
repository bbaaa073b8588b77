"""The task that is suggested for a table learns nearly what gradient boosting does on the pooled data."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

from fededge import task as tasks
from fededge.documents import Population
from fededge.learning.data.inspection import inspect
from fededge.learning.engines import open_engine
from fededge.learning.frameworks import model_spec
from fededge.task import CsvData, FederatedTask

pytestmark = pytest.mark.environment("worker")

COUNT = 20_000
SHARE = 0.9


def table(file: Path, kind: str) -> None:
    """Numbers of one and of many magnitudes, codes, words and holes; two features that matter together."""
    rng = np.random.default_rng(1)
    x = rng.random((COUNT, 5))
    code, word, wealth = (
        rng.integers(0, 20, COUNT),
        rng.integers(0, 30, COUNT),
        np.exp(rng.normal(8, 2, COUNT)),
    )
    target = 10 * np.sin(np.pi * x[:, 0] * x[:, 1]) + 20 * (x[:, 2] - 0.5) ** 2 + 2 * np.log(wealth)
    target += rng.normal(0, 2, 20)[code] + rng.normal(0, 2, 30)[word] + rng.normal(0, 1, COUNT)
    label = target if kind == "number" else np.where(target > np.median(target), "above", "below")
    holes = rng.random(COUNT) < 0.03
    rows = [
        f"{'' if holes[n] else x[n, 0]},{x[n, 1]},{x[n, 2]},{x[n, 3]},{code[n]},w{word[n]},{wealth[n]},{label[n]}"
        for n in range(COUNT)
    ]
    file.write_text("\n".join(["a,b,c,d,code,word,wealth,label", *rows]))


def learned(task: FederatedTask, done: Any, folder: Path) -> np.ndarray:
    """Answers to the held-out examples after all rounds."""
    population: Population = done.population
    spec = model_spec(task.model, population.example, task.seed)
    spec.export_plan(task.learning.client, task.identity, folder)
    weights = spec.initial_weights()
    sections = task.model, task.learning, task.operation, task.seed
    with open_engine(*sections, folder, done.clients) as engine:
        server = engine.initialize()
        for number in range(1, task.learning.rounds + 1):
            result = engine.next(weights, server, number, population.clients)
            weights, server = result.weights, result.server
    return spec.predict(weights, done.read(done.test)[0])


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("kind", ["number", "class"])
def test_it_comes_within_a_tenth_of_gradient_boosting(prepare: Any, tmp_path: Path, kind: str) -> None:
    table(tmp_path / "t.csv", kind)
    task = tasks.parse(inspect(CsvData(source="csv", path=str(tmp_path / "t.csv"))).task)
    done = prepare(task.data.model_dump(), partition=task.partition.model_dump())
    outputs = learned(task, done, tmp_path / "plan")
    train = [done.read(done.clients / client.id / "train") for client in done.population.clients]
    x, y = (np.concatenate(parts) for parts in zip(*train, strict=True))
    test_x, test_y = done.read(done.test)
    if kind == "number":
        best = HistGradientBoostingRegressor(random_state=0).fit(x, y).score(test_x, test_y)
        found = 1 - ((outputs[:, 0] - test_y) ** 2).sum() / ((test_y - test_y.mean()) ** 2).sum()
        chance = 0.0
    else:
        best = HistGradientBoostingClassifier(random_state=0).fit(x, y).score(test_x, test_y)
        found = (outputs.argmax(axis=1) == test_y).mean()
        chance = np.bincount(test_y).max() / len(test_y)
    assert found - chance >= SHARE * (best - chance)
