"""fededge compile: a task's pipeline as a file."""

from pathlib import Path

import typer

from fededge import task as tasks
from fededge.cli import show


def compile_task(
    task: Path = typer.Argument(..., help="Task file (YAML).", show_default=False),
    output: Path = typer.Option(..., "-o", "--output", help="File to write.", show_default=False),
) -> None:
    """Compile a task's pipeline to YAML for Kubeflow Pipelines.

    [bold]Example[/bold]

      fededge compile examples/digits/task.yaml -o digits.yaml
    """
    spec = tasks.load(task)
    from pipelines.federated_training.pipeline import compile_to

    compile_to(spec, output)
    show.wrote("compiled", output)
