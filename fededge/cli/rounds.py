"""fededge rounds: what is learned over the gateway, round by round."""

import typer

from fededge.cli import fleet_options, show
from fededge.cli.fleet_options import LIMIT, gateway
from fededge.protocol import RoundStatus

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="rich",
    help="Rounds over the gateway, and the work of their clients.",
    context_settings={"help_option_names": ["-h", "--help"]},
)
ROUND: str = typer.Argument(..., help="Id of the round.", show_default=False)
PAUSE = 1.0
"""Seconds between two looks at a round."""


@app.command("list")
def list_rounds(
    task: str | None = typer.Option(None, help="Only those of it.", show_default=False),
    open_only: bool = typer.Option(False, "--open", help="Only those that go on."),
    limit: int = LIMIT,
    as_json: bool = show.JSON,
) -> None:
    """List rounds, the latest first: who reported, what it cost in bytes and seconds.

    [bold]Example[/bold]

      fededge rounds list --task rooms --open
    """
    with gateway() as fleet:
        found = list(fleet_options.first(fleet.rounds(task=task, state="open" if open_only else None), limit))
    if as_json:
        show.document([each.to_content() for each in found])
        return
    columns = (
        "round",
        "kind",
        "state",
        "reported",
        "failed",
        "waiting",
        "opened",
        "MB down",
        "MB up",
        "client s",
    )
    show.table(columns, [_row(each) for each in found])


@app.command("show")
def show_round(round_id: str = ROUND, as_json: bool = show.JSON) -> None:
    """Show a round, and how the work of each of its clients stands."""
    with gateway() as fleet:
        status = fleet.round(round_id)
        queue = list(fleet.queue(round_id))
    if as_json:
        show.document({**status.to_content(), "queue": [item.to_content() for item in queue]})
        return
    for name, value in status.to_content().items():
        if name not in ("cohort", "failures"):
            show.say(f"{name}: {value}")
    rows = [
        (item.client, item.state, item.attempts, item.message or status.failures.get(item.client, ""))
        for item in queue
    ]
    show.table(("client", "state", "sent", "message"), rows)


@app.command()
def watch(round_id: str = ROUND) -> None:
    """Follow a round until it is closed."""
    import time

    shown = None
    with gateway() as fleet:
        while True:
            status = fleet.round(round_id)
            line = f"{status.reported} of {status.goal} reported, {status.failed} failed, {status.waiting} waiting"
            if line != shown:
                show.say(line)
                shown = line
            if status.state == "closed":
                break
            time.sleep(PAUSE)
    show.say(f"closed: {status.outcome or 'not yet told by its coordinator'} {status.reason}".rstrip())


def _row(status: RoundStatus) -> tuple[object, ...]:
    return (
        status.round,
        status.kind,
        status.outcome or status.state,
        status.reported,
        status.failed,
        status.waiting,
        fleet_options.when(status.opened),
        status.bytes_down / 1e6,
        status.bytes_up / 1e6,
        status.client_seconds,
    )
