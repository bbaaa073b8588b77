"""fededge doctor: is everything there that a run needs?"""

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from fededge import task as tasks
from fededge.cli import live, show
from fededge.cli.run import Platform

if TYPE_CHECKING:
    from fededge.delivery.readiness import Finding


def doctor(
    task: Path = typer.Argument(
        None, help="Task file (YAML); needed with --on kubeflow.", show_default=False
    ),
    on: Platform = typer.Option(Platform.local, "--on", help="Where it is to run."),
    quick: bool = typer.Option(False, "--quick", help="Only look from here; start nothing on the cluster."),
    as_json: bool = show.JSON,
) -> None:
    """Look whether everything is there that a run needs, and tell what to do where it is not.

    On Kubeflow, small pods then try the blob store from the endpoint's namespace, and whether steps are kept apart; and a
    small run tries each image, the secrets, MLflow and the blob store from inside.

    [bold]Examples[/bold]

      fededge doctor

      fededge doctor task.yaml --on kubeflow
    """
    if on is Platform.local:
        from pipelines.doctor import machine

        _tell(list(machine.look()), as_json)
        return
    if task is None:
        raise typer.BadParameter("name the task that is to run there")
    from fededge.delivery.api_server import ApiServer
    from pipelines.doctor import pipeline, probes
    from pipelines.doctor.quick import look
    from pipelines.kubeflow import Kubeflow

    spec = tasks.load(task)
    _tell(look(spec), as_json)
    if not quick:
        _tell(list(probes.look(ApiServer(), spec)), as_json)
        kubeflow = Kubeflow()
        with tempfile.TemporaryDirectory() as folder:
            package = Path(folder) / "pipeline.yaml"
            pipeline.compile_to(spec, package)
            submitted = kubeflow.run(package, spec, pipeline.NAME)
        show.wrote("trying from inside", submitted.url)
        live.follow(kubeflow, submitted.id)


def _tell(findings: "list[Finding]", as_json: bool) -> None:
    show.table(
        ["check", "good", "found", "remedy"],
        [(f.check, "yes" if f.good else "NO", f.found, f.remedy) for f in findings],
        as_json=as_json,
    )
    if not all(finding.good for finding in findings):
        raise typer.Exit(1)
