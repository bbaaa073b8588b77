"""fededge runs: what ran."""

import typer

from fededge import settings
from fededge.cli import show
from fededge.cli.run import Platform


def runs(
    on: Platform = typer.Option(Platform.local, help="Where they ran."),
    limit: int = typer.Option(20, min=1, max=100, help="How many to list, latest first."),
) -> None:
    """List the latest runs.

    [bold]Example[/bold]

      fededge runs --on kubeflow --limit 5
    """
    if on is Platform.kubeflow:
        from pipelines.kubeflow import Kubeflow

        found = Kubeflow().runs(limit)
        rows = [(r.run_id, r.display_name, r.created_at, r.state) for r in found]
        show.table(["run", "name", "started", "state"], rows)
    else:
        from pipelines.runs import all_runs

        here = all_runs(settings.home())[:limit]
        show.table(
            ["run", "started", "status", "outcome"], [(r.id, r.started, r.status, r.outcome) for r in here]
        )
    if not (found if on is Platform.kubeflow else here):
        show.say("no runs yet: fededge run examples/digits/task.yaml")
