"""Figures 4 and 5: accuracy by round at each node and of the global model, in the simulation engine.

    .venvs/worker/bin/python -m benchmarks.edge.learning FOLDER ROUNDS [MNIST]

Writes FOLDER/learning.json after each round, with a row for each: round, each node, global, loss, seconds. A node's
accuracy is that of the new global model on the node's own training examples; the global one is on held-out examples. It
stops when PATIENCE rounds brought the global model no GAIN.
"""

import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.edge.results import write
from benchmarks.edge.split import NODES, prepare
from fededge import examples
from fededge.learning.engines import open_engine
from fededge.learning.frameworks import model_spec

EPOCHS = 10
LEARNING = {
    "engine": "simulation",
    "rounds": 50,
    "client": {"optimizer": "sgd", "learning_rate": 0.05, "epochs": EPOCHS, "batch_size": 32},
    "cohort": {"size": len(NODES)},
}
PATIENCE = 6
GAIN = 0.001


def main() -> None:
    """Run rounds until the plateau, or as many as asked for."""
    written, rounds = Path(sys.argv[1]), int(sys.argv[2])
    mnist = Path(sys.argv[3]) if len(sys.argv) > 3 else None
    with tempfile.TemporaryDirectory(prefix="fededge-benchmark-") as folder:
        run(written, rounds, mnist, Path(folder))


def run(written: Path, rounds: int, mnist: Path | None, folder: Path) -> None:
    """Prepare the nodes in `folder`, and write each round's row into `written`."""
    task, population = prepare(mnist, LEARNING, folder)
    model = model_spec(task.model, population.example, task.seed)
    model.export_plan(task.learning.client, task.identity, folder / "plan")
    seen = {node: examples.read(folder / "data" / node / "train") for node in NODES}
    seen["global"] = examples.read(folder / "test")
    counts = {name: len(y) for name, (_, y) in seen.items()}
    weights, rows = model.initial_weights(), []
    with open_engine(
        task.model,
        task.learning,
        task.operation,
        task.seed,
        folder / "plan",
        folder / "data",
    ) as engine:
        server = engine.initialize()
        for number in range(1, rounds + 1):
            begun = time.perf_counter()
            result = engine.next(weights, server, number, population.clients)
            seconds = time.perf_counter() - begun
            weights, server = result.weights, result.server
            row: dict[str, Any] = {"round": number}
            for name, (x, y) in seen.items():
                row[name] = round(float(np.mean(model.predict(weights, x).argmax(axis=1) == y)), 4)
            row |= {"loss": round(result.loss, 4), "seconds": round(seconds, 1)}
            rows.append(row)
            write(written, "learning", rows, images=counts, data="MNIST" if mnist else "digits")
            print(row, flush=True)
            if plateau([float(row["global"]) for row in rows]):
                break


def plateau(scores: list[float]) -> bool:
    """Whether the last PATIENCE scores are no better by GAIN than the best before them."""
    before, last = scores[:-PATIENCE], scores[-PATIENCE:]
    return bool(before) and max(last) < max(before) + GAIN


if __name__ == "__main__":
    main()
