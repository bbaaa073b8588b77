"""fededge report: what came of a run."""

from pathlib import Path

import typer

from fededge.cli import show
from fededge.cli.run import Platform


def report(
    run: str = typer.Argument("", help="Run id (default: the latest on this machine).", show_default=False),
    on: Platform = typer.Option(Platform.local, "--on", help="Where it ran."),
    output: Path = typer.Option(
        None, "--output", "-o", help="File for the page (default: with the run; of Kubeflow: RUN.html)."
    ),
) -> None:
    """Write a run's report again, with what is known now, and show its summary.

    Of a run on Kubeflow, MLflow tells: MLFLOW_TRACKING_URI must name the server that its steps use.

    [bold]Examples[/bold]

      fededge report

      fededge report digits-20260101-120000-ab12

      fededge report 0e7c4e8d-bddb-4a25-abde-733aea37ced0 --on kubeflow
    """
    from fededge.report import summary

    if on is Platform.kubeflow:
        from fededge.report import write_report
        from pipelines.kubeflow import Kubeflow

        if not run:
            raise typer.BadParameter("name a run: `fededge runs --on kubeflow` lists them")
        page = output or Path(f"{run}.html")
        written = write_report(Kubeflow().get(run).learned(), run, page)
    else:
        from pipelines.job import report_again

        finished = report_again(run, output)
        written, page = finished.report, finished.page
    show.console().print(summary(written))
    show.wrote("report", page)
    show.wrote("tracking", written.tracking)
