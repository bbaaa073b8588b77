"""fededge schedule: a task again and again."""

import re
import tempfile
from pathlib import Path

import typer

from fededge import task as tasks
from fededge.cli import show

UNITS = {"m": 60, "h": 3600, "d": 86400}


def schedule(
    task: Path = typer.Argument(..., help="Task file (YAML).", show_default=False),
    changes: list[str] = show.CHANGES,
    no_cache: bool = show.NO_CACHE,
    cron: str = typer.Option(
        "", help="Cron expression: 5 fields, or 6 with the seconds first.", show_default=False
    ),
    every: str = typer.Option("", help="Interval, such as 30m, 6h or 1d.", show_default=False),
) -> None:
    """Run a task on Kubeflow again and again, one run at a time.

    [bold]Examples[/bold]

      fededge schedule task.yaml --cron "0 3 * * 1"

      fededge schedule task.yaml --every 6h
    """
    if bool(cron) == bool(every):
        raise typer.BadParameter("give either --cron or --every")
    spec = tasks.load(task, changes)
    fields, seconds = (_cron(cron), None) if cron else (None, _seconds(every))
    from fededge.learning.bundles import packed
    from pipelines.check import check_before_submitting
    from pipelines.federated_training.pipeline import compile_to
    from pipelines.kubeflow import Kubeflow

    kubeflow = Kubeflow()
    spec = packed(spec, on_cluster=True)
    check_before_submitting(spec)
    with tempfile.TemporaryDirectory() as folder:
        package = Path(folder) / "pipeline.yaml"
        compile_to(spec, package, cache=not no_cache)
        submitted = kubeflow.schedule(package, spec, cron=fields, seconds=seconds)
    show.wrote("recurring run", submitted.id)
    show.wrote("page", submitted.url)


def _cron(text: str) -> str:
    """Kubeflow's six fields; of five, the seconds are 0."""
    fields = text.split()
    if len(fields) not in (5, 6):
        raise typer.BadParameter(f"--cron {text!r} has {len(fields)} fields, not 5 or 6")
    return " ".join(["0", *fields] if len(fields) == 5 else fields)


def _seconds(text: str) -> int:
    match = re.fullmatch(r"([1-9]\d{0,5})([mhd])", text)
    if match is None:
        raise typer.BadParameter(f"--every {text!r} is not an interval such as 30m, 6h or 1d")
    return int(match[1]) * UNITS[match[2]]
