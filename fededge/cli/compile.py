"""fededge compile: a task's pipeline as a file."""

from pathlib import Path

import typer

from fededge import task as tasks
from fededge.cli import show


def compile_task(
    task: Path = typer.Argument(..., help="Task file (YAML).", show_default=False),
    changes: list[str] = show.CHANGES,
    no_cache: bool = show.NO_CACHE,
    output: Path = typer.Option(..., "-o", "--output", help="File to write.", show_default=False),
    explain: bool = typer.Option(
        False, "--explain", help="Tell steps, pods, bytes and what a cluster takes."
    ),
) -> None:
    """Compile a task's pipeline to YAML for Kubeflow Pipelines.

    [bold]Example[/bold]

      fededge compile examples/digits/task.yaml -o digits.yaml --set learning.rounds=5 --explain
    """
    spec = tasks.load(task, changes)
    from fededge.learning.bundles import packed
    from pipelines.check import check_before_submitting
    from pipelines.federated_training.pipeline import compile_to

    spec = packed(spec, on_cluster=True)
    check_before_submitting(spec)
    compile_to(spec, output, cache=not no_cache)
    show.wrote("compiled", output)
    if explain:
        from pipelines.explaining import explain as explained

        for name, text in explained(output):
            show.say(f"{name}: {text}")
