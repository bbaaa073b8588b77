"""CSV files, streamed by Arrow."""

import io
import re
from collections.abc import Iterator, Sequence
from typing import Any

from fededge.errors import DataError, StorageError, shown
from fededge.learning.data.source import Source
from fededge.learning.data.table_files import TableFile, header, readable
from fededge.learning.data.tables import from_tables
from fededge.task import CsvData, Table

BLOCK = 1 << 20
"""Bytes that are parsed together."""
LONGEST = 1 << 20
"""Bytes of the longest header line."""
DELIMITERS = ",;\t|"
VALUE = re.compile(r"In CSV column #(\d+).*?conversion error to (.+?): invalid value '(.*)'", re.DOTALL)
NUMBER = re.compile(r"0|-?[1-9][0-9]{0,15}|missing")
QUOTED = re.compile(r'"[^"]*"?')
COLUMNS = re.compile(r"Row #(\d+): Expected (\d+) columns, got (\d+)")


def open_source(data: CsvData, seed: int, column: str | None) -> Source:
    """The rows of a CSV file.

    Raises:
        DataError: it is none, or its columns are not what the task says.
        StorageError: it cannot be read.
    """
    return from_tables(data.path, [opened(data.path, data, column)], data, column)


def opened(path: str, data: Table, column: str | None, owner: str | None = None) -> TableFile:
    """The CSV file at `path`, with the types that its first rows and the task tell."""
    encoding = data.encoding if isinstance(data, CsvData) else "utf-8"
    try:
        io.TextIOWrapper(io.BytesIO(), encoding)
    except LookupError as error:
        raise DataError(
            f"data.encoding {shown(encoding)} is none that Python knows: use utf-8 or latin-1"
        ) from error
    delimiter = (data.delimiter if isinstance(data, CsvData) else None) or _delimiter(path, encoding)
    file = _Csv(path, encoding, delimiter)
    types = _types(file, data, column)
    return TableFile(path, types, lambda columns: file.rows(types, columns), owner)


class _Csv:
    def __init__(self, path: str, encoding: str, delimiter: str) -> None:
        self.path, self._encoding, self._delimiter = path, encoding, delimiter

    def rows(self, types: dict[str, Any] | None, columns: Sequence[str] | None = None) -> Iterator[Any]:
        """Record batches; types None infers them from the first block."""
        import pyarrow as pa
        from pyarrow import csv as arrow

        order = list(types or ())
        try:
            with arrow.open_csv(
                readable(self.path),
                read_options=arrow.ReadOptions(use_threads=False, block_size=BLOCK, encoding=self._encoding),
                parse_options=arrow.ParseOptions(delimiter=self._delimiter, newlines_in_values=True),
                convert_options=arrow.ConvertOptions(
                    column_types=types, include_columns=list(columns or ()), strings_can_be_null=True
                ),
            ) as reader:
                if types is None:
                    yield reader.schema
                    return
                yield from reader
        except (pa.ArrowInvalid, pa.ArrowKeyError, UnicodeError) as error:
            raise DataError(f"{self.path}: {self._told(str(error), list(columns or order))}") from error
        except OSError as error:
            raise StorageError(
                f"cannot read {self.path}: {error}. Check the path and its permissions"
            ) from error

    def _told(self, message: str, order: list[str]) -> str:
        if wrong := VALUE.search(message):
            place = int(wrong[1])
            name = order[place] if place < len(order) else f"number {place + 1}"
            return (
                f"column {shown(name)!r} changes its type in the middle: {shown(wrong[3])!r} where rows before it hold "
                f"{_people(wrong[2])}: correct it, or say kind: category in data.features"
            )
        if ragged := COLUMNS.search(message):
            return (
                f"row {ragged[1]} has {ragged[3]} columns where {ragged[2]} are expected: use one delimiter throughout "
                f"(data.delimiter is {self._delimiter!r} here)"
            )
        if "UTF8" in message or "decode" in message or "codec" in message:
            return f"it is not text in {self._encoding} throughout: save it so, or name its encoding (data.encoding)"
        return f"it is not a CSV file that can be read: {shown(message, 200)}"


def _types(file: _Csv, data: Table, column: str | None) -> dict[str, Any]:
    import pyarrow as pa

    found = header(next(file.rows(None)), file.path)
    said = {each.name: each for each in data.features}
    types = {}
    for name, type_ in found.items():
        rule = said.get(name)
        if pa.types.is_binary(type_):
            raise DataError(
                f"{file.path}: column {shown(name)!r} is not text in UTF-8: save it so, or name its encoding "
                "(data.encoding)"
            )
        words = name in (data.owner, column) or (
            rule and (rule.kind == "category" or not numbered(rule.categories))
        )
        if words:
            type_ = pa.string()
        elif pa.types.is_integer(type_) or pa.types.is_null(type_) or (rule and rule.kind == "number"):
            type_ = pa.float64()
        types[name] = type_
    return types


def numbered(words: Sequence[str]) -> bool:
    """Whether all words are whole numbers as Python writes them: such a column may hold numbers."""
    return all(NUMBER.fullmatch(word) for word in words)


def _people(type_: str) -> str:
    if "timestamp" in type_ or "date" in type_ or "time" in type_:
        return "times"
    return "true and false" if "bool" in type_ else "numbers"


def _delimiter(path: str, encoding: str) -> str:
    """The one of DELIMITERS that the header line has most of, outside of quotes."""
    source = readable(path)
    with open(source, "rb") if isinstance(source, str) else source as file:
        line = file.readline(LONGEST)
    if not line.strip():
        raise DataError(f"{path} is empty: give a header line and rows")
    header = QUOTED.sub("", line.decode(encoding, errors="replace"))
    return max(DELIMITERS, key=header.count)
