"""The YAML of a task: plain values, and where each was written.

Scalars are read as in YAML 1.2 and JSON: `1e-5` is a number, `yes`, `2024-01-01` and `190:20:30` are text.
A task needs neither aliases, tags, several documents nor keys that are no words, so all of these are
refused, and so is a key that is given twice.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import yaml

from fededge.errors import SHOWN, TaskError, shown

DEPTH = 20
"""How deep values may lie; a task needs five levels."""
NULL = {"", "~", "null", "Null", "NULL"}
TRUE, FALSE = {"true", "True", "TRUE"}, {"false", "False", "FALSE"}
WHOLE = re.compile(r"[-+]?[0-9]{1,100}")
BASED = re.compile(r"0o[0-7]{1,100}|0x[0-9a-fA-F]{1,100}")
REAL = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
INFINITE = re.compile(r"[-+]?(\.inf|\.Inf|\.INF)|\.nan|\.NaN|\.NAN")

Place = tuple[int | str, ...]
"""The keys and indices that lead to a value."""


@dataclass(frozen=True)
class Content:
    """What a YAML text says.

    Attributes:
        value: made of dict, list, str, int, float, bool and None.
        places: where each value in it was written, as errors name it.
    """

    value: Any
    places: dict[Place, str]


def read(text: str, source: str) -> Content:
    """The content of the YAML (or JSON) `text`; `source` names it in errors.

    Raises:
        TaskError: it is not YAML, or uses what a task does not.
    """
    odd = yaml.reader.Reader.NON_PRINTABLE.search(text)
    if odd:
        line = text.count("\n", 0, odd.start()) + 1
        raise TaskError(f"{source}:{line}: this is not YAML: remove the character {shown(odd[0])}")
    reader = _Reader(text, source)
    try:
        return Content(reader.document(), reader.places)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        told = ": ".join(filter(None, (error.context, error.problem)))
        raise TaskError(f"{source}:{line}: this is not YAML: {shown(told, 200)}") from error


def dotted(place: Place) -> str:
    """The name of `place`, such as variants.0.kind."""
    return shown(".".join(map(str, place)), 4 * SHOWN) or "task"


class _Reader:
    """One pass over the events of a text, which builds its values."""

    def __init__(self, text: str, source: str) -> None:
        self.places: dict[Place, str] = {}
        self._source = source
        self._events: Iterator[Any] = yaml.parse(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))

    def document(self) -> Any:
        next(self._events)  # the stream's start
        if isinstance(next(self._events), yaml.StreamEndEvent):
            return None
        value = self._value(next(self._events), ())
        next(self._events)  # the document's end
        after = next(self._events)
        if not isinstance(after, yaml.StreamEndEvent):
            raise self._refused(after, (), "a second document begins here: a task is one")
        return value

    def _value(self, event: Any, place: Place) -> Any:
        if isinstance(event, yaml.AliasEvent):
            raise self._refused(
                event, place, f"the alias *{shown(str(event.anchor))} is not used in a task: write it out"
            )
        if event.tag is not None:
            tag = re.sub("^tag:yaml.org,2002:", "!!", event.tag)
            raise self._refused(event, place, f"the tag {shown(tag)} is not used in a task: remove it")
        if len(place) > DEPTH:
            raise self._refused(event, place[:3], f"values lie more than {DEPTH} levels deep")
        self.places[place] = self._line(event)
        if isinstance(event, yaml.MappingStartEvent):
            return self._mapping(place)
        if isinstance(event, yaml.SequenceStartEvent):
            return self._sequence(place)
        return _scalar(event.value) if event.implicit[0] else event.value

    def _mapping(self, place: Place) -> dict[str, Any]:
        values: dict[str, Any] = {}
        while not isinstance(event := next(self._events), yaml.MappingEndEvent):
            if not isinstance(event, yaml.ScalarEvent) or event.tag is not None:
                raise self._refused(event, place, "a key must be a word")
            below = (*place, event.value)
            if event.value in values:
                first = self.places[below].removeprefix(f"{self._source}:")
                raise self._refused(event, below, f"given twice, first in line {first}: remove one of them")
            values[event.value] = self._value(next(self._events), below)
            self.places[below] = self._line(event)
        return values

    def _sequence(self, place: Place) -> list[Any]:
        values: list[Any] = []
        while not isinstance(event := next(self._events), yaml.SequenceEndEvent):
            values.append(self._value(event, (*place, len(values))))
        return values

    def _line(self, event: Any) -> str:
        return f"{self._source}:{event.start_mark.line + 1}"

    def _refused(self, event: Any, place: Place, reason: str) -> TaskError:
        return TaskError(f"{self._line(event)}: {dotted(place)}: {reason}")


def _scalar(text: str) -> Any:
    if text in NULL:
        return None
    if text in TRUE or text in FALSE:
        return text in TRUE
    if WHOLE.fullmatch(text):
        return int(text)
    if BASED.fullmatch(text):
        return int(text, 0)
    if REAL.fullmatch(text):
        return float(text)
    return float(text.replace(".", "", 1)) if INFINITE.fullmatch(text) else text
