"""What reading a task file costs, against PyYAML's safe_load of the same text in the same run.

    .venvs/platform/bin/python -m benchmarks.tasks [--keys 60000] [--repeats 3]

Two texts: the digits example, and one with many unknown keys, which must be refused at once. Reading
means parsing, validating and telling the mistakes with their lines; safe_load only parses. Prints a
table and writes benchmarks/results/tasks.json.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import yaml

from benchmarks.results import save, table
from fededge import task as tasks
from fededge.errors import TaskError

EXAMPLE = Path(__file__).resolve().parents[1] / "examples" / "digits" / "task.yaml"


def seconds(work: Callable[[], object], repeats: int) -> float:
    """Median time of `work`."""
    times = []
    for _ in range(repeats):
        begun = time.perf_counter()
        work()
        times.append(time.perf_counter() - begun)
    return statistics.median(times)


def refused(text: str) -> str:
    """The error that reading `text` ends with."""
    try:
        tasks.parse(text)
    except TaskError as error:
        return str(error)
    raise SystemExit("a task with unknown keys was not refused")


def main() -> None:
    """Measure, print and write the result."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--keys", type=int, default=60_000, help="unknown keys (default: 60000)")
    parser.add_argument("--repeats", type=int, default=3, help="of each measurement (default: 3)")
    options = parser.parse_args()
    example = EXAMPLE.read_text()
    many = "name: t\ndata: {source: digits}\n" + "".join(f"key{n}: {n}\n" for n in range(options.keys))
    rows = []
    works: dict[str, tuple[str, Callable[[], object]]] = {
        "digits example": (example, lambda: tasks.parse(example)),
        f"{options.keys:,} unknown keys": (many, lambda: refused(many)),
    }
    for name, (text, work) in works.items():
        baseline = seconds(lambda text=text: yaml.safe_load(text), options.repeats)  # type: ignore[misc]
        ours = seconds(work, options.repeats)
        rows.append(
            {
                "text": name,
                "bytes": len(text),
                "safe_load ms": round(1000 * baseline, 1),
                "fededge ms": round(1000 * ours, 1),
                "ratio": round(ours / baseline, 2),
            }
        )
    print(table(rows))
    print(save("tasks", rows))


if __name__ == "__main__":
    main()
