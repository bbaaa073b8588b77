"""fededge schema: the task file's JSON Schema."""

import json
from pathlib import Path

import typer

from fededge import storage
from fededge import task as tasks
from fededge.cli import show


def schema(
    output: Path | None = typer.Option(None, "-o", "--output", help="File to write.", show_default=False),
) -> None:
    """Write the JSON Schema of task files, for editors to complete them.

    [bold]Examples[/bold]

      fededge schema -o task.schema.json

      (then begin a task file with: # yaml-language-server: $schema=task.schema.json)
    """
    text = json.dumps(tasks.json_schema(), indent=2) + "\n"
    if output is None:
        typer.echo(text, nl=False)
    else:
        storage.write(str(output), text.encode())
        show.wrote("schema", output)
