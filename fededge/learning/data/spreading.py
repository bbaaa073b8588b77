"""A task's examples as folders, to be carried to the clients that hold them.

    python -m fededge.learning.data.spreading < request.json

reads a `Request` and writes an `Answer`.
"""

import sys
from pathlib import Path

from pydantic import BaseModel

from fededge.documents import Population
from fededge.errors import FedEdgeError, StorageError, TaskError
from fededge.learning.data import folders
from fededge.task import FederatedTask, FleetData


class Request(BaseModel):
    """The task as canonical JSON, and the new folder to write."""

    task: str
    output: Path


class Answer(BaseModel):
    """Who got how many examples, or the named error that it ended with."""

    population: Population | None = None
    error: str | None = None
    message: str = ""


def spread(task: FederatedTask, output: Path) -> Population:
    """Write a folder for each client of `task` into `output`/clients, and what is held out into
    `output`/held-out/examples.

    The same task gives the same files as the step prepare_data makes.

    Raises:
        DataError: the examples are missing or malformed, or cannot be spread as asked; nothing is left of them.
        TaskError: the examples lie at clients already.
        StorageError: `output` exists, or cannot be written.
    """
    if isinstance(task.data, FleetData):
        raise TaskError(f"task {task.name} has data.source fleet: its examples lie at clients already")
    try:
        output.mkdir(parents=True)
    except OSError as error:
        raise StorageError(f"cannot make {output}: {error.strerror}. Name a new folder") from error
    return folders.prepare(
        task.data, task.partition, task.seed, output / "clients", output / "held-out" / "examples"
    )


def main() -> None:
    """Spread what the request on standard input says; status 2 where that ends with a named error."""
    try:
        request = Request.model_validate_json(sys.stdin.read())
        answer = Answer(population=spread(FederatedTask.from_json(request.task), request.output))
    except FedEdgeError as error:
        answer = Answer(error=type(error).__name__, message=str(error))
    print(answer.model_dump_json())
    sys.exit(2 if answer.error else 0)


if __name__ == "__main__":
    main()
