"""Clients on LiteRT alone against clients on TensorFlow: time and memory of one, accuracy of rounds of either kind.

    .venvs/worker/bin/python -m benchmarks.litert [--mnist FILE] [--seeds 3] [--only work memory accuracy]

Both kinds are runner processes, as at a site, in one thread each, of the worker and of the edge environment. Work is
seconds of the processor a sample of one pass, so that others at work on this machine count little; the two take turns.
Memory is the peak of resident pages (VmHWM) of a process that trains the seed CNN on 600 images. Start is from the start
of the process to the answer to a request with one batch. Prints tables and writes benchmarks/results/litert.json.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np

from benchmarks.results import save, table
from fededge import counting, examples
from fededge.documents import Feature, Label, Plan, Schema
from fededge.host.layout import ROOT, interpreter
from fededge.learning.data.folders import prepare
from fededge.learning.federated import FederatedEngine
from fededge.learning.frameworks import add_litert, model_spec
from fededge.learning.runtimes.local import ALIVE_AT_ONCE, LocalSites
from fededge.processes import ended_with_parent
from fededge.task import ClientOptimizer, FederatedTask, Model
from fededge.weights import to_bytes

TENSORFLOW = [sys.executable, "-m", "fededge.learning.runtimes.site"]
LITERT = [str(interpreter("edge")), "-m", "fededge.device.litert_runner"]
KINDS = {"TensorFlow": TENSORFLOW, "LiteRT": LITERT}
TASK = "sha256:" + "0" * 64
IMAGES, ROUNDS, BATCH = 600, 20, 32
IMAGE = Schema(
    features=[Feature(name="image", dtype="float32", shape=[28, 28, 1])],
    label=Label(kind="class", classes=10),
)
TABLE = Schema(
    features=[Feature(name="x", dtype="float32", shape=[64], mean=0.5, std=2.0)],
    label=Label(kind="class", classes=10),
)
CNN = Model(name="cnn")
PLAIN = Model(name="cnn", arguments={"dropout": 0.0})
WORK = [
    ("seed CNN", CNN, IMAGE, 16, 3200),
    ("seed CNN", CNN, IMAGE, 32, 3200),
    ("seed CNN, no dropout", PLAIN, IMAGE, 16, 3200),
    ("seed CNN, no dropout", PLAIN, IMAGE, 32, 3200),
    ("MLP", Model(name="mlp"), TABLE, 32, 20_000),
    ("linear", Model(name="regression"), TABLE, 32, 20_000),
]


class Runner:
    """A runner process that is asked to train."""

    def __init__(self, command: Sequence[str], plan: Path, data: Path) -> None:
        self._process = subprocess.Popen(
            ended_with_parent([*command, "--plan", str(plan), "--data", str(data)]),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            text=True,
        )

    def train(self, folder: Path, number: int = 1) -> float:
        """Train from the weights in `folder`; seconds of the processor that it took."""
        assert self._process.stdin
        assert self._process.stdout
        begun = self._seconds()
        files = {"weights": str(folder / "weights"), "update": str(folder / "update")}
        self._process.stdin.write(json.dumps({"do": "train", "seed": 1, "round": number, **files}) + "\n")
        self._process.stdin.flush()
        answer = json.loads(self._process.stdout.readline())
        assert answer == {}, answer
        return self._seconds() - begun

    @property
    def peak(self) -> float:
        """MiB."""
        lines = Path(f"/proc/{self._process.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) / 1024

    def end(self) -> None:
        """Let it end."""
        self._process.communicate()

    def _seconds(self) -> float:
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def running(plan: Path, data: Path) -> Iterator[dict[str, Runner]]:
    """A process of either kind."""
    runners = {name: Runner(command, plan, data) for name, command in KINDS.items()}
    try:
        yield runners
    finally:
        for runner in runners.values():
            runner.end()


def client(folder: Path, schema: Schema, count: int) -> None:
    """A client's training examples that a model can learn from, and a test set."""
    rng = np.random.default_rng(0)
    y = rng.integers(0, 10, count)
    x = rng.random((count, *schema.shape)) * 0.5 + rng.random((10, *schema.shape))[y] * 0.5
    for part in ("train", "test"):
        examples.write(folder / part, x, y, schema)


def exported(folder: Path, model: Model, schema: Schema, batch: int) -> Path:
    """The plan, and the weights beside it."""
    spec, work = model_spec(model, schema, 0), ClientOptimizer(batch_size=batch)
    spec.export_plan(work, TASK, folder / "plan")
    add_litert(spec, work, folder / "plan")
    (folder / "weights").write_bytes(to_bytes(spec.initial_weights()))
    return folder / "plan"


def work(folder: Path, repeats: int) -> list[dict[str, Any]]:
    """Microseconds of the processor a sample: the median of passes after one that warms up."""
    rows = []
    for place, (name, model, schema, batch, count) in enumerate(WORK):
        home = folder / str(place)
        client(home / "client", schema, count)
        found: dict[str, list[float]] = {name: [] for name in KINDS}
        with running(exported(home, model, schema, batch), home / "client") as runners:
            for number in range(repeats + 1):
                for kind, runner in runners.items():
                    found[kind].append(runner.train(home, number) / count * 1e6)
        medians = {kind: statistics.median(values[1:]) for kind, values in found.items()}
        rows.append(
            {
                "model": name,
                "batch": batch,
                **{f"{kind} us": round(value) for kind, value in medians.items()},
                "ratio": round(medians["LiteRT"] / medians["TensorFlow"], 2),
            }
        )
    return rows


def memory(folder: Path, repeats: int) -> list[dict[str, Any]]:
    """Peak memory, and the fewest seconds from start to the answer to a request with one batch."""
    rows = []
    for batch in (16, BATCH):
        home = folder / str(batch)
        client(home / "client", IMAGE, IMAGES)
        client(home / "short", IMAGE, batch)
        plan = exported(home, CNN, IMAGE, batch)
        for kind, command in KINDS.items():
            starts, clocks = [], []
            for _ in range(repeats):
                begun = time.perf_counter()
                runner = Runner(command, plan, home / "short")
                runner.train(home)
                starts.append(time.perf_counter() - begun)
                clocks.append(runner._seconds())
                runner.end()
            runner = Runner(command, plan, home / "client")
            runner.train(home)
            row = {"kind": kind, "batch": batch, "peak MiB": round(runner.peak)}
            rows.append(row | {"start s": round(min(starts), 2), "of the processor s": round(min(clocks), 2)})
            runner.end()
    return rows


class Sites(LocalSites):
    """Local sites of which those in `on_litert` run on LiteRT."""

    def __init__(self, plan: Path, clients: Path, on_litert: set[str]) -> None:
        super().__init__(plan, clients)
        self._on_litert = on_litert

    def command(self, client: str) -> list[str]:
        """See LocalSites."""
        return LITERT if client in self._on_litert else TENSORFLOW


def accuracy(folder: Path, seeds: int, mnist: Path | None) -> list[dict[str, Any]]:
    """Percent of the held-out images after ROUNDS rounds of as many clients as stay alive, which all take part."""
    os.environ["PYTHONPATH"] = str(ROOT)
    rows = []
    for seed in range(1, seeds + 1):
        content = {
            "name": "litert",
            "seed": seed,
            "data": {"source": "npz", "path": str(mnist)} if mnist else {"source": "digits"},
            "partition": {"kind": "dirichlet", "clients": ALIVE_AT_ONCE, "alpha": 1.0},
            "learning": {"client": {"batch_size": BATCH}, "cohort": {"size": ALIVE_AT_ONCE}},
        }
        task = FederatedTask.from_json(json.dumps(content))
        home = folder / f"accuracy-{seed}"
        population = prepare(task.local_data, task.partition, seed, home / "clients", home / "test")
        spec = model_spec(task.model, population.example, seed)
        spec.export_plan(task.learning.client, task.identity, home / "plan")
        add_litert(spec, task.learning.client, home / "plan")
        names = [each.id for each in population.clients]
        row: dict[str, Any] = {"seed": seed, "images": "MNIST" if mnist else "digits"}
        for kind, on_litert in (
            ("TensorFlow", set[str]()),
            ("LiteRT", set(names)),
            ("mixed", set(names[::2])),
        ):
            sites = Sites(home / "plan", home / "clients", on_litert)
            weights = spec.initial_weights()
            document = Plan.read(home / "plan" / "plan.json")
            with FederatedEngine(document, task.learning, task.operation, seed, sites) as engine:
                server = engine.initialize()
                for number in range(1, ROUNDS + 1):
                    result = engine.next(weights, server, number, population.clients)
                    weights, server = result.weights, result.server
            x, y = examples.read(home / "test", population.example)
            found = counting.counts(population.example, spec.predict(weights, x), x, y)
            row[f"{kind} %"] = round(100 * found["correct"] / found["examples"], 2)
        rows.append(row)
    return rows


def main() -> None:
    """Measure, print and write the result."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--mnist", type=Path, help="file with the arrays of Keras's mnist.npz; default: digits"
    )
    parser.add_argument("--seeds", type=int, default=3, help="of the rounds (default 3)")
    parser.add_argument("--repeats", type=int, default=5, help="of work and start (default 5)")
    parser.add_argument("--only", nargs="+", choices=("work", "memory", "accuracy"), help="(default all)")
    arguments = parser.parse_args()
    wanted = arguments.only or ("work", "memory", "accuracy")
    rows = []
    with tempfile.TemporaryDirectory(prefix="fededge-benchmark-") as place:
        parts = {
            "work": lambda: work(Path(place) / "work", arguments.repeats),
            "memory": lambda: memory(Path(place) / "memory", arguments.repeats),
            "accuracy": lambda: accuracy(Path(place), arguments.seeds, arguments.mnist),
        }
        for name in wanted:
            found = parts[name]()
            print(table(found), flush=True)
            rows += [{"part": name, **row} for row in found]
    print(save("litert", rows))


if __name__ == "__main__":
    main()
