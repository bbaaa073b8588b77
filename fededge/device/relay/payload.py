"""What a sensor sends: fields by a declared schema, as JSON or as little-endian numbers side by side.

A payload is somebody else's bytes. It is read into numbers within the declared bounds, or refused with a reason.
"""

import json
import math
import struct
from collections.abc import Collection
from enum import StrEnum
from functools import cached_property
from typing import Annotated, Any, Literal, NoReturn, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

CODES = {
    "bool": "?",
    "int8": "b",
    "uint8": "B",
    "int16": "h",
    "uint16": "H",
    "int32": "i",
    "uint32": "I",
    "int64": "q",
    "float32": "f",
    "float64": "d",
}
"""Of the types in a binary payload, by which the standard library's struct reads them."""
IN_JSON = ("bool", "int64", "float32")
LARGEST = 3.4028234663852886e38
"""Of float32."""
Type = Literal["bool", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "float32", "float64"]
FieldName = Annotated[str, Field(min_length=1, max_length=200)]
Value = int | float | list[float]


class Reason(StrEnum):
    """Why a message is refused, as it is counted."""

    unknown = "unknown-sensor"
    crowded = "too-many-sensors"
    retained = "retained"
    fast = "too-fast"
    large = "too-large"
    text = "not-text"
    malformed = "malformed"
    bounds = "out-of-bounds"
    repeated = "repeated"
    room = "no-room"
    foreign = "foreign-response-topic"
    early = "too-few-readings"
    busy = "too-many-requests"
    model = "no-model"


class Refused(Exception):
    """A message is refused, for a `reason`."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(reason.value)
        self.reason = reason


class Part(BaseModel):
    """A part of a relay's file: unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class PayloadField(Part):
    """One number, or many.

    Attributes:
        name: by which rules speak of it, and of the feature.
        path: in JSON, the keys that lead to it, with dots between them; its name where there is none.
        type: of the number; JSON has bool, int64 and float32 alone.
        shape: of many numbers, such as [4, 4]: they come as a row, the last dimension first; []: a single one.
        unit: such as C or lx; for people, and a part of the examples' form.
        low, high: bounds, after scaling; a message beyond them is refused.
        scale, offset: of a binary number, which stands for number * scale + offset.
        categories: words; in JSON the field is one of them, in a binary payload its place among them.
    """

    name: FieldName
    path: Annotated[str, Field(max_length=500)] = ""
    type: Type = "float32"
    shape: Annotated[list[Annotated[int, Field(ge=1, le=100_000)]], Field(max_length=8)] = []
    unit: Annotated[str, Field(max_length=40)] = ""
    low: float | None = None
    high: float | None = None
    scale: float = 1.0
    offset: float = 0.0
    categories: Annotated[list[str], Field(max_length=1000)] = []

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.categories and (self.shape or self.type == "bool" or self.scaled):
            raise ValueError("a field with categories is one number without scale or offset")
        if self.size > 100_000:
            raise ValueError(f"a field of {self.size:,} numbers: 100,000 at most")
        if self.low is not None and self.high is not None and self.low > self.high:
            raise ValueError(f"low {self.low} lies above high {self.high}")
        return self

    @property
    def size(self) -> int:
        """How many numbers it has."""
        return math.prod(self.shape)

    @property
    def scaled(self) -> bool:
        """Whether what is sent stands for another number."""
        return (self.scale, self.offset) != (1.0, 0.0)

    @property
    def whole(self) -> bool:
        """Whether its values are whole numbers."""
        return not self.scaled and not self.type.startswith("float") and not self.shape

    @property
    def dtype(self) -> Literal["float32", "int64", "bool"]:
        """Of the feature that it is."""
        if self.categories:
            return "int64"
        return "bool" if self.type == "bool" else "float32"

    def checked(self, value: Value) -> Value:
        """`value`, if it lies within the bounds.

        Raises:
            Refused: it does not.
        """
        for each in value if isinstance(value, list) else (value,):
            beyond = not (self.whole or abs(each) <= LARGEST)
            if (
                beyond
                or (self.low is not None and each < self.low)
                or (self.high is not None and each > self.high)
            ):
                raise Refused(Reason.bounds)
        if self.categories and not 0 <= value < len(self.categories):  # type: ignore[operator]
            raise Refused(Reason.bounds)
        return value


class Payload(Part):
    """What a message holds.

    Attributes:
        kind: json: a JSON object; what no field names in it is passed over. binary: the fields side by side, in their
            order, little-endian, without padding; not a byte more or less.
    """

    kind: Literal["json", "binary"]
    fields: Annotated[list[PayloadField], Field(min_length=1, max_length=1000)]

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        names = [field.name for field in self.fields]
        if len(set(names)) != len(names):
            raise ValueError(f"there are two fields {max(names, key=names.count)!r}: name each once")
        for field in self.fields:
            if self.kind == "json" and (field.type not in IN_JSON or field.scaled):
                raise ValueError(
                    f"field {field.name!r}: JSON has the types {', '.join(IN_JSON)}, and no scale"
                )
            if self.kind == "binary" and field.path:
                raise ValueError(f"field {field.name!r}: a binary payload has no paths")
        return self

    @cached_property
    def _layout(self) -> struct.Struct:
        return struct.Struct("<" + "".join(f"{field.size}{CODES[field.type]}" for field in self.fields))

    def field(self, name: str) -> PayloadField | None:
        """The field `name`."""
        return next((field for field in self.fields if field.name == name), None)

    def read(self, data: bytes, wanted: Collection[str]) -> dict[str, Value]:
        """The values of the fields that are `wanted`, by name.

        Raises:
            Refused: `data` is not such a payload.
        """
        fields = [field for field in self.fields if field.name in wanted]
        found = _from_json(data, fields) if self.kind == "json" else self._from_binary(data, wanted)
        return {field.name: field.checked(found[field.name]) for field in fields}

    def _from_binary(self, data: bytes, wanted: Collection[str]) -> dict[str, Value]:
        if len(data) != self._layout.size:
            raise Refused(Reason.malformed)
        numbers, found, at = self._layout.unpack(data), {}, 0
        for field in self.fields:
            row = numbers[at : at + (field.size)]
            at += len(row)
            if field.name not in wanted:
                continue
            if field.scaled:
                row = tuple(number * field.scale + field.offset for number in row)
            if not all(map(math.isfinite, row)):
                raise Refused(Reason.bounds)
            found[field.name] = list(row) if field.shape else row[0]
        return found


def _from_json(data: bytes, fields: list[PayloadField]) -> dict[str, Value]:
    try:
        content = json.loads(data.decode(), parse_constant=_no_number)
    except UnicodeDecodeError as error:
        raise Refused(Reason.text) from error
    except (ValueError, RecursionError) as error:
        raise Refused(Reason.malformed) from error
    return {field.name: _value(content, field) for field in fields}


def _value(content: Any, field: PayloadField) -> Value:
    for key in field.path.split(".") if field.path else (field.name,):
        if not isinstance(content, dict) or key not in content:
            raise Refused(Reason.malformed)
        content = content[key]
    if field.categories:
        if content not in field.categories:
            raise Refused(Reason.bounds if isinstance(content, str) else Reason.malformed)
        return field.categories.index(content)
    if not field.shape:
        return _number(content, field)
    if not isinstance(content, list) or len(content) != field.size:
        raise Refused(Reason.malformed)
    return [_number(each, field) for each in content]


def _number(content: Any, field: PayloadField) -> int | float:
    """A number of the field's type: true is none, and 20.0 is no whole one."""
    kinds: tuple[type, ...] = {"bool": (bool,), "int64": (int,)}.get(field.type, (int, float))
    if not isinstance(content, kinds) or (isinstance(content, bool) and field.type != "bool"):
        raise Refused(Reason.malformed)
    number: Any = content
    if not -(1 << 63) <= number < 1 << 63 and (field.type == "int64" or not abs(number) <= LARGEST):
        raise Refused(Reason.bounds)
    return int(number) if field.type in ("bool", "int64") else float(number)


def _no_number(text: str) -> NoReturn:
    raise ValueError(f"{text} is no number of JSON")
