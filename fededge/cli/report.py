"""fededge report: what came of a run."""

import typer

from fededge.cli import show


def report(
    run: str = typer.Argument("", help="Run id (default: the latest on this machine).", show_default=False),
) -> None:
    """Write a run's report again, with what is known now, and show its summary.

    [bold]Examples[/bold]

      fededge report

      fededge report digits-20260101-120000-ab12
    """
    from fededge.report import summary
    from pipelines.job import report_again

    finished = report_again(run)
    show.console().print(summary(finished.report))
    show.wrote("report", finished.page)
    show.wrote("tracking", finished.report.tracking)
