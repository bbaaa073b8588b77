"""fededge check: a task and its data, before anything runs."""

from pathlib import Path

import typer

from fededge import task as tasks
from fededge.cli import show


def check(
    task: Path = typer.Argument(..., help="Task file (YAML).", show_default=False),
    changes: list[str] = show.CHANGES,
) -> None:
    """Check a task and its data, as `run` does before its first step. Nothing is written.

    [bold]Example[/bold]

      fededge check examples/digits/task.yaml --set partition.clients=10
    """
    spec = tasks.load(task, changes)
    from pipelines.check import check as check_data

    show.table(("checked", "found"), [(each.checked, each.found) for each in check_data(spec)])
