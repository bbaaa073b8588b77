"""Images from files, for `fededge predict`."""

import os
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fededge.cli.inputs import read
from fededge.documents import Feature, Label, Schema
from fededge.errors import DataError

GRAY, COLOR = (28, 28, 1), (28, 28, 3)


@pytest.mark.parametrize(
    ("shape", "wanted", "expected"),
    [
        ((28, 28), GRAY, (1, 28, 28, 1)),
        ((28, 28, 1), GRAY, (1, 28, 28, 1)),
        ((5, 28, 28), GRAY, (5, 28, 28, 1)),
        ((5, 28, 28, 1), GRAY, (5, 28, 28, 1)),
        ((28, 28, 28), GRAY, (28, 28, 28, 1)),
        ((28, 28, 3), COLOR, (1, 28, 28, 3)),
        ((2, 28, 28, 3), COLOR, (2, 28, 28, 3)),
    ],
)
def test_reads_one_image_or_many(
    shape: tuple[int, ...], wanted: tuple[int, ...], expected: tuple[int, ...], tmp_path: Path
) -> None:
    x = np.arange(np.prod(shape)).reshape(shape).astype(np.uint8)
    np.save(tmp_path / "x.npy", x)
    images = read(tmp_path / "x.npy", wanted)
    assert images.shape == expected
    assert images.dtype == np.uint8
    assert images.tobytes() == x.tobytes()


def test_scales_floats_to_bytes(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.array([[0.0, 0.5], [1.0, 0.25]], np.float32))
    assert read(tmp_path / "x.npy", (2, 2, 1)).ravel().tolist() == [0, 128, 255, 64]


def test_reads_a_png_in_shades_of_gray(tmp_path: Path) -> None:
    Image.new("RGB", (28, 28), (255, 255, 255)).save(tmp_path / "x.png")
    images = read(tmp_path / "x.png", GRAY)
    assert images.shape == (1, 28, 28, 1)
    assert (images == 255).all()


def test_reads_a_png_in_color_for_three_channels(tmp_path: Path) -> None:
    Image.new("RGB", (28, 28), (1, 2, 3)).save(tmp_path / "x.png")
    assert read(tmp_path / "x.png", COLOR)[0, 5, 5].tolist() == [1, 2, 3]


@pytest.mark.parametrize("wanted", [GRAY, COLOR])
def test_scales_a_png_of_16_bits(wanted: tuple[int, ...], tmp_path: Path) -> None:
    pixels = np.zeros((28, 28), np.uint16)
    pixels[0, :4] = [65535, 32768, 257, 128]
    Image.fromarray(pixels).save(tmp_path / "x.png")
    images = read(tmp_path / "x.png", wanted)
    assert images[0, 0, :5, 0].tolist() == [255, 128, 1, 0, 0]


@pytest.mark.parametrize("bits", [8, 16])
def test_scales_color_of_any_depth(bits: int, tmp_path: Path) -> None:
    largest = (b"\xff" * 6 if bits == 16 else b"\xff" * 3) * 28
    (tmp_path / "x.png").write_bytes(png(28, 28, (b"\0" + largest) * 28, bits=bits, color=2))
    assert (read(tmp_path / "x.png", COLOR) == 255).all()


@pytest.mark.parametrize(
    ("array", "mistake"),
    [
        (np.full((28, 28), np.nan, np.float32), "not in"),
        (np.full((28, 28), 2.0, np.float32), "not in"),
        (np.zeros((28, 28), np.int64), "int64"),
        (np.zeros(28, np.uint8), r"shape \[28\]"),
        (np.zeros((0, 28, 28), np.uint8), r"shape \[0, 28, 28\]"),
        (np.zeros((56, 56), np.uint8), r"has shape \[56, 56\] where the endpoint takes .* \[28, 28, 1\]"),
        (np.zeros((1, 28, 28, 3), np.uint8), r"has shape \[1, 28, 28, 3\]"),
        (np.zeros((1, 14, 56, 1), np.uint8), r"has shape \[1, 14, 56, 1\]"),
        (np.zeros((1, 784), np.uint8), r"has shape \[1, 784\]"),
    ],
)
def test_refuses_what_the_endpoint_does_not_take(array: np.ndarray, mistake: str, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", array)
    with pytest.raises(DataError, match=mistake):
        read(tmp_path / "x.npy", GRAY)


def test_refuses_a_png_of_another_size(tmp_path: Path) -> None:
    Image.new("L", (56, 28)).save(tmp_path / "x.png")
    with pytest.raises(DataError, match=r"has 28 x 56 pixels where the endpoint takes 28 x 28"):
        read(tmp_path / "x.png", GRAY)


@pytest.mark.parametrize("wanted", [(784,), (28, 28, 2)])
def test_refuses_a_png_where_no_image_is_taken(wanted: tuple[int, ...], tmp_path: Path) -> None:
    Image.new("L", (28, 28)).save(tmp_path / "x.png")
    with pytest.raises(DataError, match=r"give an \.npy file"):
        read(tmp_path / "x.png", wanted)


def test_refuses_missing_foreign_and_pickled_files(tmp_path: Path) -> None:
    np.save(tmp_path / "pickled.npy", np.array([{}], object), allow_pickle=True)
    (tmp_path / "broken.png").write_bytes(b"no")
    (tmp_path / "x.txt").write_text("x")
    Image.new("L", (28, 28)).save(tmp_path / "jpeg.png", "JPEG")
    with (tmp_path / "archive.npy").open("wb") as file:
        np.savez(file, np.zeros((28, 28), np.uint8))
    os.mkfifo(tmp_path / "pipe.npy")
    names = ["missing.npy", "pickled.npy", "broken.png", "x.txt", "jpeg.png", "archive.npy", "pipe.npy"]
    for name in names:
        with pytest.raises(DataError, match=name):
            read(tmp_path / name, GRAY)


def header(shape: str) -> bytes:
    """An .npy file of one example whose header claims `shape`."""
    text = f"{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}, }}".encode()
    text += b" " * (117 - len(text)) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + bytes(784)


def png(width: int, height: int, pixels: bytes, bits: int = 8, color: int = 0) -> bytes:
    """A PNG file of these rows, each with its filter byte."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    described = struct.pack(">IIBBBBB", width, height, bits, color, 0, 0, 0)
    parts = [(b"IHDR", described), (b"IDAT", zlib.compress(pixels)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts)


@pytest.mark.parametrize(
    "shape",
    [
        "(1000000000, 28, 28)",
        "(10000000000000000000000, 28, 28)",
        "(-1, 28, 28)",
        "(28, 28",
        "(2, 28, 28)",
        "-" * 99,
    ],
)
def test_refuses_an_npy_file_whose_header_lies(shape: str, tmp_path: Path) -> None:
    (tmp_path / "x.npy").write_bytes(header(shape))
    with pytest.raises(DataError, match=r"x\.npy"):
        read(tmp_path / "x.npy", GRAY)


def test_refuses_a_png_that_claims_billions_of_pixels(tmp_path: Path) -> None:
    (tmp_path / "x.png").write_bytes(png(100_000, 100_000, b""))
    with pytest.raises(DataError, match=r"x\.png"):
        read(tmp_path / "x.png", GRAY)


MEASURE = """
import resource, sys
from pathlib import Path
from PIL import Image
from fededge.cli.inputs import read
from fededge.documents import Feature, Label, Schema
from fededge.errors import DataError
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
before = peak()
for name in sys.argv[1:]:
    try:
        read(Path(name), (28, 28, 1))
    except DataError:
        pass
    else:
        sys.exit("was read")
print(peak() - before)
"""


def test_what_is_refused_takes_little_memory(tmp_path: Path) -> None:
    side = 9000  # 81 MB of pixels in 80 kB, which Pillow does not mind
    (tmp_path / "bomb.png").write_bytes(png(side, side, bytes(side * (side + 1))))
    (tmp_path / "lies.npy").write_bytes(header("(100000, 28, 28)"))
    np.save(tmp_path / "other.npy", np.zeros((100_000, 30, 30), np.uint8))
    files = [str(tmp_path / name) for name in ("bomb.png", "lies.npy", "other.npy")]
    done = subprocess.run([sys.executable, "-c", MEASURE, *files], check=True, capture_output=True, text=True)
    assert int(done.stdout) < 40_000  # kB


STAFF = Schema(
    features=[
        Feature(name="age", dtype="float32", shape=[]),
        Feature(name="job", dtype="int64", shape=[], categories=["cook", "pilot"]),
    ],
    label=Label(classes=2),
)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("x.csv", "job,stays,age\npilot,yes,41\ncook,no,3\n"),
        ("x.json", '[{"age": 41, "job": "pilot"}, {"age": 3, "job": "cook"}]'),
    ],
)
def test_tables_are_read_by_the_names_of_features(name: str, content: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(content)
    np.testing.assert_array_equal(read(tmp_path / name, (2,), STAFF), [[41, 1], [3, 0]])


@pytest.mark.parametrize("shape", [(7,), (4, 7)])
def test_numbers_that_are_no_image_are_taken_as_they_are(shape: tuple[int, ...], tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.full(shape, 300))
    np.testing.assert_array_equal(
        read(tmp_path / "x.npy", (7,)), np.full((*shape[:-1], 7), 300).reshape(-1, 7)
    )


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x.csv", "age\n3\n", "has no column job"),
        ("x.csv", "", "has no column age"),
        ("x.csv", "age,job\n3,clown\n", "none of cook, pilot"),
        ("x.json", "3", "no object of features by name"),
        ("x.json", '{"age": 3, "job": "cook", "pay": 1}', "pay is no feature"),
        ("x.json", "{", "cannot read examples"),
    ],
)
def test_tables_that_do_not_fit_are_refused(name: str, content: str, message: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(DataError, match=message):
        read(tmp_path / name, (2,), STAFF)
    with pytest.raises(DataError, match=r"does not tell the names|cannot read|no object|no column"):
        read(tmp_path / name, (2,))
