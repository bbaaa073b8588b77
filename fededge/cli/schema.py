"""fededge schema: the JSON Schema of a task file, of a cluster's, or of the protocol."""

import json
from pathlib import Path

import typer

from fededge import protocol, storage
from fededge import task as tasks
from fededge.cli import show


def schema(
    output: Path | None = typer.Option(None, "-o", "--output", help="File to write.", show_default=False),
    cluster: bool = typer.Option(False, "--cluster", help="Of the file that FEDEDGE_CLUSTER_FILE names."),
    messages: bool = typer.Option(
        False, "--protocol", help="Of what clients and gateways say (docs/protocol.md)."
    ),
) -> None:
    """Write the JSON Schema of task files, or of the file of a cluster, for editors to complete them; or of the protocol.

    [bold]Examples[/bold]

      fededge schema -o task.schema.json

      fededge schema --cluster -o cluster.schema.json

      (then begin a task file with: # yaml-language-server: $schema=task.schema.json)
    """
    content = (
        protocol.json_schema()
        if messages
        else tasks.json_schema(tasks.ClusterSettings if cluster else tasks.FederatedTask)
    )
    text = json.dumps(content, indent=2) + "\n"
    if output is None:
        typer.echo(text, nl=False)
    else:
        storage.write(str(output), text.encode())
        show.wrote("schema", output)
