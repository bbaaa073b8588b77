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
    """Run models that are released to this device, and learn from its data ([bold]fededge agent --help[/bold])."""
    from pipelines.environments import interpreter_folder

    python = str(interpreter_folder("edge") / "python")
    os.execv(python, [python, "-m", "fededge", "agent", *context.args])
