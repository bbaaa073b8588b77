"""fededge runs: what ran, what came of it, and how to end it."""

import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from fededge import settings
from fededge.cli import live, show
from fededge.cli.run import Platform

if TYPE_CHECKING:
    from pipelines.runs import Run

app = typer.Typer(rich_markup_mode="rich", context_settings={"help_option_names": ["-h", "--help"]})

WHERE: Platform = typer.Option(Platform.local, "--on", help="Where they ran.")
LIMIT: int = typer.Option(20, min=1, max=100, help="How many to list, latest first.")
RUN: str = typer.Argument(..., help="Run id.", show_default=False)


@app.callback(invoke_without_command=True)
def runs(context: typer.Context, on: Platform = WHERE, limit: int = LIMIT, as_json: bool = show.JSON) -> None:
    """List the latest runs; show, compare and cancel them.

    [bold]Examples[/bold]

      fededge runs --on kubeflow --limit 5

      fededge runs show digits-20260101-120000-ab12
    """
    if context.invoked_subcommand is None:
        list_runs(on, limit, as_json)


@app.command("list")
def list_runs(on: Platform = WHERE, limit: int = LIMIT, as_json: bool = show.JSON) -> None:
    """List the latest runs, as [bold]fededge runs[/bold] does.

    MLflow tells round and score; where it does not know yet that a run has ended, it is told.
    """
    from fededge.errors import TrackingError
    from fededge.tracking.glance import reconcile
    from pipelines import listing

    if on is Platform.kubeflow:
        from pipelines.kubeflow import Kubeflow

        found = listing.cluster_runs(Kubeflow(), limit)
    else:
        found, damaged = listing.local_runs(settings.home(), limit)
        for error in damaged:
            print(f"passed over: {error}", file=sys.stderr)
    try:
        tracked = reconcile({run.run: run.ending for run in found})
    except TrackingError as error:
        tracked = {}
        print(f"round and score are not shown: {error}", file=sys.stderr)
    columns = [
        "run",
        "task",
        "state",
        "step",
        "round",
        "score",
        "age" if not as_json else "started",
        "outcome",
    ]
    rows = []
    for run in found:
        known = tracked.get(run.run)
        age = run.started if as_json else _age(run.started)
        progress = (known.round, known.score) if known else (None, None)
        rows.append((run.run, run.task, run.state, run.step, *progress, age, run.outcome))
    show.table(columns, rows, as_json=as_json)
    if not rows and not as_json:
        show.say("no runs yet: fededge run examples/digits/task.yaml")


@app.command("show")
def show_run(run: str = RUN, on: Platform = WHERE, as_json: bool = show.JSON) -> None:
    """Show a run: its steps, how long they took and how they ended."""
    facts, rows = _cluster_facts(run) if on is Platform.kubeflow else _local_facts(run)
    columns = ["step", "started", "seconds", "status"]
    if as_json:
        show.document({**facts, "steps": [dict(zip(columns, row, strict=True)) for row in rows]})
        return
    for name, value in facts.items():
        show.say(f"{name}: {value}")
    show.table(columns, rows)


@app.command()
def watch(run: str = RUN) -> None:
    """Follow a run on Kubeflow until it ends: its steps, rounds and scores."""
    from pipelines.kubeflow import Kubeflow

    live.follow(Kubeflow(), run)


@app.command()
def logs(
    run: str = RUN,
    step: str = typer.Argument("", help="Step (default: all, as they were started).", show_default=False),
    on: Platform = typer.Option(Platform.local, "--on", help="Where it ran."),
) -> None:
    """Print the logs of a run; on Kubeflow those of pods that are still there, by KUBECONFIG."""
    if on is Platform.kubeflow:
        from pipelines.pods import Pods

        for name, log in Pods().logs(run, step):
            show.say(f"==> {name} <==")
            typer.echo(log.rstrip("\n"))
        return
    from fededge.errors import RunError
    from pipelines.runs import named

    home = settings.home()
    found = named(home, run)
    files = {file.stem: file for file in sorted((found.folder(home) / "logs").glob("*.log"))}
    if step and step not in files:
        raise RunError(f"run {run} has no log of a step {step!r}: it has {', '.join(files) or 'none'}")
    for name in [step] if step else _in_order(found, home, files):
        if not step:
            show.say(f"==> {name} <==")
        with files[name].open(encoding="utf-8", errors="replace") as lines:
            for line in lines:
                typer.echo(line.rstrip("\n"))


@app.command()
def cancel(
    run: str = RUN, on: Platform = typer.Option(Platform.local, "--on", help="Where it runs.")
) -> None:
    """End a run that is under way, as Ctrl-C would."""
    if on is Platform.kubeflow:
        from pipelines.kubeflow import Kubeflow

        Kubeflow().cancel(run)
        show.say(f"told Kubeflow to end {run}")
    else:
        from pipelines.runs import cancel as end

        end(settings.home(), run)
        show.say(f"canceled {run}: fededge run goes on with it")


@app.command()
def compare(
    runs: list[str] = typer.Argument(..., help="Run ids, two or more.", show_default=False),
    html: Path = typer.Option(None, help="Write a page with scores by round, too.", show_default=False),
    as_json: bool = show.JSON,
) -> None:
    """Compare runs: the parameters in which they differ, and their last metrics, as MLflow has them.

    [bold]Example[/bold]

      fededge runs compare digits-20260101-120000-ab12 digits-20260102-090000-cd34 --html compared.html
    """
    if len(set(runs)) < 2:
        raise typer.BadParameter("give two different runs or more")
    from fededge import storage
    from fededge.report.comparison import compare as compared

    found = compared(list(dict.fromkeys(runs)))
    show.table(["", *found.runs], [(row.name, *row.values) for row in found.rows], as_json=as_json)
    if html:
        storage.write(str(html), found.page())
        if not as_json:
            show.wrote("page", html)


def _local_facts(run: str) -> tuple[dict[str, object], list[tuple[object, ...]]]:
    from pipelines.runs import named

    home = settings.home()
    found = named(home, run)
    status = found.status(home)
    steps = sorted(found.steps(home).steps.items(), key=lambda item: item[1].started)
    rows: list[tuple[object, ...]] = [
        (name, step.started, round(step.seconds, 1), status if step.status == "running" else step.status)
        for name, step in steps
    ]
    facts = {
        "run": found.id,
        "task": found.record.task,
        "started": found.record.started,
        "status": status,
        "outcome": found.record.outcome,
        "folder": found.folder(home),
    }
    return facts, rows


def _cluster_facts(run: str) -> tuple[dict[str, object], list[tuple[object, ...]]]:
    from pipelines.kubeflow import Kubeflow

    kubeflow = Kubeflow()
    found = kubeflow.get(run)
    facts = {
        "run": found.id,
        "task": found.task,
        "started": found.created,
        "status": found.state.lower(),
        "outcome": found.error or "",
        "version": found.version,
        "page": kubeflow.page(found.id),
    }
    rows = [(s.name, s.started, round(s.seconds, 1), s.state.lower()) for s in found.steps]
    return facts, list[tuple[object, ...]](rows)


def _age(started: datetime) -> str:
    seconds = (datetime.now(UTC) - started).total_seconds()
    for unit, length in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{seconds // length:.0f} {unit}"
    return f"{max(seconds, 0):.0f} s"


def _in_order(run: "Run", home: Path, files: dict[str, Path]) -> list[str]:
    """Names of the steps with a log, as they were started; kfp's own log is none of a step."""
    started = {name: step.started for name, step in run.steps(home).steps.items()}
    return sorted((name for name in files if name in started), key=lambda name: started[name])
