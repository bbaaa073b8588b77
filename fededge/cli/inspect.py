"""fededge inspect: what is in a data set, and a task that fits it."""

import os
from pathlib import Path
from typing import Any

import typer

from fededge import storage
from fededge import task as tasks
from fededge.cli import show
from fededge.documents import ColumnFinding, Inspection
from fededge.errors import DataError

SOURCES = {
    ".csv": "csv",
    ".tsv": "csv",
    ".txt": "csv",
    ".parquet": "parquet",
    ".pq": "parquet",
    ".npz": "npz",
}
SKLEARN = "sklearn:"


def inspect(
    data: str = typer.Argument(
        ...,
        help="A file (.csv, .parquet, .npz, .npy), a folder of images or of clients, sklearn:NAME, or a task file.",
        show_default=False,
    ),
    label: list[str] = typer.Option([], "--label", help="Column to predict; repeatable.", show_default=False),
    owner: str | None = typer.Option(None, help="Column that names each row's owner.", show_default=False),
    time: str | None = typer.Option(None, help="Column that says when.", show_default=False),
    write: Path | None = typer.Option(
        None, "--write", help="Write a task file that fits.", show_default=False
    ),
    page: Path | None = typer.Option(None, "--page", help="Write a page (HTML).", show_default=False),
    as_json: bool = show.JSON,
) -> None:
    """Look at a data set: its schema, what is missing, who owns what, and how values are distributed.

    [bold]Examples[/bold]

      fededge inspect people.csv --label income --write task.yaml --page people.html

      fededge inspect task.yaml
    """
    section = _section(data, label, owner, time)
    folder = os.path.realpath(write.parent) if write else None
    from pipelines.inspection import inspect as inspect_data

    found = inspect_data(section, folder)
    if as_json:
        show.document(found.to_content())
    else:
        _print(found)
    if page is not None:
        from fededge.report.inspection import render

        storage.write(str(page), render(found))
        show.wrote("page", page)
    if write is not None:
        storage.write(str(write), found.task.encode())
        show.wrote("task", write)
        show.say(f"run it: fededge run {write}")


def _section(data: str, label: list[str], owner: str | None, time: str | None) -> dict[str, Any]:
    """The section `data` of a task, as far as the command says it."""
    path = Path(data)
    if path.suffix in (".yaml", ".yml"):
        return tasks.load(path).data.model_dump(mode="json")
    if data.startswith(SKLEARN):
        return {"source": "sklearn", "name": data.removeprefix(SKLEARN)}
    said = {"label": label[0] if len(label) == 1 else label or None, "owner": owner, "time": time}
    table = {key: value for key, value in said.items() if value}
    whole = data if "://" in data else os.path.realpath(path)
    if path.is_dir():
        return _folder(path, whole, table)
    source = SOURCES.get(path.suffix.lower())
    if source in ("csv", "parquet"):
        return {"source": source, "path": whole, **table}
    if source == "npz":
        return {"source": source, "path": whole, **({"key": owner} if owner else {})}
    if path.suffix == ".npy":
        return {"source": "npy", "x": whole, **({"y": os.path.realpath(label[0])} if label else {})}
    raise DataError(
        f"{data} is no kind of data that is known by its name: give {', '.join(sorted({*SOURCES, '.npy'}))}, a folder, "
        "sklearn:NAME, or a task file"
    )


def _folder(path: Path, whole: str, table: dict[str, Any]) -> dict[str, Any]:
    inner = next((entry for entry in sorted(path.iterdir()) if entry.is_dir()), None)
    names = {entry.name for entry in inner.iterdir()} if inner else set()
    if names & {"x.npy", "data.csv", "data.parquet"}:
        return {"source": "folders", "path": whole, **table}
    return {"source": "images", "path": whole}


def _print(found: Inspection) -> None:
    show.say(f"{found.data}: {found.examples:,} examples")
    show.table(
        ("column", "role", "kind", "missing", "distinct", "low", "high", "mean", "note"),
        [_row(column) for column in found.columns],
    )
    if found.owner_count:
        show.say(
            f"{found.owner_count:,} owners with {found.owners[0].count:,} examples at most ({found.owners[0].name})"
        )
    for finding in found.findings:
        show.say(f"{'warning: ' if finding.severity == 'warn' else ''}{finding.text}")


def _row(column: ColumnFinding) -> tuple[object, ...]:
    numbers = [None if value is None else f"{value:.4g}" for value in (column.low, column.high, column.mean)]
    top = ", ".join(bar.name for bar in column.bars[:3]) if column.distinct else ""
    return (
        column.name,
        column.role,
        column.kind,
        column.missing or None,
        column.distinct,
        *numbers,
        column.note or top,
    )
