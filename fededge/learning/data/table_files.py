"""One file of a table: its columns, and its rows as Arrow record batches."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fededge import storage
from fededge.errors import DataError, StorageError, shown


@dataclass(frozen=True)
class TableFile:
    """A file whose rows stream.

    Attributes:
        name: its path, in messages.
        types: Arrow type of each column, in their order.
        rows: begins a pass over these columns, in pieces.
        owner: whose all of its rows are, where the file says so by where it lies.
    """

    name: str
    types: dict[str, Any]
    rows: Callable[[Sequence[str]], Iterator[Any]]
    owner: str | None = None


def readable(path: str) -> Any:
    """What Arrow reads: the path of a local file, or an open file that lies elsewhere.

    Raises:
        StorageError: there is no such local file.
    """
    local = storage.local_path(path)
    if local is not None:
        if not local.is_file():
            raise StorageError(f"cannot read {path}: there is no such file. Check the path")
        return str(local)
    import fsspec

    return fsspec.open(path, "rb").open()


def header(schema: Any, path: str) -> dict[str, Any]:
    """Names and Arrow types of a file's columns.

    Raises:
        DataError: two columns have one name, or one has a name that is no text.
    """
    try:
        names = list(schema.names)
    except UnicodeError as error:
        raise DataError(
            f"{path}: the names of the columns are not text in UTF-8: save the file as UTF-8, or name its encoding "
            "(data.encoding)"
        ) from error
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise DataError(f"{path} names column {shown(twice[0])!r} twice: rename one of them")
    return dict(zip(names, schema.types, strict=True))


def numbers(column: Any) -> np.ndarray:
    """An Arrow array of numbers, truth values or times as float64 [n], times in seconds; NaN where it is null."""
    import pyarrow as pa
    import pyarrow.compute as pc

    type_ = column.type
    if pa.types.is_null(type_):
        return np.full(len(column), np.nan)
    if pa.types.is_date(type_) or pa.types.is_timestamp(type_):
        column = column.cast(pa.timestamp("us"), safe=False).cast(pa.int64())
    elif pa.types.is_time(type_):
        column = column.cast(pa.time64("us")).cast(pa.int64())
    elif pa.types.is_duration(type_):
        column = column.cast(pa.duration("us"), safe=False).cast(pa.int64())
    scale = 1e-6 if pa.types.is_temporal(type_) else 1.0
    found = pc.cast(column, pa.float64(), safe=False).to_numpy(zero_copy_only=False)
    return np.asarray(found, np.float64) * scale
