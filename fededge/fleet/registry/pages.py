"""Lists are read page by page, each from where the one before it ended: no OFFSET, which reads what it passes over."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Column, Connection, Row, Select

LARGEST = 1000
"""Most rows of a page."""


def page(
    connection: Connection, query: Select[Any], key: Column[Any], after: object, limit: int
) -> tuple[Sequence[Row[Any]], str | None]:
    """Rows of `query` in the order of `key`, from behind `after` on.

    Args:
        key: unique among the rows, and selected by the query.
        limit: most rows; LARGEST at most.

    Returns:
        The rows, and what to give as `after` for those that follow; None where none do.
    """
    most = max(1, min(limit, LARGEST))
    rows = connection.execute(query.where(key > after).order_by(key).limit(most + 1)).all()
    return rows[:most], str(rows[most - 1]._mapping[key]) if len(rows) > most else None
