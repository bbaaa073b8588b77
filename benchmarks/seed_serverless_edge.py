"""The experiment of the serverless edge paper, end to end: accuracy by round, training and serving under its limits.

    .venvs/platform/bin/python -m benchmarks.seed_serverless_edge [--mnist FILE] [--rounds 50] [--output FOLDER]

Ta Phuong Bac, Minh Ngoc Tran and YoungHan Kim 2022, Serverless Computing Approach for Deploying Machine Learning
Applications in Edge Layer, section IV. Without --mnist the images are scikit-learn's digits. Each part is a process in
its own environment that writes <part>.json; then README.md and its charts are written beside them.
"""

import argparse
import os
import subprocess
from pathlib import Path

from benchmarks.edge import page
from benchmarks.results import FOLDER
from fededge.host.layout import ROOT, interpreter, say

PARTS = {"learning": "worker", "training": "worker", "serving": "serving", "functions": "serving"}
"""Parts, and the environment of each."""


def main() -> None:
    """Measure the parts that are asked for, and write the page of all that are there."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--mnist", type=Path, help="file with the arrays of Keras's mnist.npz")
    parser.add_argument(
        "--rounds", type=int, default=50, help="most rounds; it stops at a plateau (default: 50)"
    )
    parser.add_argument(
        "--parts", nargs="*", choices=PARTS, default=list(PARTS), help="to measure (default: all)"
    )
    parser.add_argument(
        "--output", type=Path, default=FOLDER / "serverless-edge", help="folder that gets page, charts, JSON"
    )
    options = parser.parse_args()
    output = options.output.resolve()
    output.mkdir(parents=True, exist_ok=True)
    images = [str(options.mnist.resolve())] if options.mnist else []
    own = {"learning": [str(options.rounds), *images], "training": images, "serving": [], "functions": images}
    environment = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"}
    for part in options.parts:
        say(f"measuring {part}")
        command = [
            str(interpreter(PARTS[part])),
            "-m",
            f"benchmarks.edge.{part}",
            str(output),
        ]
        subprocess.run([*command, *own[part]], cwd=ROOT, env=environment, check=True)
    say(f"wrote {page.write(output)}")


if __name__ == "__main__":
    main()
