"""What orchestration costs: a DAG's time on this machine beyond the work of its steps.

    .venvs/platform/bin/python -m benchmarks.pipeline [TASK]

Runs the task's whole pipeline in a home of its own. `work` is the time in which at least one step did
its work, as the steps themselves recorded it; `imports` is the rest of the time in which a step's
process ran, which starts Python and imports its libraries; `orchestration` is the time in which no
step's process ran: kfp and the local runner. Prints a table and writes
benchmarks/results/pipeline.json.
"""

import argparse
import os
import tempfile
import time
from datetime import datetime
from pathlib import Path

from benchmarks.results import save, table
from fededge import task as tasks
from fededge.delivery.endpoints import local as local_endpoint
from fededge.tracking.run import TrackedRun

Interval = tuple[float, float]


def covered(intervals: list[Interval]) -> float:
    """Length of the union of `intervals`."""
    total, end = 0.0, float("-inf")
    for start, stop in sorted(intervals):
        total += max(0.0, stop - max(start, end))
        end = max(end, stop)
    return total


def main() -> None:
    """Measure, print and write the result."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("task", nargs="?", default="examples/digits/task.yaml", help="task file")
    task = tasks.load(parser.parse_args().task)
    with tempfile.TemporaryDirectory(prefix="fededge-benchmark-") as folder:
        os.environ["FEDEDGE_HOME"] = folder
        from pipelines.federated_training.pipeline import compile_to
        from pipelines.local import run_local

        package = Path(folder) / "pipeline.yaml"
        compile_to(task, package)
        begun: dict[str, float] = {}
        processes: list[Interval] = []

        def watch(line: str) -> None:
            name, _, rest = line.partition(" ")
            if rest == "started":
                begun[name] = time.time()
            elif rest.startswith("finished"):
                processes.append((begun[name], time.time()))

        started = time.time()
        try:
            run_local(package, {}, "benchmark", Path(folder), say=watch)
            wall = time.time() - started
            records = TrackedRun.join("benchmark", task).records()
        finally:
            if task.endpoint:
                local_endpoint.stop(task.endpoint.name)
    steps = [
        (at, at + record["seconds"])
        for name, record in records.items()
        if name.startswith("steps/")
        for at in [datetime.fromisoformat(record["started"]).timestamp()]
    ]
    work, running = covered(steps), covered(processes)
    rows = [
        {"part": part, "seconds": round(seconds, 2), "of the work": f"{seconds / work:.1%}"}
        for part, seconds in (
            ("work", work),
            ("imports", running - work),
            ("orchestration", wall - running),
            ("wall", wall),
        )
    ]
    print(table(rows))
    print(save("pipeline", rows))


if __name__ == "__main__":
    main()
