"""A run's progress: plain lines, and in a terminal one more below them that lives."""

import contextlib
import re
import sys
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import TYPE_CHECKING

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from fededge.cli import show

if TYPE_CHECKING:
    from pipelines.kubeflow import Kubeflow

ROUND = re.compile(
    r": round (?P<done>\d+)/(?P<all>\d+): .*?loss \S+, (?P<metric>.+?) (?P<training>-?[\d.]+)"
    r"(?:, held out (?P<held_out>-?[\d.]+))?.*, (?P<seconds>[\d.]+) s$"
)
"""What `run_rounds` says of a committed round."""


@contextlib.contextmanager
def progress() -> Iterator[Callable[[str], None]]:
    """A `say` for a run; in a terminal, a line below what it says shows round, score and time left."""
    console = show.console()
    if not console.is_terminal:
        yield show.sayer()
        return
    columns = (TextColumn("round"), MofNCompleteColumn(), BarColumn(), TextColumn("{task.description}"))
    with Progress(*columns, console=console, transient=True) as shown:
        rounds = shown.add_task("", total=None, visible=False)
        seconds: list[float] = []

        def say(line: str) -> None:
            console.print(line, markup=False)
            found = ROUND.search(line)
            if found:
                seconds.append(float(found["seconds"]))
                shown.update(
                    rounds,
                    completed=int(found["done"]),
                    total=int(found["all"]),
                    description=_described(found, seconds),
                    visible=True,
                )

        yield say


def follow(kubeflow: "Kubeflow", run: str) -> None:
    """Show a run on Kubeflow until it ends; the command ends with its outcome."""
    from fededge.errors import KubeflowError
    from pipelines.pods import Pods
    from pipelines.watching import Watch

    try:
        pods = Pods()
    except KubeflowError:
        pods = None
    try:
        with progress() as say:
            ended = Watch(kubeflow, run, say, pods).wait()
    except KeyboardInterrupt as stopped:
        print(f"the run goes on; come back to it: fededge runs watch {run}", file=sys.stderr)
        raise typer.Exit(130) from stopped
    state = ended.ending.state if ended.ending else ended.state
    show.say(f"{run} {state.lower()}")
    if state != "SUCCEEDED":
        if ended.error:
            print(f"error: {ended.error}", file=sys.stderr)
        raise typer.Exit(1)


def _described(found: re.Match[str], seconds: list[float]) -> str:
    """The score of a round, and how long the rounds still take if they go on as those before."""
    score = (
        f"held out {found['held_out']}"
        if found["held_out"]
        else f"{found['metric']} in training {found['training']}"
    )
    left = (int(found["all"]) - int(found["done"])) * sum(seconds) / len(seconds)
    return f"{score}, {timedelta(seconds=round(left))} left" if left else score
