"""Images from files, for `fededge predict`."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fededge.cli.images import read
from fededge.errors import DataError


@pytest.mark.parametrize(
    ("shape", "expected"),
    [((28, 28), (1, 28, 28, 1)), ((28, 28, 1), (1, 28, 28, 1)), ((5, 28, 28), (5, 28, 28, 1))],
)
def test_reads_one_image_or_many(shape: tuple[int, ...], expected: tuple[int, ...], tmp_path: Path) -> None:
    x = np.arange(np.prod(shape)).reshape(shape).astype(np.uint8)
    np.save(tmp_path / "x.npy", x)
    images = read(tmp_path / "x.npy")
    assert images.shape == expected
    assert images.dtype == np.uint8
    assert images.tobytes() == x.tobytes()


def test_scales_floats_to_bytes(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.array([[0.0, 0.5], [1.0, 0.25]], np.float32))
    assert read(tmp_path / "x.npy").ravel().tolist() == [0, 128, 255, 64]


def test_reads_a_png_in_shades_of_gray(tmp_path: Path) -> None:
    Image.new("RGB", (28, 28), (255, 255, 255)).save(tmp_path / "x.png")
    images = read(tmp_path / "x.png")
    assert images.shape == (1, 28, 28, 1)
    assert (images == 255).all()


@pytest.mark.parametrize(
    ("array", "mistake"),
    [
        (np.full((28, 28), np.nan, np.float32), "not in"),
        (np.full((28, 28), 2.0, np.float32), "not in"),
        (np.zeros((28, 28), np.int64), "int64"),
        (np.zeros(28, np.uint8), "shape"),
        (np.zeros((0, 28, 28), np.uint8), "shape"),
    ],
)
def test_refuses_what_is_no_image(array: np.ndarray, mistake: str, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", array)
    with pytest.raises(DataError, match=mistake):
        read(tmp_path / "x.npy")


def test_refuses_missing_foreign_and_pickled_files(tmp_path: Path) -> None:
    np.save(tmp_path / "pickled.npy", np.array([{}], object), allow_pickle=True)
    (tmp_path / "broken.png").write_bytes(b"no")
    (tmp_path / "x.txt").write_text("x")
    for name in ("missing.npy", "pickled.npy", "broken.png", "x.txt"):
        with pytest.raises(DataError, match=name):
            read(tmp_path / name)
