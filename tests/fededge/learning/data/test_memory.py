"""Files larger than the memory that reading them takes."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytestmark = pytest.mark.environment("worker")

MEGABYTES = 300
PROGRAM = """
import sys
from pathlib import Path
import pyarrow.csv
from fededge.learning.data import folders
from fededge.task import parse

def memory(kind):
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(kind)).split()[1]) / 1000

task, out = parse(sys.argv[1]), Path(sys.argv[2])
before = memory("VmRSS")
population = folders.prepare(task.local_data, task.partition, 0, out / "clients", out / "test")
print(population.examples, memory("VmHWM") - before)
"""


def prepared(data: str, out: Path) -> tuple[int, float]:
    """Examples that clients got, and megabytes at the peak more than before, in a process of its own."""
    task = f"name: t\ndata: {{{data}}}\npartition: {{kind: iid, clients: 4}}\n"
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, task, str(out)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    examples, megabytes = done.stdout.split()
    return int(examples), float(megabytes)


def test_a_csv_file_of_300_megabytes_takes_less_than_two_thirds_of_it(tmp_path: Path) -> None:
    row = ",".join(["0.12345678"] * 30)
    block = "".join(f"{row},{number % 3}\n" for number in range(1000))
    with (tmp_path / "t.csv").open("w") as file:
        file.write(",".join([*(f"c{number}" for number in range(30)), "label"]) + "\n")
        for _ in range(MEGABYTES * 1_000_000 // len(block)):
            file.write(block)
    examples, megabytes = prepared(f"source: csv, path: {tmp_path}/t.csv, label: label", tmp_path / "out")
    assert examples > 600_000
    assert megabytes < MEGABYTES * 2 / 3


def test_a_compressed_npz_file_of_300_megabytes_takes_less_than_two_thirds_of_it(tmp_path: Path) -> None:
    count = MEGABYTES * 1_000_000 // (64 * 64 * 3)
    x = np.zeros((count, 64, 64, 3), np.uint8)
    y = np.arange(count) % 10
    np.savez_compressed(tmp_path / "d.npz", x_train=x, y_train=y, x_test=x[:100], y_test=y[:100])
    examples, megabytes = prepared(f"source: npz, path: {tmp_path}/d.npz", tmp_path / "out")
    assert examples == count
    assert megabytes < MEGABYTES * 2 / 3
