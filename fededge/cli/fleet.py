"""fededge fleet: a task tried with a gateway and clients on this machine."""

import os
import sys
import threading
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import typer
from rich.console import Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from fededge import settings
from fededge import task as tasks
from fededge.cli import fleet_options, show
from fededge.eligibility import CHARGING

if TYPE_CHECKING:
    from pipelines.trial.fleet import TrialFleet

LINES = 12
"""Of what happened last, below the clients."""


def fleet(
    task: Path = typer.Argument(..., help="Task file (YAML) with examples to spread.", show_default=False),
    changes: list[str] = show.CHANGES,
    slow: int = typer.Option(0, min=0, help="Sites that work five times slower."),
    die_after: int = typer.Option(
        0,
        min=0,
        help="Kill the last site after this round, and start it again two rounds later.",
        show_default=False,
    ),
    devices: int = typer.Option(
        0, min=0, help="Clients that are devices, with LiteRT alone; the rest are sites."
    ),
    relay: bool = typer.Option(
        False, help="Let a client be a relay, whose examples come from sensors over MQTT."
    ),
    churn: bool = typer.Option(
        False, help="Let devices lose their charger, go away and come back; only who charges works."
    ),
) -> None:
    """Try a task with a real fleet on this machine: a gateway, and a program of its own for each client.

    The task's examples are spread over the clients; then its pipeline runs, and reaches them through the gateway only.
    What it releases, devices take over the air. In a terminal the clients and their work are shown live. Ctrl-C ends all
    of it.

    [bold]Examples[/bold]

      fededge fleet examples/digits/task.yaml

      fededge fleet examples/digits/task.yaml --slow 1 --die-after 5

      fededge fleet examples/smart-building/fleet.yaml --devices 20 --relay --churn
    """
    from pipelines.job import run_task
    from pipelines.local_steps import StepFailed
    from pipelines.trial.churn import Churn
    from pipelines.trial.fleet import TrialFleet
    from pipelines.trial.gathering import followers

    spec = tasks.load(task, changes)
    view = _View()
    folder = settings.home() / "fleet" / spec.name
    try:
        with view, TrialFleet(spec, folder, slow, devices, relay, churn, view.say) as trial:
            os.environ.update(trial.environment)
            view.watch(trial, die_after)
            with Churn(trial, spec.seed) if churn else nullcontext():
                finished = run_task(trial.task, fresh=True, say=view.say)
            view.say(followers(trial))
    except StepFailed as error:
        print(f"error: {error}", file=sys.stderr)
        raise typer.Exit(1) from error
    except KeyboardInterrupt as stopped:
        print("stopped, and with it the gateway and all clients", file=sys.stderr)
        raise typer.Exit(130) from stopped
    from fededge.report import summary

    show.console().print(summary(finished.report))
    show.wrote("report", finished.page)


class _View:
    """What happens, in lines; in a terminal with the clients above them."""

    def __init__(self) -> None:
        self._console = show.console()
        self._live = Live(console=self._console, refresh_per_second=4) if self._console.is_terminal else None
        self._say = show.sayer()
        self._lines: list[str] = []
        self._clients: Table | None = None
        self._ending = threading.Event()
        self._watching: threading.Thread | None = None
        self._rounds = 0

    def __enter__(self) -> None:
        if self._live:
            self._live.__enter__()

    def __exit__(self, *error: object) -> None:
        self._ending.set()
        if self._watching:
            self._watching.join()
        if self._live:
            self._live.__exit__(None, None, None)

    def say(self, line: str) -> None:
        """Show a line."""
        if ": round " in line:
            self._rounds += 1
        if self._live is None:
            self._say(line)
            return
        self._lines = [*self._lines, line][-LINES:]
        self._draw()

    def watch(self, trial: "TrialFleet", die_after: int) -> None:
        """Look at the clients of `trial` from now on, and kill and start its last site as asked."""
        self._watching = threading.Thread(target=self._watch, args=(trial, die_after), daemon=True)
        self._watching.start()

    def _watch(self, trial: "TrialFleet", die_after: int) -> None:
        from fededge.errors import GatewayError

        last = [name for name, plan in trial.plans.items() if plan.program == "site"][-1:]
        plan = [(die_after, trial.kill), (die_after + 2, trial.start)] if die_after and last else []
        while not self._ending.wait(0.5):
            if plan and self._rounds >= plan[0][0]:
                plan.pop(0)[1](last[0])
            if self._live:
                with suppress(GatewayError):
                    self._clients = _table(trial)
                    self._draw()

    def _draw(self) -> None:
        if self._live:
            parts = [self._clients] if self._clients else []
            self._live.update(Group(*parts, *(Text(line) for line in self._lines)))


def _table(trial: "TrialFleet") -> Table:
    """The clients and what each does now, as the gateway tells."""
    with fleet_options.gateway() as gateway:
        working = {
            item.client: f"{each.kind} {each.number}: {item.state}"
            for each in gateway.rounds(state="open")
            for item in gateway.queue(each.round)
        }
        clients = list(gateway.clients())
    columns = ("client", "is", "region", "state", "now", "rounds", "examples", "runs")
    table = Table(*columns, box=None, pad_edge=False, header_style="dim")
    for client in clients:
        plan, running = trial.plans[client.client], trial.clients.get(client.client)
        state = "connected" if client.connected else "away"
        if client.conditions.get(CHARGING) == "false":
            state += ", not charging"
        table.add_row(
            client.client,
            plan.device_class or plan.program,
            plan.region,
            state + (" (slow)" if running and running.slow else ""),
            working.get(client.client, ""),
            str(client.rounds),
            f"{sum(each.train for each in client.datasets):,}",
            ", ".join(f"version {each.version}, {each.kind}" for each in client.running),
        )
    return table
