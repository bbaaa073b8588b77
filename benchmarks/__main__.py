"""Every benchmark, one after the other, each in its environment: `python3.11 -m benchmarks`."""

import argparse
import subprocess
import sys
from pathlib import Path

from fededge.host.environments import set_up
from fededge.host.layout import ROOT, interpreter, say

BENCHMARKS = (
    ("worker", "rounds"),
    ("worker", "frameworks"),
    ("worker", "data"),
    ("worker", "litert"),
    ("worker", "selection"),
    ("worker", "workers"),
    ("platform", "pipeline"),
    ("platform", "tasks"),
    ("serving", "serving"),
    ("platform", "registry"),
    ("platform", "gateway"),
    ("edge", "relay"),
    ("platform", "devices"),
    ("platform", "gateway.overload"),
    ("platform", "gateway.churn"),
    ("platform", "gateway.cut"),
    ("platform", "gateway.local"),
    ("platform", "gateway.stragglers"),
    ("platform", "functions"),
    ("platform", "flower"),
)


def main() -> None:
    """Run them all; what fails ends it."""
    parser = argparse.ArgumentParser(prog="python3.11 -m benchmarks", description="Run every benchmark.")
    parser.add_argument("--mnist", type=Path, help="file with the arrays of Keras's mnist.npz")
    parser.add_argument("--no-tests", action="store_true", help="do not time `make test`")
    options = parser.parse_args()
    set_up()
    commands = [[str(interpreter(name)), "-m", f"benchmarks.{script}"] for name, script in BENCHMARKS]
    images = ["--mnist", str(options.mnist.resolve())] if options.mnist else []
    commands.append([str(interpreter("platform")), "-m", "benchmarks.seed_serverless_edge", *images])
    tests = ["--no-tests"] if options.no_tests else []
    commands.append([sys.executable, "-m", "benchmarks.jobs", *images, *tests])
    for command in commands:
        say(" ".join(command[1:]))
        subprocess.run(command, cwd=ROOT, check=True)


if __name__ == "__main__":
    main()
