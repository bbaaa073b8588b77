"""Wall time, peak memory and accuracy of the two jobs, in a fresh clone of what is committed.

    python3.11 -m benchmarks.jobs [--mnist FILE] [--no-tests]

Set-up is timed apart. Memory is the largest sum, over all processes of a job, of the proportional
set size (each shared page counts once). Prints a table and writes benchmarks/results/jobs.json.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.memory import Peak
from benchmarks.results import save, table
from fededge.host.layout import ROOT, say


def measure(name: str, command: list[str], clone: Path) -> dict[str, Any]:
    """Run a job to its end: its seconds and its peak memory.

    Raises:
        SystemExit: it failed.
    """
    say(name)
    shared = os.environ.get("FEDEDGE_SHARED") or str(ROOT.parent / "shared")
    started = time.monotonic()
    with Peak() as peak:
        variables = os.environ | peak.variables | {"FEDEDGE_SHARED": shared}
        status = subprocess.run(command, cwd=clone, env=variables, stdout=subprocess.DEVNULL).returncode
    if status:
        raise SystemExit(f"{name} failed with status {status}: run it by hand in a clone")
    seconds = round(time.monotonic() - started, 1)
    return {"job": name, "seconds": seconds, "peak GB": round(peak.megabytes / 1000, 2)}


def accuracies(clone: Path) -> dict[str, float]:
    """Held-out accuracy of the latest run's last round, and of centralized training."""
    run = max((clone / ".fededge" / "runs").iterdir(), key=lambda folder: folder.stat().st_mtime)
    evaluations = [json.loads(f.read_bytes()) for f in run.glob("artifacts/*/evaluate-model*/evaluation")]
    (central,) = (json.loads(f.read_bytes()) for f in run.glob("artifacts/*/train-centralized/centralized"))
    last = max(evaluations, key=lambda evaluation: evaluation["round"])
    return {"accuracy": round(last["score"], 4), "centralized": round(central["score"], 4)}


def main() -> None:
    """Clone, set up, and measure each job."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--mnist", type=Path, help="file with the arrays of Keras's mnist.npz")
    parser.add_argument("--no-tests", action="store_true", help="leave `make test` out")
    options = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory(prefix="fededge-benchmark-") as folder:
        clone = Path(folder) / "clone"
        subprocess.run(["git", "clone", "--quiet", str(ROOT), str(clone)], check=True)
        job = [sys.executable, "-m", "fededge.host"]
        fededge = str(clone / ".venvs" / "platform" / "bin" / "fededge")
        rows.append(measure("set-up", [*job, "setup"], clone))
        rows.append(measure("make run (digits)", [*job, "run"], clone) | accuracies(clone))
        if options.mnist:
            (clone / "examples" / "mnist" / "mnist.npz").symlink_to(options.mnist.resolve())
            command = [fededge, "run", "examples/mnist/task.yaml"]
            rows.append(measure("mnist", command, clone) | accuracies(clone))
        subprocess.run([fededge, "stop"], cwd=clone, check=True)
        if not options.no_tests:
            rows.append(measure("make test", [*job, "test"], clone))
    columns = ("job", "seconds", "peak GB", "accuracy", "centralized")
    rows = [{column: row.get(column, "") for column in columns} for row in rows]
    print(table(rows))
    print(save("jobs", rows))


if __name__ == "__main__":
    main()
