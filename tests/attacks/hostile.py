"""Bytes and values as an enemy makes them: out of good ones, and out of what breaks parsers."""

import copy
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import pytest
from hypothesis import strategies as st

from fededge.errors import FedEdgeError

T = TypeVar("T")
CASES = Path(__file__).parent / "cases"
PIECES = [
    b"",
    b"\0",
    b'"',
    b"{",
    b"}",
    b"[" * 2000,
    b'{"a":' * 2000,
    b"null",
    b"true",
    b"-1",
    b"1e400",
    b"NaN",
    b"-Infinity",
    b"9" * 5000,
    b"18446744073709551616",
    b"\\ud800",
    b"\\u0000",
    b"\xff\xfe",
    b"\xed\xa0\x80",
    b"\x1b[2J",
    b"\r\n",
]
VALUES: list[Any] = [
    None,
    True,
    -1,
    0,
    2**63,
    10**400,
    0.5,
    1e308,
    float("inf"),
    float("nan"),
    "",
    "x" * 10_000,
    "\0\x1b[2J\r\n",
    "\u202e",
    "../../etc/passwd",
    [],
    {},
    [[[[]]]],
    {"format": 1},
]


def cases(kind: str) -> pytest.MarkDecorator:
    """Each input of cases/<kind>, which once did harm, as the parameter `case`."""
    files = sorted((CASES / kind).iterdir())
    return pytest.mark.parametrize("case", [file.read_bytes() for file in files], ids=[f.name for f in files])


def read_or_refused(read: Callable[[], T], refusal: type[FedEdgeError] = FedEdgeError) -> T | None:
    """What `read` gives; None where it refuses by that name, in one line."""
    try:
        return read()
    except refusal as error:
        message = str(error)
    assert message.isprintable()
    return None


@st.composite
def mutants(draw: st.DrawFn, seeds: Sequence[bytes]) -> bytes:
    """One of `seeds` with bytes changed, removed or put in at a few places."""
    data = bytearray(draw(st.sampled_from(seeds)))
    for _ in range(draw(st.integers(1, 6))):
        at = draw(st.integers(0, len(data)))
        cut = draw(st.sampled_from([0, 0, 1, 1, 2, 8, 100, len(data)]))
        data[at : at + cut] = draw(st.binary(max_size=8) | st.sampled_from(PIECES))
    return bytes(data)


@st.composite
def changed(draw: st.DrawFn, value: Any) -> Any:
    """The JSON `value` with something in it replaced, removed or added at a few places."""
    value = copy.deepcopy(value)
    for _ in range(draw(st.integers(1, 3))):
        holder = {"": value}
        key: Any = ""
        while isinstance(holder[key], dict | list) and holder[key] and draw(st.integers(0, 4)):
            holder = holder[key]
            keys = sorted(holder) if isinstance(holder, dict) else range(len(holder))
            key = draw(st.sampled_from(keys))
        if key == "":
            value = copy.deepcopy(draw(st.sampled_from(VALUES)))
        elif draw(st.booleans()):
            holder[key] = copy.deepcopy(draw(st.sampled_from(VALUES)))
        elif draw(st.booleans()):
            del holder[key]
        elif isinstance(holder, dict):
            holder[draw(st.text(max_size=5))] = copy.deepcopy(holder[key])
        else:
            holder.append(copy.deepcopy(holder[key]))
    return value


def valid(schema: dict[str, Any], root: dict[str, Any]) -> st.SearchStrategy[Any]:
    """Values that a JSON schema, as pydantic writes it, allows."""
    if "$ref" in schema:
        return valid(root["$defs"][schema["$ref"].rsplit("/", 1)[-1]], root)
    if "const" in schema:
        return st.just(schema["const"])
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    choices = schema.get("anyOf") or schema.get("oneOf")
    if choices:
        return st.one_of([valid(choice, root) for choice in choices])
    kind = schema.get("type")
    if kind == "object":
        fields = {name: valid(each, root) for name, each in schema.get("properties", {}).items()}
        required = {name: fields.pop(name) for name in schema.get("required", [])}
        if not required and not fields:
            more = schema.get("additionalProperties")
            inner = valid(more, root) if isinstance(more, dict) else st.none()
            least = schema.get("minProperties", 0)
            return st.dictionaries(st.text(max_size=5), inner, min_size=least, max_size=max(least, 2))
        return st.fixed_dictionaries(required, optional=fields)
    if kind == "array":
        least = schema.get("minItems", 0)
        return st.lists(valid(schema["items"], root), min_size=least, max_size=max(least, 2))
    if kind == "string":
        if schema.get("format") == "date-time":
            return st.just("2026-01-01T00:00:00Z")
        if "pattern" in schema:
            return st.from_regex(schema["pattern"], fullmatch=True)
        return st.text(st.characters(codec="utf-8"), min_size=schema.get("minLength", 0), max_size=30)
    if kind == "integer":
        low = schema.get("minimum", schema.get("exclusiveMinimum", -10))
        return st.integers(low, max(low, min(schema.get("maximum", 10**6), 10**6)))
    if kind == "number":
        return st.floats(schema.get("minimum", 0), min(schema.get("maximum", 1e6), 1e6), exclude_min=True)
    if kind == "boolean":
        return st.booleans()
    return st.none()
