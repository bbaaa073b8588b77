"""Processor seconds of tables: preparing CSV and Parquet against npy, an epoch over what was prepared, and peak memory.

    .venvs/worker/bin/python -m benchmarks.data [--rows 300000]

The same table of 15 columns of numbers and a class is written as CSV, Parquet and npy. A client's folder is prepared
from each, and then read for an epoch by TensorFlow's reader and by numpy's, shuffled, in batches of 128. `one file a
column` is the same epoch where each column lies in a file of its own, which the layout avoids. Each measurement is a
process, whose imports are not counted; rows enough for a file of a gigabyte show that memory does not follow its size.
Prints a table and writes benchmarks/results/data.json.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.memory import Peak
from benchmarks.results import save, table

COLUMNS = 15
STEP = 100_000
BATCH = 128
REPEATS = 3
SOURCES = ("npy", "csv", "parquet")


def pieces(rows: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """x float32 [n, COLUMNS] and y int64 [n] with something to learn, STEP rows at a time."""
    generator = np.random.default_rng(0)
    for start in range(0, rows, STEP):
        x = generator.normal(20, 5, (min(STEP, rows - start), COLUMNS)).astype(np.float32).round(3)
        yield x, (x[:, 0] > x[:, 1]).astype(np.int64)


def write_table(folder: Path, rows: int) -> None:
    """table.csv, table.parquet, x.npy and y.npy of `rows` rows in `folder`."""
    import pyarrow as pa
    from pyarrow import csv, parquet

    names = [f"c{number}" for number in range(COLUMNS)]
    form = pa.schema([*((name, pa.float32()) for name in names), ("label", pa.int64())])
    x_file = np.lib.format.open_memmap(folder / "x.npy", "w+", np.float32, (rows, COLUMNS))
    y_file = np.lib.format.open_memmap(folder / "y.npy", "w+", np.int64, (rows,))
    with (
        csv.CSVWriter(folder / "table.csv", form) as text,
        parquet.ParquetWriter(folder / "table.parquet", form) as binary,
    ):
        start = 0
        for x, y in pieces(rows):
            part = pa.Table.from_arrays([*(pa.array(column) for column in x.T), pa.array(y)], schema=form)
            text.write_table(part)
            binary.write_table(part)
            x_file[start : start + len(x)], y_file[start : start + len(x)] = x, y
            start += len(x)


def prepare(source: str, folder: Path) -> float:
    """Processor seconds to prepare one client's folder, `folder`/<source>, from the table."""
    from pyarrow import csv, parquet  # noqa: F401  imported before the clock starts

    from fededge.learning.data import folders
    from fededge.task import CsvData, LocalData, NpyData, ParquetData, Partition

    data: LocalData
    if source == "npy":
        data = NpyData(source="npy", x=str(folder / "x.npy"), y=str(folder / "y.npy"), kind="class")
    elif source == "csv":
        data = CsvData(source="csv", path=str(folder / "table.csv"), label="label")
    else:
        data = ParquetData(source="parquet", path=str(folder / "table.parquet"), label="label")
    begun = time.process_time()
    folders.prepare(data, Partition(kind="iid", clients=1), 0, folder / source, folder / f"{source}-test")
    return time.process_time() - begun


def epoch(reader: str, train: Path) -> float:
    """Median processor seconds of an epoch over the folder `train`, after one that warms up."""
    from fededge.documents import Schema

    schema = Schema.read(train / "schema.json")
    if reader == "numpy":
        from fededge import examples
        from fededge.learning.streaming import training_blocks

        stored = examples.read(train, schema)

        def one_pass() -> int:
            return sum(len(y) for _, y in training_blocks(schema, *stored, 1, BATCH, 1))
    else:
        one_pass = tensorflow_pass(schema, train, columns=reader == "columns")
    times = []
    for _ in range(REPEATS + 1):
        begun = time.process_time()
        one_pass()
        times.append(time.process_time() - begun)
    return statistics.median(times[1:])


def tensorflow_pass(schema: Any, train: Path, columns: bool) -> Callable[[], int]:
    """An epoch by TensorFlow's reader; `columns`: from one file a column, which are made first."""
    import tensorflow as tf

    from fededge import examples
    from fededge.learning.frameworks.keras import batches

    if not columns:
        dataset = batches.training_batches(
            schema, tf.constant(str(train)), tf.constant(1, tf.int64), BATCH, 1
        )
    else:
        x = np.load(train / "x.npy", mmap_mode="r")
        files = [train / f"column-{number}.npy" for number in range(COLUMNS)]
        for number, file in enumerate(files):
            np.save(file, np.ascontiguousarray(x[:, number]))
        records = [
            tf.data.FixedLengthRecordDataset(str(file), size, header_bytes=examples.HEADER)
            for file, size in [*((file, 4) for file in files), (train / "y.npy", 8)]
        ]
        shuffled = tf.data.Dataset.zip(tuple(records)).shuffle(batches.SHUFFLE_BUFFER, seed=1)

        def decode(*batch: Any) -> dict[str, Any]:
            side = [tf.io.decode_raw(column, tf.float32) for column in batch[:-1]]
            return {"x": tf.concat(side, axis=1), "y": tf.io.decode_raw(batch[-1], tf.int64)}

        options = tf.data.Options()
        options.autotune.enabled = False
        options.threading.max_intra_op_parallelism = 1
        dataset = shuffled.batch(BATCH).map(decode).with_options(options)

    def one_pass() -> int:
        return int(dataset.reduce(0, lambda count, batch: count + tf.size(batch["y"])))

    return one_pass


def child(*arguments: str) -> tuple[float, Peak]:
    """This script as one measurement: processor seconds, and its peak memory."""
    with Peak() as peak:
        output = subprocess.run(
            [sys.executable, "-m", "benchmarks.data", "--measure", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=os.environ | peak.variables | {"TF_CPP_MIN_LOG_LEVEL": "3"},
            check=True,
        ).stdout
    return float(json.loads(output.splitlines()[-1])), peak


def main() -> None:
    """Run one measurement, or all of them."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=300_000, help="rows of the table (default: 300000)")
    parser.add_argument("--no-epochs", action="store_true", help="measure preparation only")
    parser.add_argument("--measure", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        what, name, folder = options.measure
        print(prepare(name, Path(folder)) if what == "prepare" else epoch(name, Path(folder)))
        return
    rows: list[dict[str, Any]] = []
    baseline: dict[str, float] = {}

    def add(work: str, kind: str, size: int | None, found: tuple[float, Peak]) -> None:
        seconds, peak = found
        first = baseline.setdefault(kind, seconds)
        rows.append(
            {
                "work": work,
                "file MB": round(size / 1e6) if size else "",
                "processor s": round(seconds, 2),
                "ratio to npy": round(seconds / first, 2),
                "peak MB": round(peak.megabytes),
                "without mapped files": round(peak.own),
            }
        )
        print(rows[-1], flush=True)

    with tempfile.TemporaryDirectory(prefix="fededge-benchmark-") as name:
        folder = Path(name)
        write_table(folder, options.rows)
        files = {"npy": "x.npy", "csv": "table.csv", "parquet": "table.parquet"}
        for source in SOURCES:
            size = (folder / files[source]).stat().st_size
            add(f"prepare {source}", "prepare", size, child("prepare", source, name))
        for reader in () if options.no_epochs else ("tensorflow", "numpy", "columns"):
            for source in SOURCES if reader != "columns" else SOURCES[:1]:
                train = folder / source / "site-0" / "train"
                work = (
                    f"epoch, {reader}, from {source}" if reader != "columns" else "epoch, one file a column"
                )
                add(work, reader.replace("columns", "tensorflow"), None, child("epoch", reader, str(train)))
    print(table(rows))
    print(save("data", rows))


if __name__ == "__main__":
    main()
