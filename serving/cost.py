"""What it costs to decode a request, told from its bytes before it is decoded.

A number in a nested list is a few bytes in JSON or protobuf and up to a few hundred in Python: 16 MiB of JSON
become 560 MB, 1 MiB of a protobuf ListValue 258 MB (in protobuf's pure Python, which Seldon needs). So a request
takes room for what it will cost, waits where others have taken it, and is refused where it alone would need
more than `limits.DECODE_BYTES`. The factors are upper bounds of what was measured.
"""

import contextlib
import io
import threading
from collections.abc import Iterator

import numpy as np

from serving import limits

PER_BYTE = 5
"""Of bytes that stay bytes: base64, its result and the float32 array; of packed doubles up to 8."""
PER_PACKED_BYTE = 8
PER_CHARACTER = {",": 44, "[": 90, "{": 180, '"': 35, "%": 100}
"""Of JSON: a number, a list, an object, a string; of a form, anything that is written as %XX."""
PER_JSON_BYTE = 40
"""Of any JSON; so much is taken where counting would take longer than it is worth."""
PER_MESSAGE_BYTE = 260
"""Of protobuf messages within messages: an empty value takes two bytes."""
MOST_FIELDS = 1000
BLOCK = 1 << 16  # bytes that are counted at once, in memory that is at hand

DATA, BIN_DATA = 3, 4  # fields of a SeldonMessage
TENSOR, VALUES = 2, 2  # fields of its data, and of a tensor
MESSAGES = {1, 2, 4}  # fields of a Feedback that are SeldonMessages


def of_json(body: bytes | bytearray) -> int:
    """Bytes of memory that a JSON body, or one in a form, costs at most."""
    if PER_JSON_BYTE * len(body) <= limits.DECODE_BYTES // limits.WORKING:
        return PER_JSON_BYTE * len(body)
    values, needed = np.frombuffer(body, np.uint8), PER_BYTE * len(body)
    for start in range(0, len(body), BLOCK):
        block = values[start : start + BLOCK]
        needed += sum(
            each * int(np.count_nonzero(block == ord(name))) for name, each in PER_CHARACTER.items()
        )
    return needed


class Body(io.BytesIO):
    """A request's body, and what it costs to decode it."""

    def __init__(self, data: bytes | bytearray = b"") -> None:
        super().__init__(data)
        self.cost = of_json(data)


def of_message(data: bytes) -> int:
    """Bytes of memory that a serialized SeldonMessage costs at most, or whatever else it is."""
    try:
        return _of_fields(memoryview(data), ())
    except IndexError:  # it ends within a field, or has very many of them
        return PER_MESSAGE_BYTE * len(data)


def of_feedback(data: bytes) -> int:
    """As `of_message`, of a serialized Feedback."""
    try:
        parts = [content for number, content in _fields(memoryview(data)) if number in MESSAGES]
        return sum(_of_fields(content, ()) for content in parts)
    except IndexError:
        return PER_MESSAGE_BYTE * len(data)


def _of_fields(data: memoryview, place: tuple[int, ...]) -> int:
    cost = 0
    for number, content in _fields(data):
        inner = (*place, number)
        if inner == (BIN_DATA,):
            cost += PER_BYTE * len(content)
        elif inner == (DATA, TENSOR, VALUES):
            cost += PER_PACKED_BYTE * len(content)
        elif inner in ((DATA,), (DATA, TENSOR)):
            cost += _of_fields(content, inner)
        else:
            cost += PER_MESSAGE_BYTE * (len(content) + 1)
    return cost


def _fields(data: memoryview) -> Iterator[tuple[int, memoryview]]:
    """Number and content of the fields of a message, by protobuf's wire format.

    Raises:
        IndexError: the message ends within a field, or has more than MOST_FIELDS.
    """
    at = 0
    for _ in range(MOST_FIELDS):
        if at == len(data):
            return
        tag, at = _varint(data, at)
        kind = tag & 7
        if kind == 0:
            size, begin = 0, _varint(data, at)[1]
        elif kind == 2:
            size, begin = _varint(data, at)
        else:
            size, begin = {1: 8, 5: 4}.get(kind, len(data)), at
        at = begin + size
        if at > len(data):
            break
        yield tag >> 3, data[begin:at]
    raise IndexError("no message of a few fields")


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while shift < 70:
        byte = data[at]
        value |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return value, at
    raise IndexError("no varint")


class Room:
    """Bytes that the requests of one process share.

    Args:
        size: of the room.
    """

    def __init__(self, size: int) -> None:
        self._free = self._size = size
        self._changed = threading.Condition()

    @contextlib.contextmanager
    def taken(self, size: int, wait: bool = True) -> Iterator[bool]:
        """Room for `size` bytes, at most for all there is; whether it was to be had, without `wait`."""
        size = min(size, self._size)
        with self._changed:
            if wait:
                self._changed.wait_for(lambda: self._free >= size)
            had = self._free >= size
            self._free -= size if had else 0
        try:
            yield had
        finally:
            with self._changed:
                self._free += size if had else 0
                self._changed.notify_all()


decoding = Room(limits.DECODE_BYTES)
"""Taken to decode and answer a request."""
received = Room(limits.HELD_BYTES)
"""Taken by messages over gRPC that wait for their turn."""
