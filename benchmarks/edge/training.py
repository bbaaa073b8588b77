"""Figure 6: from asking a node to train until its update is there, by epochs, warm and cold, on one CPU.

    .venvs/worker/bin/python -m benchmarks.edge.training FOLDER [MNIST]

Writes FOLDER/training.json. The function is a site process, which starts, imports TensorFlow and loads the plan where
it is cold. `training` is what training alone takes in a process that has done it before.
"""

import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from fededge.plan_runner import ONE_THREAD

os.environ.update(ONE_THREAD)

from benchmarks.edge.results import write
from benchmarks.edge.split import NODES, prepare
from benchmarks.limits import CpuLimit
from benchmarks.memory import Peak
from fededge.learning.frameworks import model_spec, open_client
from fededge.learning.runtimes.local import LocalSites
from fededge.task import ClientOptimizer
from fededge.weights import Weights

EPOCHS = (1, 2, 5, 10)
CPUS = 1.0
NODE = NODES[0]
DEADLINE = 1800.0
REPEATS = 2


def main() -> None:
    """Measure each number of epochs, cold first."""
    with tempfile.TemporaryDirectory(prefix="fededge-benchmark-") as name:
        folder = Path(name)
        task, population = prepare(Path(sys.argv[2]) if len(sys.argv) > 2 else None, {}, folder)
        model = model_spec(task.model, population.example, task.seed)
        weights = model.initial_weights()
        (count,) = (client.train for client in population.clients if client.id == NODE)
        rows = []
        with CpuLimit(CPUS) as limit, Peak() as peak:
            for epochs in EPOCHS:
                plan = folder / f"plan-{epochs}"
                model.export_plan(ClientOptimizer(epochs=epochs), task.identity, plan)
                row: dict[str, float] = {"epochs": epochs}
                with limit.inside():
                    client = open_client(plan, folder / "data" / NODE)
                    client.train(weights, 0)
                    row["training"] = _fastest(lambda: client.train(weights, 1))  # noqa: B023
                    os.environ.update(peak.variables)
                    row |= _answers(plan, folder / "data", weights)
                rows.append(row)
                print(row, flush=True)
        write(Path(sys.argv[1]), "training", rows, limit=limit.how, megabytes=peak.alone, images=count)


def _answers(plan: Path, data: Path, weights: Weights) -> dict[str, float]:
    """Seconds to the update of a site process that has to start, and of one that runs."""
    found: dict[str, list[float]] = {"cold": [], "warm": []}
    for _ in range(REPEATS):
        with LocalSites(plan, data) as sites:
            for number, kind in enumerate(found):
                begun = time.perf_counter()
                (report,) = sites.train(weights, 0, number, [NODE], DEADLINE)
                found[kind].append(time.perf_counter() - begun)
                if report.failure:
                    raise SystemExit(report.failure)
    return {kind: round(min(seconds), 3) for kind, seconds in found.items()}


def _fastest(work: Callable[[], object]) -> float:
    times = []
    for _ in range(REPEATS):
        begun = time.perf_counter()
        work()
        times.append(time.perf_counter() - begun)
    return round(min(times), 3)


if __name__ == "__main__":
    main()
