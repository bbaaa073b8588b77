"""fededge agent: the agent of a device, in the edge environment."""

import subprocess
from typing import Any

import typer

from fededge.errors import EnvironmentMissing

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

    python = interpreter_folder("edge") / "python"
    if not python.exists():
        raise EnvironmentMissing(f"{python} is missing: run `make run`, or `python -m fededge.setup`")
    status = subprocess.run([python, "-m", "fededge.fleet.agent", *context.args]).returncode
    raise typer.Exit(status)
