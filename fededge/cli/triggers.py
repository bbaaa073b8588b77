"""fededge triggers: when the gateway starts runs by itself."""

from datetime import UTC, datetime
from pathlib import Path

import typer

from fededge import task as tasks
from fededge.cli import fleet_options, show
from fededge.cli.fleet_options import gateway
from fededge.cli.run import Platform

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="rich",
    help="When the gateway starts pipeline runs by itself.",
    context_settings={"help_option_names": ["-h", "--help"]},
)
NAME: str = typer.Argument(..., help="Of the trigger.", show_default=False)


@app.command("list")
def list_triggers(as_json: bool = show.JSON) -> None:
    """List triggers, and what came of each."""
    with gateway() as fleet:
        found = list(fleet.triggers())
    if as_json:
        show.document([each.to_content() for each in found])
        return
    rows = [
        (
            each.name,
            each.when,
            each.target,
            each.state if each.enabled else "off",
            fleet_options.when(each.last_start),
            fleet_options.when(each.next_start),
            each.run or each.message,
        )
        for each in found
    ]
    show.table(("trigger", "when", "on", "state", "last start", "next start", "run"), rows)


@app.command("set")
def set_trigger(
    name: str = NAME,
    task: Path = typer.Argument(..., help="Task file (YAML) to run.", show_default=False),
    cron: str | None = typer.Option(None, help="Five fields, in UTC.", show_default=False),
    every: float | None = typer.Option(None, min=1.0, help="Seconds between two starts.", show_default=False),
    examples: int | None = typer.Option(None, min=1, help="New examples at clients.", show_default=False),
    updates: int | None = typer.Option(None, min=1, help="New updates of clients.", show_default=False),
    drift: str | None = typer.Option(
        None, metavar="METRIC=CHANGE", help="Change of a metric since the last start.", show_default=False
    ),
    hand: bool = typer.Option(False, "--hand", help="Only by fededge triggers fire."),
    dataset: str | None = typer.Option(None, help="Whose examples count.", show_default=False),
    ends: datetime | None = typer.Option(None, help="No start after it, in UTC.", show_default=False),
    on: Platform = typer.Option(Platform.kubeflow, help="Where to run."),
    off: bool = typer.Option(False, "--off", help="Keep it, and do not start anything."),
    changes: list[str] = show.CHANGES,
) -> None:
    """Make or change a trigger. A run in progress is not started twice; what was missed is caught up once.

    [bold]Examples[/bold]

      fededge triggers set nightly task.yaml --cron "0 3 * * *"

      fededge triggers set fresh task.yaml --examples 10000 --dataset rooms
    """
    from fededge.protocol import TriggerRequest

    given = {
        "cron": cron,
        "interval": every,
        "examples": examples,
        "blobs": updates,
        "drift": drift,
        "hand": hand or None,
    }
    kinds = [kind for kind, value in given.items() if value is not None]
    if len(kinds) != 1:
        raise typer.BadParameter("give one of --cron, --every, --examples, --updates, --drift, --hand")
    metric, change = _drift(drift)
    spec = tasks.load(task, changes)
    request = TriggerRequest.model_validate(
        {
            "when": kinds[0],
            "cron": cron,
            "every_seconds": every,
            "count": examples or updates,
            "metric": metric,
            "change": change,
            "dataset": dataset,
            "ends": None if ends is None else ends.replace(tzinfo=UTC).timestamp(),
            "target": on.value,
            "task": _for_target(spec, on).to_json(),
            "enabled": not off,
        }
    )
    with gateway() as fleet:
        show.document(_told(fleet.put_trigger(name, request).to_content()))


@app.command()
def remove(name: str = NAME) -> None:
    """Remove a trigger; a run that it started goes on."""
    with gateway() as fleet:
        fleet.delete_trigger(name)
    show.say(f"removed {name}")


@app.command()
def fire(name: str = NAME) -> None:
    """Start its run now."""
    with gateway() as fleet:
        show.document(_told(fleet.fire_trigger(name).to_content()))


def _drift(text: str | None) -> tuple[str | None, float | None]:
    if text is None:
        return None, None
    metric, _, change = text.partition("=")
    try:
        return metric, float(change)
    except ValueError as error:
        raise typer.BadParameter(f"--drift {text} is no METRIC=CHANGE, such as accuracy=0.02") from error


def _for_target(spec: tasks.FederatedTask, on: Platform) -> tasks.FederatedTask:
    """The task with its own code packed where it goes to a cluster, which has no such folder."""
    if on is Platform.local:
        return spec
    from fededge.learning.bundles import packed

    return packed(spec, on_cluster=True)


def _told(content: dict[str, object]) -> dict[str, object]:
    """A trigger without the task that it runs."""
    return {name: value for name, value in content.items() if name != "task"}
