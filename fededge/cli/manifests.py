"""fededge manifests: what a cluster needs, as YAML for GitOps."""

from pathlib import Path

import typer

from fededge import storage
from fededge.cli import show


def manifests(
    overlay: str = typer.Argument(
        ..., help="Folder in manifests/overlays: kubeflow, profile, k3s, mlflow, ...", show_default=False
    ),
    changes: list[str] = typer.Option(
        [],
        "--set",
        metavar="KEY=VALUE",
        help="Change namespace, endpoints-namespace, mlflow-namespace, account (of the runs), registry or tag; "
        "repeatable.",
    ),
    output: Path | None = typer.Option(None, "-o", "--output", help="File to write.", show_default=False),
) -> None:
    """Print the manifests of an overlay, as `kubectl apply -k` would send them, with names changed.

    [bold]Examples[/bold]

      fededge manifests profile --set namespace=team-a | kubectl apply -f -

      fededge manifests mlflow --set registry=harbor.example/fededge --set tag=0.1.0 -o mlflow.yaml
    """
    from pipelines.manifests import build

    text = build(overlay, changes)
    if output is None:
        typer.echo(text, nl=False)
    else:
        storage.write(str(output), text.encode())
        show.wrote("manifests", output)
