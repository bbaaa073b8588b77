"""What the verbs print, and how."""

import functools
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

from rich.console import Console
from rich.table import Table


def console() -> Console:
    """The console on today's standard output; lines are not wrapped where it is not a terminal."""
    return Console(file=sys.stdout, soft_wrap=not sys.stdout.isatty(), highlight=False)


def sayer() -> Callable[[str], None]:
    """A `say` that stays with today's standard output, also while it is redirected."""
    return functools.partial(console().print, markup=False)


def say(text: str) -> None:
    """Print `text` as it is."""
    sayer()(text)


def wrote(what: str, path: Path | str) -> None:
    """Say what was written and where."""
    say(f"{what}: {path}")


def table(columns: Iterable[str], rows: Iterable[Iterable[object]]) -> None:
    """Print a table; text is shown as it is, never as markup."""
    shown = Table(box=None, pad_edge=False, header_style="dim")
    for column in columns:
        shown.add_column(column, overflow="fold")
    for row in rows:
        shown.add_row(*(_plain(str(cell)) for cell in row))
    console().print(shown)


def _plain(text: str) -> str:
    return "".join(c if c.isprintable() else "?" for c in text).replace("[", "\\[")
