"""What the steps will find in a task's data, found before the first of them runs.

    python -m fededge.learning.data.checking < task.json

reads a task as canonical JSON and writes a `Report` as JSON. Nothing else is written, and TensorFlow is not
imported.
"""

import sys

import numpy as np
from pydantic import BaseModel

from fededge.errors import DataError, FedEdgeError, TaskError
from fededge.learning.data import partition, sources
from fededge.task import FederatedTask, KerasMnist


class Finding(BaseModel):
    """One thing that was checked, and what was found."""

    checked: str
    found: str


class Report(BaseModel):
    """What was found, or the named error that the data ends with."""

    findings: list[Finding] = []
    error: str | None = None
    message: str = ""


def check(task: FederatedTask) -> list[Finding]:
    """Load and spread the task's examples in memory, and see whether all that it asks for can be had.

    Keras's MNIST is downloaded by the step that prepares it, so it is left out here.

    Raises:
        DataError: the data are missing or malformed, cannot be spread as asked, or hold too little.
        TaskError: a cohort is larger than the population.
        StorageError: they cannot be read.
    """
    source = f"data.source {task.data.source}"
    if isinstance(task.data, KerasMnist):
        return [Finding(checked=source, found="is downloaded, and checked, by the step prepare-data")]
    loaded = sources.load(task.data, task.seed)
    shares = partition.assign(task.partition, task.seed, loaded.y, loaded.owners)
    sizes = [len(indices) for indices in shares.values()]
    findings = [
        (source, f"{len(loaded.x):,} training and {len(loaded.test_x):,} test examples"),
        ("labels", f"{len(np.unique(loaded.y))} of {loaded.classes} classes"),
        (
            f"partition.kind {task.partition.kind}",
            f"{len(sizes)} clients with {min(sizes):,} to {max(sizes):,} examples",
        ),
        (f"learning.cohort.size {task.learning.cohort.size}", _cohort(task, len(sizes))),
    ]
    if any(variant.kind == "int8" for variant in task.variants):
        findings.append(("variant int8", _calibration(task, sizes)))
    return [Finding(checked=checked, found=found) for checked, found in findings]


def _cohort(task: FederatedTask, clients: int) -> str:
    size = task.learning.cohort.size
    if size > clients:
        raise TaskError(
            f"learning.cohort.size is {size} but the data name only {clients} clients (data.key): lower the size"
        )
    return f"can be had from {clients} clients"


def _calibration(task: FederatedTask, sizes: list[int]) -> str:
    """Whether enough clients hold enough training examples for the ranges that calibrate int8."""
    floor = task.privacy
    train = [size - partition.held_out(size, task.partition.local_holdout) for size in sizes]
    enough = sum(count >= floor.min_examples for count in train)
    if enough < floor.min_clients:
        raise DataError(
            f"variant int8 is calibrated by at least {floor.min_clients} clients (privacy.min_clients) with "
            f"{floor.min_examples} training examples each (privacy.min_examples), but only {enough} of {len(sizes)} "
            "have as many: spread the data less skewed, lower the floor, or list variants without int8"
        )
    return f"calibrated by {enough} clients"


def main() -> None:
    """Check the task on standard input; status 2 where its data end with a named error."""
    try:
        report = Report(findings=check(FederatedTask.from_json(sys.stdin.read())))
    except FedEdgeError as error:
        report = Report(error=type(error).__name__, message=str(error))
    print(report.model_dump_json())
    sys.exit(2 if report.error else 0)


if __name__ == "__main__":
    main()
