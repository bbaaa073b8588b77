"""Folders of images: decoded within bounds, resized, and nothing that is no image or lies elsewhere."""

import io
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from fededge.errors import DataError
from fededge.learning.data.sources.pictures import decoded

pytestmark = pytest.mark.environment("worker")

IID = {"kind": "iid", "clients": 2, "min_examples": 2}
COLORS = {"red": (255, 0, 0), "green": (0, 255, 0)}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Ten images of each color, of different sizes, modes and formats."""
    for name, color in COLORS.items():
        (tmp_path / "images" / name).mkdir(parents=True)
        for number in range(10):
            image = Image.new("RGB", (20 + number, 50 - number), color)
            suffix = ("png", "jpg", "bmp", "gif")[number % 4]
            image.convert("RGB" if number % 4 != 3 else "P").save(
                tmp_path / "images" / name / f"{number}.{suffix}"
            )
    return tmp_path / "images"


def data(root: Path, **said: Any) -> dict[str, Any]:
    return {"source": "images", "path": str(root), "size": [16, 24]} | said


@pytest.mark.parametrize("channels", [1, 3])
def test_images_become_levels_of_one_size_and_folders_classes(
    prepare: Any, root: Path, channels: int
) -> None:
    done = prepare(data(root, channels=channels), partition=IID)
    assert done.population.example.shape == (16, 24, channels)
    assert done.population.example.label.names == ["green", "red"]
    for folder in done.folders():
        x, y = done.read(folder)
        assert x.dtype == np.uint8
        if channels == 3:
            assert (abs(x[..., 0].mean(axis=(1, 2)) - 255 * y) < 5).all()


def bomb(pixels: int) -> bytes:
    """A PNG whose header promises an image of so many pixels a side."""
    stream = io.BytesIO()
    Image.new("L", (8, 8)).save(stream, "PNG")
    whole = bytearray(stream.getvalue())
    whole[16:24] = pixels.to_bytes(4, "big") * 2
    whole[29:33] = zlib.crc32(whole[12:29]).to_bytes(4, "big")
    return bytes(whole)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"no image", "is not an image"),
        (b"", "is not an image"),
        (bomb(60_000), "has more than the"),
        (bomb(9_000), "has more than the"),
        (bomb(8_000), "is not an image"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "is not an image"),
    ],
)
def test_what_is_no_image_is_named_and_nothing_is_left(
    prepare: Any, root: Path, tmp_path: Path, content: bytes, words: str
) -> None:
    (root / "red" / "x.png").write_bytes(content)
    with pytest.raises(DataError, match=rf"x\.png {words}"):
        prepare(data(root), partition=IID)
    assert not (tmp_path / "out").exists()


def test_a_cut_image_is_named(prepare: Any, root: Path) -> None:
    whole = (root / "red" / "0.png").read_bytes()
    (root / "red" / "0.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"0\.png is not an image"):
        prepare(data(root), partition=IID)


def test_links_out_of_the_folder_and_folders_in_it_are_refused(
    prepare: Any, root: Path, tmp_path: Path
) -> None:
    (root / "green" / "1.jpg").rename(tmp_path / "outside.jpg")
    (root / "red" / "link.jpg").symlink_to(tmp_path / "outside.jpg")
    with pytest.raises(DataError, match="leads out of"):
        prepare(data(root), partition=IID)
    (root / "red" / "link.jpg").unlink()
    (root / "red" / "more").mkdir()
    with pytest.raises(DataError, match="is not a file"):
        prepare(data(root), partition=IID)


def test_folders_without_classes_and_classes_without_images_are_named(
    prepare: Any, root: Path, tmp_path: Path
) -> None:
    (root / "blue").mkdir()
    with pytest.raises(DataError, match="class blue has no example"):
        prepare(data(root), partition=IID)
    with pytest.raises(DataError, match="at least two"):
        prepare(data(root / "red"), partition=IID)
    with pytest.raises(DataError, match="not a folder"):
        prepare(data(tmp_path / "none"), partition=IID)


SEEDS = []
for form in ("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP"):
    stream = io.BytesIO()
    Image.new("RGB", (9, 7), (1, 2, 3)).save(stream, form)
    SEEDS.append(stream.getvalue())


@settings(max_examples=150, suppress_health_check=[HealthCheck.too_slow])
@given(st.sampled_from(SEEDS), st.integers(0, 200), st.binary(max_size=6))
def test_changed_bytes_are_an_image_or_refused_by_name(seed: bytes, at: int, change: bytes) -> None:
    spoilt = seed[:at] + change + seed[at + len(change) :]
    try:
        assert decoded(spoilt, [4, 4], 3, "a file").shape == (4, 4, 3)
    except DataError as error:
        assert str(error).isprintable()  # noqa: PT017 (either end is right)
