"""Figures 6 and 7 once more, with functions of LiteRT: training on one CPU and answering on 0.4 of one, cold and warm.

    .venvs/serving/bin/python -m benchmarks.edge.functions FOLDER [MNIST]

Writes FOLDER/functions.json. Plan, client and variant are made in the worker environment first.
"""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.edge.results import write
from benchmarks.edge.serving import COUNTS, CPUS, KIND, REPEATS
from benchmarks.limits import CpuLimit
from benchmarks.serving import built
from fededge import storage
from fededge.host.layout import ROOT, interpreter
from serving.functions import measuring
from serving.functions.measuring import Function, Measured

EPOCHS = (1, 2, 5)
TRAINING_CPUS = 1.0
TRAINED = 2
PREPARE = """
import sys
from pathlib import Path
from benchmarks.edge.split import prepare
from fededge.learning.frameworks import add_litert, model_spec
from fededge.task import ClientOptimizer
folder, mnist = Path(sys.argv[1]), Path(sys.argv[2]) if len(sys.argv) > 2 else None
task, population = prepare(mnist, {}, folder)
model, work = model_spec(task.model, population.example, task.seed), ClientOptimizer(epochs=1)
model.export_plan(work, task.identity, folder / "plan")
add_litert(model, work, folder / "plan")
"""
NODE = "node-1"


def main() -> None:
    """Measure training by epochs, then answers by images."""
    with tempfile.TemporaryDirectory(prefix="fededge-benchmark-") as name:
        folder = Path(name)
        command = [str(interpreter("worker")), "-c", PREPARE, name, *sys.argv[2:3]]
        subprocess.run(command, check=True, cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)})
        python = Path(sys.executable)
        with CpuLimit(TRAINING_CPUS) as limit:
            client = folder / "data" / NODE
            rows = measuring.training(python, folder / "plan", client, EPOCHS, TRAINED, limit.inside)
            trained, trains = _kept(rows), limit.how
        model = built(KIND, folder)
        arguments = ["--model", str(model), "--digest", storage.digest_path(model), "--kind", KIND]
        with CpuLimit(CPUS) as limit:
            predict = Function(python, "predict", arguments, limit.inside)
            answered, answers = _kept(measuring.predicting(predict, COUNTS, REPEATS)), limit.how
        write(Path(sys.argv[1]), "functions", answered, training=trained, trains=trains, answers=answers)


def _kept(rows: Iterable[Measured]) -> list[dict[str, Any]]:
    kept = []
    for row in rows:
        kept.append({name: round(value, 3) for name, value in asdict(row).items()})
        print(kept[-1], flush=True)
    return kept


if __name__ == "__main__":
    main()
