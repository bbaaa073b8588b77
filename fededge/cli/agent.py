"""fededge agent: the agent of a device, in the edge environment."""

import os
from typing import Any

import typer

PASS_THROUGH: dict[str, Any] = {
    "context_settings": {
        "allow_extra_args": True,
        "ignore_unknown_options": True,
        "help_option_names": [],
    },
    "add_help_option": False,
}


def agent(context: typer.Context) -> None:
    """Run the agent of a device ([bold]fededge agent --help[/bold] lists its options)."""
    from pipelines.environments import interpreter_folder

    python = str(interpreter_folder("edge") / "python")
    os.execv(python, [python, "-m", "fededge.device.agent", *context.args])
