"""A round over a gateway against the same round on one machine: three clients, the digits example.

    .venvs/platform/bin/python -m benchmarks.gateway.local [--rounds 10] [--turns 2] [--epochs 1 5]

`fededge run` and `fededge fleet` learn the same task in turn, on this machine: the first trains its clients in worker
processes that read one disk, the second at three sites that a gateway reaches. Told are the median seconds from the end
of a round to the end of the next, its checkpoint and what is told of it included, for the task as it is and with each
number of local epochs that is named. Prints a table and writes benchmarks/results/local.json.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from itertools import pairwise
from pathlib import Path

from benchmarks.results import save, table
from fededge import task
from fededge.learning import state

ROOT = Path(__file__).resolve().parents[2]
TASK = ROOT / "examples" / "digits" / "task.yaml"
CHANGES = ("compare.centralized=false", "gate.max_gap_to_centralized=null", "endpoint=null", "devices=[]")
BAR = 1.1


def rounds_of(command: str, home: Path, changes: list[str]) -> list[float]:
    """Seconds from each round's end to the next one's, of those that `fededge COMMAND` takes."""
    options = [part for change in (*CHANGES, *changes) for part in ("--set", change)]
    variables = {**os.environ, "FEDEDGE_HOME": str(home), "PYTHONPATH": str(ROOT)}
    program = [sys.executable, "-m", "fededge", command, str(TASK), *options]
    ended = subprocess.run(program, cwd=ROOT, env=variables, capture_output=True, text=True, check=False)
    newest = max((home / "runs").iterdir(), key=lambda folder: folder.stat().st_mtime)
    found = list(newest.glob("artifacts/*/run-rounds/next_state"))
    if not found:
        raise SystemExit(f"fededge {command} failed:\n{ended.stdout}\n{ended.stderr}")
    return [later.at - earlier.at for earlier, later in pairwise(state.load(found[0]).history)]


def main() -> None:
    """Measure, print and write the result."""
    parser = argparse.ArgumentParser(description="Compare rounds over a gateway with local ones.")
    parser.add_argument("--rounds", type=int, default=10, help="of a run (default: 10)")
    parser.add_argument("--turns", type=int, default=2, help="runs of each (default: 2)")
    parser.add_argument(
        "--epochs", type=int, nargs="+", default=[], help="local ones, besides the task's own"
    )
    options = parser.parse_args()
    own = task.load(TASK).learning.client.epochs
    rows = []
    for epochs in [own, *options.epochs]:
        changes = [
            f"learning.rounds={options.rounds}",
            f"learning.client.epochs={epochs}",
            f"operation.rounds_per_step={options.rounds}",
            "gate.min=0",
        ]
        times: dict[str, list[float]] = {"run": [], "fleet": []}
        for _ in range(options.turns):
            for command, found in times.items():
                with tempfile.TemporaryDirectory(prefix="fededge-benchmark-") as home:
                    found += rounds_of(command, Path(home), changes)
        local, fleet = (statistics.median(times[command]) for command in ("run", "fleet"))
        rows.append(
            {
                "epochs": epochs,
                "local, s": round(local, 2),
                "gateway, s": round(fleet, 2),
                "rounds of each": len(times["run"]),
                "ratio": round(fleet / local, 2),
            }
        )
    print(table(rows))
    met = [str(row["epochs"]) for row in rows if row["ratio"] <= BAR]
    print(f"the bar is {BAR}: met with {' and '.join(met) or 'no number of'} epochs")
    print(save("local", rows))


if __name__ == "__main__":
    main()
