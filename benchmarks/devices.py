"""Rounds of many devices on this machine: seconds a round, and memory a device, idle and while it trains.

    .venvs/platform/bin/python -m benchmarks.devices [--devices 50] [--rounds 5]

Each device is an agent of its own in the edge environment, enrolled at a gateway and connected to it; all take part in
each round, and train on LiteRT. The first round, which starts the runners, counts for itself. Memory is the mean over
devices of the proportional set size (a shared page counts once) and of what is the device's alone; of a runner it is that
of the largest seen. All devices share this machine's processors, of which each would have its own. Prints a table and
writes benchmarks/results/devices.json.
"""

import argparse
import os
import statistics
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path

import psutil

from benchmarks.results import save, table
from fededge import task as tasks
from pipelines.job import run_task
from pipelines.trial.fleet import TrialFleet

TASK = Path(__file__).resolve().parents[1] / "examples" / "smart-building" / "fleet.yaml"
MEGABYTE = 1e6


class Runners:
    """Watches the runners of a fleet's agents until `stop`; `largest`: bytes of the largest, shared pages in parts."""

    def __init__(self, fleet: TrialFleet) -> None:
        self.largest = 0
        self._fleet = fleet
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Look no longer."""
        self._ending.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._ending.wait(0.5):
            for client in list(self._fleet.clients.values()):
                with suppress(psutil.Error):
                    for child in psutil.Process(client.process.pid).children(recursive=True):
                        self.largest = max(self.largest, child.memory_full_info().pss)


def main() -> None:
    """Measure, print and write the result."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--devices", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    if options.rounds < 2:
        parser.error("--rounds: at least 2, as the first counts for itself")
    changes = [
        f"partition.clients={options.devices}",
        "partition.min_examples=10",
        f"learning.rounds={options.rounds}",
        f"operation.rounds_per_step={options.rounds}",
        f"learning.cohort.size={options.devices}",
        "learning.cohort.over_selection=1.0",
        f"operation.quorum={options.devices // 2}",
        "devices=[]",
        "gate.min=0",
        "operation.round_deadline_seconds=1200",
    ]
    with tempfile.TemporaryDirectory(prefix="fededge-benchmark-") as home:
        os.environ["FEDEDGE_HOME"] = home
        began = time.monotonic()
        spec = tasks.load(TASK, changes)
        with TrialFleet(spec, Path(home) / "fleet", agents=options.devices) as fleet:
            os.environ.update(fleet.environment)
            started = time.monotonic() - began
            idle = [
                psutil.Process(client.process.pid).memory_full_info() for client in fleet.clients.values()
            ]
            runners = Runners(fleet)
            facts = run_task(fleet.task, fresh=True).report.facts
            runners.stop()
    first, *rounds = facts.rounds
    rows = [
        {
            "devices": options.devices,
            "started, s": round(started, 1),
            "first round, s": round(first.seconds, 1),
            "a round, s": round(statistics.median(each.seconds for each in rounds), 2),
            "reported": round(statistics.mean(len(each.reported) for each in rounds), 1),
            "idle, MB each": round(statistics.mean(each.pss for each in idle) / MEGABYTE, 1),
            "alone, MB each": round(statistics.mean(each.uss for each in idle) / MEGABYTE, 1),
            "a runner, MB": round(runners.largest / MEGABYTE, 1),
        }
    ]
    print(table(rows))
    print(save("devices", rows))


if __name__ == "__main__":
    main()
