"""Parquet files, streamed by Arrow."""

from collections.abc import Iterator, Sequence
from typing import Any

from fededge.errors import DataError, shown
from fededge.learning.data.source import ROWS, Source
from fededge.learning.data.table_files import TableFile, header, readable
from fededge.learning.data.tables import from_tables
from fededge.task import ParquetData, Table


def open_source(data: ParquetData, seed: int, column: str | None) -> Source:
    """The rows of a Parquet file.

    Raises:
        DataError: it is none, or its columns are not what the task says.
        StorageError: it cannot be read.
    """
    return from_tables(data.path, [opened(data.path, data)], data, column)


def opened(path: str, data: Table, owner: str | None = None) -> TableFile:
    """The Parquet file at `path`."""
    import pyarrow as pa

    found = header(next(_batches(path, None)), path)
    worded = {each.name for each in data.features if each.kind == "category"}
    types = {name: pa.string() if name in worded else type_ for name, type_ in found.items()}

    def rows(columns: Sequence[str]) -> Iterator[Any]:
        for batch in _batches(path, columns):
            arrays = [
                batch.column(name).cast(pa.string()) if name in worded else batch.column(name)
                for name in columns
            ]
            yield pa.RecordBatch.from_arrays(arrays, names=list(columns))

    return TableFile(path, types, rows, owner)


def _batches(path: str, columns: Sequence[str] | None) -> Iterator[Any]:
    """Record batches of these columns; None gives the schema alone."""
    import pyarrow as pa
    from pyarrow import parquet

    try:
        with parquet.ParquetFile(readable(path), memory_map=False, pre_buffer=False) as file:
            if columns is None:
                yield file.schema_arrow
                return
            yield from file.iter_batches(batch_size=ROWS, columns=list(columns), use_threads=False)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, ValueError) as error:
        told = shown(" ".join(str(error).split()), 200)
        raise DataError(f"{path} is not a Parquet file that can be read: {told}. Write it again") from error
    except OSError as error:
        raise DataError(
            f"{path} is damaged or cannot be read: {shown(str(error), 200)}. Write it again"
        ) from error
