"""Types of columns that every database of the registry keeps alike."""

import json
from typing import Any

from sqlalchemy import Dialect, Text
from sqlalchemy.types import TypeDecorator


def printable(text: str) -> str:
    """`text` as it is kept."""
    if text.isprintable():
        return text
    return "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text)


class Words(TypeDecorator[str]):
    """Text. What does not print becomes U+FFFD: PostgreSQL takes no NUL, no encoder a lone surrogate."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        """See TypeDecorator."""
        return None if value is None else printable(value)


class Json(TypeDecorator[Any]):
    """A JSON value as ASCII text, the same for equal values."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Dialect) -> str | None:
        """See TypeDecorator."""
        return None if value is None else json.dumps(value, sort_keys=True, separators=(",", ":"))

    def process_result_value(self, value: str | None, dialect: Dialect) -> Any:
        """See TypeDecorator."""
        return None if value is None else json.loads(value)
