"""Folders of clients that exist already: each site's own data, prepared by nobody else.

    <client>/x.npy, y.npy, schema.json      or      <client>/data.csv      or      <client>/data.parquet

Each is checked against the schema of the first, or what the task says of its columns.
"""

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from fededge import examples
from fededge.documents import Schema
from fededge.errors import DataError, shown
from fededge.learning.data.source import Batch, Source
from fededge.learning.data.sources import delimited, parquet
from fededge.learning.data.sources.images import inside, local_folder
from fededge.learning.data.table_files import TableFile
from fededge.learning.data.tables import from_tables
from fededge.task import FoldersData

TABLES = ("data.csv", "data.parquet")
LIMIT = 64 << 30
"""Most bytes of one array."""


def open_source(data: FoldersData, seed: int, column: str | None) -> Source:
    """The examples of all clients, whose owner is the folder they lie in.

    Raises:
        DataError: a folder holds something else than the others, or a path leads out of it.
    """
    files = tables(data)
    if files is not None:
        return from_tables(data.path, files, data, None)
    root = local_folder(data.path)
    return _arrays(data.path, [root / name for name in _clients(root)[0]])


def tables(data: FoldersData) -> list[TableFile] | None:
    """The clients' tables; None where they hold arrays.

    Raises:
        DataError: as `open_source`.
    """
    root = local_folder(data.path)
    names, form = _clients(root)
    return None if form == "x.npy" else [_table(root / name / form, data) for name in names]


def _clients(root: Path) -> tuple[list[str], str]:
    """Names of the clients, and the file that each of them has."""
    clients = {
        folder.name: _contents(root, folder)
        for folder in sorted(root.iterdir())
        if not folder.name.startswith(".") and (folder.is_dir() or folder.is_symlink())
    }
    if not clients:
        raise DataError(f"{root} has no folders: give a folder for each client")
    forms = {name: _form(root / name, files) for name, files in clients.items()}
    first = next(iter(forms))
    for name, form in forms.items():
        if form != forms[first]:
            raise DataError(
                f"client {shown(name)} holds {form} where client {shown(first)} holds {forms[first]}: prepare it as "
                "they did"
            )
    return list(clients), forms[first]


def _table(path: Path, data: FoldersData) -> TableFile:
    owner = path.parent.name
    if path.suffix == ".csv":
        return delimited.opened(str(path), data, None, owner)
    return parquet.opened(str(path), data, owner)


def _contents(root: Path, folder: Path) -> list[str]:
    real = os.path.realpath(folder)
    if os.path.commonpath([real, os.path.realpath(root)]) != os.path.realpath(root):
        raise DataError(f"{folder} is a link that leads out of {root}: put the folder itself there")
    return [file.name for file in inside(folder, folder)]


def _form(folder: Path, files: list[str]) -> str:
    found = [name for name in ("x.npy", *TABLES) if name in files]
    if len(found) != 1:
        raise DataError(
            f"client {shown(folder.name)} holds {', '.join(found) or 'no data'}: give each either x.npy, y.npy and "
            "schema.json, or data.csv, or data.parquet"
        )
    missing = [name for name in ("y.npy", "schema.json") if found == ["x.npy"] and name not in files]
    if missing:
        raise DataError(f"client {shown(folder.name)} lacks {', '.join(missing)} beside x.npy: add it")
    return found[0]


def _arrays(name: str, folders: list[Path]) -> Source:
    schema = Schema.read(folders[0] / "schema.json")

    def batches() -> Iterator[Batch]:
        for folder in folders:
            x, y = examples.read(folder, schema, LIMIT)
            start = 0
            for block in examples.blocks(x):
                labels = np.asarray(y[start : start + len(block)])
                start += len(block)
                yield Batch(np.asarray(block), labels, np.full(len(block), folder.name))

    return Source(name, schema, batches)
