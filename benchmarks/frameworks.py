"""Processor seconds a round of scikit-learn's and PyTorch's clients, against each framework's own plain loop.

    .venvs/worker/bin/python -m benchmarks.frameworks

One client's round and the loop take the same shuffled batches of the same file, in one thread, in turns in one process.
PyTorch is left out where it is not installed. Prints a table and writes benchmarks/results/frameworks.json.
"""

import argparse
import importlib.util
import os
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "TF_NUM_INTRAOP_THREADS"), "1"))

import numpy as np

from benchmarks.results import save, table
from fededge import examples
from fededge.documents import Feature, Label, Schema
from fededge.learning.frameworks import model_spec, open_client
from fededge.task import ClientOptimizer, Model

WIDTH, CLASSES = 64, 10
TASK = "sha256:" + "0" * 64
SCHEMA = Schema(
    features=[Feature(name="x", dtype="float32", shape=[WIDTH], mean=0.5, std=2.0)],
    label=Label(kind="class", classes=CLASSES),
)


def network(schema: Schema) -> Any:
    """A perceptron in PyTorch, of the size of scikit-learn's."""
    import torch

    hidden = torch.nn.Linear(schema.encoded_shape[0], 100)
    return torch.nn.Sequential(hidden, torch.nn.ReLU(), torch.nn.Linear(100, schema.outputs))


MODELS = {
    "SGDClassifier": Model(framework="sklearn", name="SGDClassifier"),
    "MLPClassifier": Model(framework="sklearn", name="MLPClassifier"),
    "PyTorch": Model(framework="torch", factory="benchmarks.frameworks:network"),
}


def batches(x: np.ndarray, y: np.ndarray, size: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Standardized and shuffled examples in batches, as a user's own loop would make them."""
    order = np.random.default_rng(0).permutation(len(x))
    x, y = (np.asarray(x)[order] - np.float32(0.5)) / np.float32(2.0), np.asarray(y)[order]
    return [(x[at : at + size], y[at : at + size]) for at in range(0, len(x), size)]


def sklearn_loop(name: str, x: np.ndarray, y: np.ndarray, size: int) -> None:
    """partial_fit on batch after batch."""
    from sklearn.linear_model import SGDClassifier
    from sklearn.neural_network import MLPClassifier

    if name == "SGDClassifier":
        estimator = SGDClassifier(learning_rate="constant", eta0=0.05, shuffle=False)
    else:
        estimator = MLPClassifier(solver="sgd", learning_rate_init=0.05, batch_size=size, momentum=0.0)
    for batch, labels in batches(x, y, size):
        estimator.partial_fit(batch, labels, classes=np.arange(CLASSES))


def torch_loop(x: np.ndarray, y: np.ndarray, size: int) -> None:
    """Forward, backward and step on batch after batch, with the loss and the hits that a user looks at."""
    import torch

    torch.set_num_threads(1)
    module = network(SCHEMA)
    optimizer = torch.optim.SGD(module.parameters(), lr=0.05)
    total, hits = 0.0, 0
    for batch, labels in batches(x, y, size):
        wanted = torch.from_numpy(labels)
        optimizer.zero_grad()
        raw = module(torch.from_numpy(batch))
        loss = torch.nn.functional.cross_entropy(raw, wanted)
        loss.backward()
        optimizer.step()
        total += float(loss) * len(labels)
        hits += int((raw.argmax(dim=1) == wanted).sum())


def seconds(work: Callable[[], object]) -> float:
    """Of the processor in one call: others at work on this machine do not count."""
    started = time.process_time()
    work()
    return time.process_time() - started


def measure(name: str, folder: Path, size: int, repeats: int) -> tuple[float, float]:
    """Median seconds of a client's round, and of the plain loop."""
    spec = model_spec(MODELS[name], SCHEMA, 0)
    plan = folder / f"plan-{name}-{size}"
    spec.export_plan(ClientOptimizer(batch_size=size), TASK, plan)
    client, weights = open_client(plan, folder), spec.initial_weights()

    def plain() -> None:
        x, y = (np.load(folder / "train" / f"{part}.npy", mmap_mode="r") for part in "xy")
        torch_loop(x, y, size) if name == "PyTorch" else sklearn_loop(name, x, y, size)

    rounds, loops = [], []
    for number in range(repeats + 1):
        rounds.append(seconds(lambda seed=number: client.train(weights, seed)))  # type: ignore[misc]
        loops.append(seconds(plain))
    return statistics.median(rounds[1:]), statistics.median(loops[1:])


def main() -> None:
    """Measure, print and write the result."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--samples", type=int, default=20_000, help="training samples (default 20000)")
    parser.add_argument("--rounds", type=int, default=5, help="timed, of which the median counts (default 5)")
    parser.add_argument("--batch", type=int, nargs="+", default=[32, 128], help="(default 32 128)")
    arguments = parser.parse_args()
    names = [name for name in MODELS if name != "PyTorch" or importlib.util.find_spec("torch")]
    rng, rows = np.random.default_rng(0), []
    y = rng.integers(0, CLASSES, arguments.samples)
    x = rng.normal(0.5, 2, (arguments.samples, WIDTH)) + rng.normal(0, 2, (CLASSES, WIDTH))[y]
    with tempfile.TemporaryDirectory(prefix="fededge-benchmark-") as place, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        examples.write(Path(place) / "train", x, y, SCHEMA)
        for name in names:
            for batch in arguments.batch:
                ours, plain = measure(name, Path(place), batch, arguments.rounds)
                rows.append(
                    {
                        "model": name,
                        "batch": batch,
                        "plain s": round(plain, 3),
                        "fededge s": round(ours, 3),
                        "ratio": round(ours / plain, 2),
                    }
                )
    print(table(rows))
    print(save("frameworks", rows))


if __name__ == "__main__":
    main()
