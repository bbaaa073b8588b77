"""fededge relay: collects from sensors and learns for them, in the edge environment."""

import os

import typer


def relay(context: typer.Context) -> None:
    """Collect from sensors over MQTT and learn for them ([bold]fededge relay --help[/bold] lists its commands)."""
    from pipelines.environments import interpreter_folder

    python = str(interpreter_folder("edge") / "python")
    os.execv(python, [python, "-m", "fededge", "relay", *context.args])
