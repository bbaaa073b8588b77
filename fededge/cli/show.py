"""What the verbs print, and how; and the options that several of them have."""

import functools
import json
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import typer
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table

from fededge.errors import StorageError

JSON: bool = typer.Option(False, "--json", help="Print JSON instead of a table.")
CHANGES: list[str] = typer.Option(
    [], "--set", metavar="KEY=VALUE", help="Change the task, such as learning.rounds=5; repeatable."
)
NO_CACHE: bool = typer.Option(
    False, "--no-cache", help="Let each step run on Kubeflow, and none be reused from an earlier run."
)
UNBOUNDED = 1 << 16
"""Width of a table where nobody's window limits it."""


def console(width: int | None = None) -> Console:
    """The console on today's standard output; lines are not wrapped where it is not a terminal."""
    return Console(file=sys.stdout, soft_wrap=not sys.stdout.isatty(), highlight=False, width=width)


def sayer() -> Callable[[str], None]:
    """A `say` that stays with today's standard output, also while it is redirected."""
    return functools.partial(console().print, markup=False)


def say(text: str) -> None:
    """Print `text` as it is."""
    sayer()(text)


def wrote(what: str, path: Path | str) -> None:
    """Say what was written and where."""
    say(f"{what}: {path}")


def secret(path: Path, text: str) -> None:
    """Write a secret to the new file `path`, which its owner alone may read.

    Raises:
        StorageError: it is there already, or cannot be written.
    """
    try:
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise StorageError(
            f"cannot write {path}: {error.strerror}. Name a new file in a folder of yours"
        ) from error


def table(columns: Sequence[str], rows: Iterable[Sequence[object]], *, as_json: bool = False) -> None:
    """Print a table, or its rows as a JSON list of objects.

    Text is shown as it is, never as markup. Only the last column may be wrapped, between words: names
    and addresses stay whole, so that they can be copied.
    """
    if as_json:
        keys = [column.lower().replace(" ", "_") for column in columns]
        document([dict(zip(keys, row, strict=True)) for row in rows])
        return
    cells = [[_plain(_text(cell)) for cell in row] for row in rows]
    shown = Table(box=None, pad_edge=False, header_style="dim")
    needed = 0
    for index, column in enumerate(columns):
        last = index == len(columns) - 1
        words = [
            part
            for text in (column, *(row[index] for row in cells))
            for part in (text.split() if last else [text])
        ]
        width = max(map(cell_len, words), default=0)
        needed += width + 2
        shown.add_column(column, no_wrap=not last, min_width=width)
    for row in cells:
        shown.add_row(*(cell.replace("[", "\\[") for cell in row))
    terminal = console().width if sys.stdout.isatty() else UNBOUNDED
    console(max(terminal, needed)).print(shown)


def document(content: Any) -> None:
    """Print JSON `content`."""
    typer.echo(json.dumps(content, indent=1, default=_text_in_json, ensure_ascii=False))


def _text_in_json(value: object) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)


def _text(cell: object) -> str:
    if isinstance(cell, datetime):
        return f"{cell:%Y-%m-%d %H:%M:%S} UTC"
    if isinstance(cell, float):
        return f"{cell:.4f}".rstrip("0").rstrip(".")
    if isinstance(cell, list):
        return ", ".join(map(str, cell))
    return "" if cell is None else str(cell)


def _plain(text: str) -> str:
    return "".join(c if c.isprintable() else "?" for c in text)
