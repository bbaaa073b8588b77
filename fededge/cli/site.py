"""fededge site: a site's own program, in the worker environment, which has what it needs to execute plans."""

import os

import typer


def site(context: typer.Context) -> None:
    """Take part in learning with data that stay here ([bold]fededge site --help[/bold] lists its commands)."""
    from pipelines.environments import interpreter_folder

    python = str(interpreter_folder("worker") / "python")
    os.execv(python, [python, "-m", "fededge", "site", *context.args])
