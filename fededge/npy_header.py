"""How many rows an .npy file holds, by its header alone and without numpy, which takes memory that small devices miss.

The format: numpy.lib.format, versions 1.0 and 2.0 (NumPy Enhancement Proposal 1).
"""

import ast
import math
import re
import struct
from pathlib import Path

from fededge.errors import DataError, shown

MAGIC = b"\x93NUMPY"
LENGTHS = {(1, 0): "<H", (2, 0): "<I"}
LARGEST = 10_000
"""Bytes of a header: numpy reads no more either."""
NUMBERS = re.compile(r"[<>|=]?[biuf]([1248])")


def rows(path: Path) -> int:
    """How many rows of numbers lie in the file `path`.

    Raises:
        DataError: it cannot be read, is no .npy file of numbers, or was cut short.
    """
    try:
        with path.open("rb") as file:
            if not path.is_file() or file.read(len(MAGIC)) != MAGIC:
                raise ValueError("it is no .npy file")
            form = LENGTHS[tuple(file.read(2))]  # type: ignore[index]
            (length,) = struct.unpack(form, file.read(struct.calcsize(form)))
            if length > LARGEST:
                raise ValueError(f"its header has {length:,} bytes")
            header = ast.literal_eval(file.read(length).decode("latin-1").strip())
            shape, numbers = header["shape"], NUMBERS.fullmatch(header["descr"])
            if not shape or numbers is None or not all(type(size) is int and size >= 0 for size in shape):
                raise ValueError("it holds no rows of numbers")
            if path.stat().st_size < file.tell() + math.prod(shape) * int(numbers[1]):
                raise ValueError("it was cut short")
    except (
        OSError,
        ValueError,
        KeyError,
        TypeError,
        SyntaxError,
        MemoryError,
        RecursionError,
        struct.error,
    ) as error:
        raise DataError(
            f"{path} cannot be read: {shown(str(error) or type(error).__name__, 200)}. Prepare the data again"
        ) from error
    return int(shape[0])
