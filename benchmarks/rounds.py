"""Seconds a round and microseconds a sample: both engines against a pure TensorFlow loop.

    .venvs/worker/bin/python -m benchmarks.rounds

The work is one epoch over three clients with 20,000 synthetic samples each. Each measurement is a
process of its own, on the same files; the best possible on two cores is two pure processes, each
pinned to a core, that share the samples. Prints a table and writes benchmarks/results/rounds.json.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.results import save, table
from fededge.task import FederatedTask

CLIENTS = 3


def make_task(samples: int, batch: int, engine: str) -> FederatedTask:
    """One epoch over `CLIENTS` clients with `samples` training samples each."""
    held = 0.1
    share = round(samples / (1 - held))
    content = {
        "name": "rounds",
        "data": {"source": "synthetic", "examples": round(CLIENTS * share / 0.99) + 1, "holdout": 0.01},
        "partition": {"kind": "iid", "clients": CLIENTS, "local_holdout": held},
        "learning": {"engine": engine, "client": {"batch_size": batch}, "cohort": {"size": CLIENTS}},
    }
    return FederatedTask.from_json(json.dumps(content))


def measure_engine(task: FederatedTask, clients: Path, rounds: int) -> list[float]:
    """Seconds of each round after one that warms up."""
    from fededge import examples
    from fededge.documents import ClientCounts, Schema
    from fededge.learning.engines import open_engine
    from fededge.learning.frameworks import model_spec

    schema = Schema.read(clients / "site-0" / "train" / "schema.json")
    model = model_spec(task.model, schema, task.seed)
    weights = model.initial_weights()
    names = [f"site-{number}" for number in range(CLIENTS)]
    pool = [
        ClientCounts(id=name, train=len(examples.read(clients / name / "train")[1]), test=1) for name in names
    ]
    with tempfile.TemporaryDirectory() as folder:
        plan = Path(folder) / "plan"
        model.export_plan(task.learning.client, task.identity, plan)
        seconds = []
        with open_engine(task.model, task.learning, task.operation, task.seed, plan, clients) as engine:
            server = engine.initialize()
            for number in range(1, rounds + 2):
                started = time.perf_counter()
                outcome = engine.next(weights, server, number, pool)
                seconds.append(time.perf_counter() - started)
                weights, server = outcome.weights, outcome.server
    return seconds[1:]


def measure_pure(clients: Path, batch: int, rounds: int, part: int, parts: int) -> list[float]:
    """Seconds of each epoch of a plain tf.function loop over part `part` of `parts` of all samples."""
    import numpy as np
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(1)
    from fededge import examples
    from fededge.documents import Schema
    from fededge.learning.frameworks.keras.network import Network
    from fededge.task import Model

    pairs = [examples.read(clients / f"site-{number}" / "train") for number in range(CLIENTS)]
    x, y = (np.array_split(np.concatenate([pair[i] for pair in pairs]), parts)[part] for i in (0, 1))
    schema = Schema.read(clients / "site-0" / "train" / "schema.json")
    model = Network(Model(), schema).training
    optimizer = tf.keras.optimizers.SGD(0.05)

    levels = schema.dtype == "uint8"

    def prepare(step, batch_of):  # type: ignore[no-untyped-def]
        image, label = batch_of
        image = tf.cast(image, tf.float32) / 255 if levels else image
        return {"examples": image, "seed": tf.tile([[0, step]], [tf.size(label), 1])}, label

    dataset = tf.data.Dataset.from_tensor_slices((x, y)).shuffle(10_000).batch(batch).enumerate().map(prepare)
    options = tf.data.Options()
    options.autotune.enabled = False
    dataset = dataset.with_options(options)

    @tf.function
    def epoch():  # type: ignore[no-untyped-def]
        for image, label in dataset:
            with tf.GradientTape() as tape:
                logits = model(image, training=True)
                loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(label, logits))
            gradients = tape.gradient(loss, model.trainable_variables)
            optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))

    seconds = []
    for _ in range(rounds + 1):
        started = time.perf_counter()
        epoch()
        seconds.append(time.perf_counter() - started)
    return seconds[1:]


def child(*arguments: str, cores: str | None = None) -> subprocess.Popen[bytes]:
    """This script as one measurement; its result is a JSON line on standard output."""
    pin = ["taskset", "-c", cores] if cores else []
    return subprocess.Popen(
        [*pin, sys.executable, "-m", "benchmarks.rounds", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"},
    )


def result(process: subprocess.Popen[bytes]) -> float:
    """Median seconds that a measurement printed."""
    output, _ = process.communicate()
    return statistics.median(json.loads(output.splitlines()[-1]))


def main() -> None:
    """Run one measurement, or all of them."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--samples", type=int, default=20_000, help="training samples a client (default 20000)"
    )
    parser.add_argument(
        "--rounds", type=int, default=3, help="timed rounds, of which the median counts (default 3)"
    )
    parser.add_argument(
        "--batch", type=int, nargs="+", default=[32, 128], help="batch sizes (default 32 128)"
    )
    parser.add_argument("--measure", nargs="+", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        kind, data, batch, part, parts = arguments.measure
        seconds = (
            measure_pure(Path(data), int(batch), arguments.rounds, int(part), int(parts))
            if kind == "pure"
            else measure_engine(make_task(arguments.samples, int(batch), kind), Path(data), arguments.rounds)
        )
        print(json.dumps(seconds))
        return

    rows = []
    with tempfile.TemporaryDirectory(prefix="fededge-benchmark-") as folder:
        from fededge.learning.data import folders

        data = Path(folder) / "data"
        print(f"making {CLIENTS} x {arguments.samples:,} samples", flush=True)
        task = make_task(arguments.samples, 32, "simulation")
        folders.prepare(task.local_data, task.partition, task.seed, data, Path(folder) / "test")
        common = ["--rounds", str(arguments.rounds), "--samples", str(arguments.samples), "--measure"]
        for batch in arguments.batch:
            print(f"measuring batch size {batch}", flush=True)
            two = [
                child(*common, "pure", str(data), str(batch), str(core), "2", cores=str(core))
                for core in (0, 1)
            ]
            limit = max(result(process) for process in two)
            medians = {"two pinned pure processes": limit}
            for name, kind in (
                ("one pure loop", "pure"),
                ("simulation", "simulation"),
                ("federated", "federated"),
            ):
                medians[name] = result(child(*common, kind, str(data), str(batch), "0", "1"))
            for name, median in medians.items():
                rows.append(
                    {
                        "work": name,
                        "batch": batch,
                        "s a round": round(median, 3),
                        "us a sample": round(median / (CLIENTS * arguments.samples) * 1e6, 1),
                        "ratio to two pinned": round(median / limit, 2),
                    }
                )
            print(table(rows), flush=True)
    print(save("rounds", rows))


if __name__ == "__main__":
    main()
