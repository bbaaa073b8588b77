"""fededge schema: the JSON Schema of a task file, or of a cluster's."""

import json
from pathlib import Path

import typer

from fededge import storage
from fededge import task as tasks
from fededge.cli import show


def schema(
    output: Path | None = typer.Option(None, "-o", "--output", help="File to write.", show_default=False),
    cluster: bool = typer.Option(False, "--cluster", help="Of the file that FEDEDGE_CLUSTER_FILE names."),
) -> None:
    """Write the JSON Schema of task files, or of the file of a cluster, for editors to complete them.

    [bold]Examples[/bold]

      fededge schema -o task.schema.json

      fededge schema --cluster -o cluster.schema.json

      (then begin a task file with: # yaml-language-server: $schema=task.schema.json)
    """
    text = (
        json.dumps(tasks.json_schema(tasks.ClusterSettings if cluster else tasks.FederatedTask), indent=2)
        + "\n"
    )
    if output is None:
        typer.echo(text, nl=False)
    else:
        storage.write(str(output), text.encode())
        show.wrote("schema", output)
