"""Seconds a round of many simulated clients: two workers against a process a client, on this machine.

    .venvs/worker/bin/python -m benchmarks.workers

Each client holds a few of the digits and trains the CNN for one epoch. The first round of workers has their start in
it; a process a client starts anew wherever more than four clients take part. Prints a table and writes
benchmarks/results/workers.json; it ends with an error where the two hand in other bits.
"""

import argparse
import json
import resource
import tempfile
import time
from pathlib import Path

from benchmarks.results import save, table
from fededge.learning.data import folders
from fededge.learning.frameworks import model_spec
from fededge.learning.interfaces import ClientRuntime
from fededge.learning.runtimes.jobs import JobClients
from fededge.learning.runtimes.local import LocalSites
from fededge.learning.runtimes.replica import ReplicaProgram
from fededge.learning.runtimes.replica_processes import ReplicaProcesses
from fededge.task import FederatedTask
from fededge.weights import Weights

WORKERS = 2
DEADLINE = 3600.0


def measure(
    runtime: ClientRuntime, weights: Weights, ids: list[str], rounds: int
) -> tuple[list[dict[str, bytes]], float, float]:
    """The updates of each round, and the seconds and the processor seconds of all."""
    started, before = time.perf_counter(), _processor_seconds()
    found = []
    with runtime:
        for number in range(1, rounds + 1):
            reports = runtime.train(weights, 0, number, ids, DEADLINE)
            found.append({each.client: each.update.read_bytes() for each in reports if each.update})
    return found, time.perf_counter() - started, _processor_seconds() - before


def _processor_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main() -> None:
    """Measure both."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--clients", type=int, default=40, help="simulated clients (default 40)")
    parser.add_argument("--rounds", type=int, default=2, help="rounds (default 2)")
    given = parser.parse_args()
    content = {
        "name": "workers",
        "data": {"source": "digits", "holdout": 0.2},
        "partition": {"kind": "iid", "clients": given.clients},
        "learning": {"client": {"batch_size": 16}},
    }
    task = FederatedTask.from_json(json.dumps(content))
    with tempfile.TemporaryDirectory(prefix="fededge-benchmark-") as place:
        root = Path(place)
        plan, clients, exchange = root / "plan", root / "clients", (root / "exchange").as_uri()
        population = folders.prepare(task.local_data, task.partition, task.seed, clients, root / "test")
        model = model_spec(task.model, population.example, task.seed)
        model.export_plan(task.learning.client, task.identity, plan)
        program = ReplicaProgram(exchange, WORKERS, str(clients), DEADLINE)
        runtimes: dict[str, ClientRuntime] = {
            "a process a client": LocalSites(plan, clients),
            f"{WORKERS} workers": JobClients(
                plan, clients, exchange, ReplicaProcesses(program), WORKERS, None
            ),
        }
        ids = [client.id for client in population.clients]
        updates, rows = [], []
        for name, runtime in runtimes.items():
            print(f"measuring {name}", flush=True)
            found, seconds, processor = measure(runtime, model.initial_weights(), ids, given.rounds)
            updates.append(found)
            rows.append(
                {
                    "clients": given.clients,
                    "where": name,
                    "s a round": round(seconds / given.rounds, 2),
                    "processor s a round": round(processor / given.rounds, 2),
                }
            )
    if updates[0] != updates[1] or any(len(each) != given.clients for each in updates[0]):
        raise SystemExit("the updates of workers are not those of a process a client")
    print(table(rows), flush=True)
    print(save("workers", rows))


if __name__ == "__main__":
    main()
