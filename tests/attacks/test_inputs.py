"""Image and data files of an enemy: read, or refused by name in one line; never taken at their word."""

import ast
import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from fededge.cli import inputs as images
from fededge.errors import DataError
from tests.attacks.hostile import CASES, mutants, read_or_refused

SHAPE = (4, 4, 1)
FEW = settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
HEADER = "{'descr': %s, 'fortran_order': %s, 'shape': %s, }"


def npy(header: str, tail: bytes = bytes(64)) -> bytes:
    """An .npy file with this header, whatever it is."""
    text = header.encode("latin1").ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + tail


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, *chunks: bytes, depth: int = 8, color: int = 0) -> bytes:
    """A PNG file that claims this size."""
    head = struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + b"".join(chunks) + chunk(b"IEND", b"")


def saved(array: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def drawn(mode: str) -> bytes:
    stream = io.BytesIO()
    Image.new(mode, (4, 4)).save(stream, "PNG")
    return stream.getvalue()


ARRAYS = [saved(np.zeros((2, *SHAPE), np.uint8)), saved(np.zeros((4, 4), np.float32))]
PNGS = [drawn(mode) for mode in ("L", "RGB", "RGBA", "P", "1", "I;16", "LA")]


@pytest.fixture
def refused_or_read(tmp_path: Path) -> Callable[[bytes, str], np.ndarray | None]:
    def check(data: bytes, suffix: str) -> np.ndarray | None:
        path = tmp_path / f"x{suffix}"
        path.write_bytes(data)
        found = read_or_refused(lambda: images.read(path, SHAPE), DataError)
        if found is not None:
            assert found.dtype == np.uint8
            assert found.shape[1:] == SHAPE
            found.sum()
        return found

    return check


@FEW
@given(mutants(ARRAYS))
def test_changed_arrays_are_read_or_refused_by_name(refused_or_read, data: bytes) -> None:  # type: ignore[no-untyped-def]
    refused_or_read(data, ".npy")


@FEW
@given(mutants(PNGS))
def test_changed_images_are_read_or_refused_by_name(refused_or_read, data: bytes) -> None:  # type: ignore[no-untyped-def]
    refused_or_read(data, ".png")


@FEW
@given(
    st.sampled_from(["'|u1'", "'<f4'", "'|O'", "'<U9'", "'<M8[s]'", "[('a', '<i4')]", "'|V0'", "5", "None"]),
    st.sampled_from(["False", "True", "1", "[]"]),
    st.lists(st.integers(-1, 5) | st.sampled_from([2**31, 2**63, 2**64, 10**30])).map(tuple).map(repr)
    | st.sampled_from(["4", "(4.0,)", "(True, 4, 4)", "(4, 4", "[4, 4]"]),
)  # fmt: skip
def test_headers_that_lie_are_refused_by_name(refused_or_read, descr: str, order: str, shape: str) -> None:  # type: ignore[no-untyped-def]
    refused_or_read(npy(HEADER % (descr, order, shape)), ".npy")


@pytest.mark.parametrize(
    "header",
    ["", "(" * 110, "{'a': 1L}", "'''", "1 +", "if 1:\n  x\n y", "__import__('os')", "\x00", "{[]: 1}"],
)
def test_headers_that_are_no_header_are_refused_by_name(refused_or_read, header: str) -> None:  # type: ignore[no-untyped-def]
    assert refused_or_read(npy(header), ".npy") is None


def test_pickled_objects_are_never_loaded(refused_or_read) -> None:  # type: ignore[no-untyped-def]
    stream = io.BytesIO()
    np.save(stream, np.array([ast.parse("1")], object), allow_pickle=True)
    assert refused_or_read(stream.getvalue(), ".npy") is None


@pytest.mark.parametrize(
    ("width", "height"), [(2**31 - 1, 2**31 - 1), (60_000, 60_000), (0, 4), (1, 2**31 - 1)]
)
def test_an_image_that_claims_to_be_huge_is_refused_before_it_is_decoded(  # type: ignore[no-untyped-def]
    refused_or_read, width: int, height: int
) -> None:
    assert refused_or_read(png(width, height, chunk(b"IDAT", zlib.compress(bytes(100)))), ".png") is None


@pytest.mark.parametrize("kind", [b"zTXt", b"iCCP", b"tEXt", b"IDAT"])
def test_a_compressed_bomb_in_an_image_is_refused_or_not_unpacked(refused_or_read, kind: bytes) -> None:  # type: ignore[no-untyped-def]
    bomb = b"a\0\0" + zlib.compress(bytes(1 << 28), 9)
    refused_or_read(png(4, 4, chunk(kind, bomb), chunk(b"IDAT", zlib.compress(bytes(20)))), ".png")


@pytest.mark.parametrize("name", sorted(path.name for path in (CASES / "images").iterdir()))
def test_what_once_did_harm_is_refused_by_name(refused_or_read, name: str) -> None:  # type: ignore[no-untyped-def]
    assert refused_or_read((CASES / "images" / name).read_bytes(), Path(name).suffix) is None
