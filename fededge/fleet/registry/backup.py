"""Backups of a registry: one file that any database of the registry is restored from.

A zip file with a `TABLE.jsonl` for each table (a row a line: a JSON array of its columns) and, last, `manifest.json`,
which has the columns, the rows and the digest of each. A backup is of one moment. Of tokens it holds digests, of keys the
public half; it does tell who is enrolled, and so its file is its owner's alone.
"""

import hashlib
import json
import os
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

from sqlalchemy import Connection, Table, insert, select, text

from fededge.documents.base import Digest, Document, Part
from fededge.errors import DocumentError, RegistryError, shown
from fededge.fleet.registry import migrations
from fededge.fleet.registry.database import Registry
from fededge.fleet.registry.tables import metadata
from fededge.protocol.fields import Count, Name
from fededge.storage import sync_folder

MANIFEST = "manifest.json"
LONGEST_LINE = 16 << 20
"""Bytes of a row: more than a trigger's task, which is the largest."""
ROWS = 5000
"""Rows that are in memory at a time."""


class TableManifest(Part):
    """What a table's file holds; `digest` is of its bytes."""

    name: Name
    columns: list[Name]
    rows: Count
    digest: Digest


class Manifest(Document):
    """What a backup holds; `version` is that of the tables (fededge.fleet.registry.migrations)."""

    KIND: ClassVar = "registry-backup"
    LIMIT: ClassVar = 1 << 20
    REMEDY: ClassVar = "Take another backup"

    version: Name
    tables: list[TableManifest]


def backup(url: str, file: Path) -> int:
    """Write the registry at `url` to the new file `file`, whole or not at all; how many rows it holds.

    Raises:
        RegistryError: the registry cannot be read, or the file is there already or cannot be written.
    """
    registry = Registry.open(url)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}.")  # mode 0600
        try:
            with os.fdopen(handle, "wb") as stream:
                rows = registry.read(lambda connection: _write(connection, stream))
                stream.flush()
                os.fsync(stream.fileno())
            os.link(temporary, file)
        finally:
            Path(temporary).unlink(missing_ok=True)
        sync_folder(file.parent)
    except OSError as error:
        raise RegistryError(
            f"cannot write the backup {file}: {error.strerror}. Name a new file in a folder with space that you may write"
        ) from error
    finally:
        registry.close()
    return rows


def restore(file: Path, url: str) -> int:
    """Fill the empty registry at `url` from the backup `file`, whole or not at all; how many rows it holds.

    Raises:
        RegistryError: the backup is damaged or of another version, or the registry is not empty.
    """
    try:
        with zipfile.ZipFile(file) as archive:
            manifest = _checked(archive, file)
            Registry.migrate(url)
            registry = Registry.open(url)
            try:
                return registry.run(lambda connection: _read(connection, archive, manifest))
            finally:
                registry.close()
    except (OSError, zipfile.BadZipFile, ValueError, KeyError) as error:
        raise RegistryError(
            f"cannot read the backup {file}: {shown(str(error))}. Take another one"
        ) from error


def _write(connection: Connection, stream: Any) -> int:
    if connection.dialect.name != "sqlite":  # there, a transaction sees one moment
        connection.execute(text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ"))
    stream.seek(0)
    stream.truncate()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        tables = [_write_table(connection, archive, table) for table in metadata.sorted_tables]
        manifest = Manifest(version=migrations.newest(), tables=tables)
        archive.writestr(MANIFEST, manifest.to_bytes())
    return sum(table.rows for table in tables)


def _write_table(connection: Connection, archive: zipfile.ZipFile, table: Table) -> TableManifest:
    hasher, rows = hashlib.sha256(), 0
    query = select(table).order_by(*table.primary_key.columns).execution_options(yield_per=ROWS)
    with archive.open(f"{table.name}.jsonl", "w", force_zip64=True) as stream:
        for row in connection.execute(query):
            line = json.dumps(list(row), separators=(",", ":")).encode() + b"\n"
            hasher.update(line)
            stream.write(line)
            rows += 1
    columns = [column.name for column in table.columns]
    return TableManifest(name=table.name, columns=columns, rows=rows, digest=f"sha256:{hasher.hexdigest()}")


def _checked(archive: zipfile.ZipFile, file: Path) -> Manifest:
    """The manifest of a backup of this version whose files are as it says."""
    if archive.getinfo(MANIFEST).file_size > Manifest.LIMIT:
        raise ValueError(f"its {MANIFEST} is too large")
    try:
        manifest = Manifest.from_bytes(archive.read(MANIFEST), f"{file} {MANIFEST}")
    except DocumentError as error:
        raise RegistryError(str(error)) from error
    if manifest.version != migrations.newest():
        raise RegistryError(
            f"the backup {file} is of version {manifest.version}, and this is {migrations.newest()}: restore it with the "
            "FedEdge that wrote it, then migrate"
        )
    there = {table.name: [column.name for column in table.columns] for table in metadata.sorted_tables}
    if {table.name: table.columns for table in manifest.tables} != there:
        raise ValueError("it has other tables than its version")
    for table in manifest.tables:
        hasher, rows = hashlib.sha256(), 0
        for line in _lines(archive, table.name):
            hasher.update(line)
            rows += 1
        if (rows, f"sha256:{hasher.hexdigest()}") != (table.rows, table.digest):
            raise ValueError(f"its table {table.name} was changed")
    return manifest


def _lines(archive: zipfile.ZipFile, name: str) -> Iterator[bytes]:
    with archive.open(f"{name}.jsonl") as stream:
        while line := stream.readline(LONGEST_LINE):
            yield line


def _read(connection: Connection, archive: zipfile.ZipFile, manifest: Manifest) -> int:
    for table in metadata.sorted_tables:
        if connection.execute(select(table).limit(1)).first() is not None:
            raise RegistryError(f"the registry is not empty ({table.name}): restore into a new database")
    columns = {table.name: table.columns for table in manifest.tables}
    for table in metadata.sorted_tables:
        names = columns[table.name]
        rows: list[dict[str, Any]] = []
        for line in _lines(archive, table.name):
            rows.append(dict(zip(names, json.loads(line), strict=True)))
            if len(rows) == ROWS:
                connection.execute(insert(table), rows)
                rows = []
        if rows:
            connection.execute(insert(table), rows)
    return sum(table.rows for table in manifest.tables)
