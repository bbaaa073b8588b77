"""Every benchmark, one after the other, each in its environment: `python3.11 -m benchmarks`.

Options go to benchmarks.jobs (`--mnist FILE`, `--no-tests`).
"""

import subprocess
import sys

from fededge.host.environments import set_up
from fededge.host.layout import ROOT, interpreter, say

BENCHMARKS = (
    ("worker", "rounds"),
    ("worker", "frameworks"),
    ("platform", "pipeline"),
    ("platform", "tasks"),
    ("serving", "serving"),
)


def main() -> None:
    """Run them all; what fails ends it."""
    set_up()
    commands = [[str(interpreter(name)), "-m", f"benchmarks.{script}"] for name, script in BENCHMARKS]
    for command in [*commands, [sys.executable, "-m", "benchmarks.jobs", *sys.argv[1:]]]:
        say(" ".join(command[1:]))
        subprocess.run(command, cwd=ROOT, check=True)


if __name__ == "__main__":
    main()
