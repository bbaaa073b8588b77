"""Images from files, as an endpoint takes them."""

from pathlib import Path

import numpy as np

from fededge.delivery.endpoints.prediction import to_uint8
from fededge.errors import DataError

TYPES = ".npy, .png"


def read(path: Path) -> np.ndarray:
    """The images in an .npy or .png file as uint8 [n, height, width, channels].

    An .npy file holds one image or many, uint8 or floats in [0, 1], the channel optional; a .png
    file one image, read in shades of gray.

    Raises:
        DataError: missing, of another type or shape, or not finite.
    """
    try:
        if path.suffix == ".npy":
            return _checked(np.load(path, allow_pickle=False), path)
        if path.suffix == ".png":
            from PIL import Image

            with Image.open(path) as image:
                return _checked(np.asarray(image.convert("L")), path)
    except (OSError, ValueError) as error:
        raise DataError(f"cannot read images from {path}: {error}. Give an existing {TYPES} file") from error
    raise DataError(f"{path} is not one of {TYPES}: convert it")


def _checked(x: np.ndarray, path: Path) -> np.ndarray:
    if x.ndim == 2 or (x.ndim == 3 and x.shape[-1] in (1, 3)):
        x = x[None]
    if x.ndim == 3:
        x = x[..., None]
    if x.ndim != 4 or x.size == 0:
        raise DataError(
            f"{path} has shape {list(x.shape)}: give [height, width] or [n, height, width, channels]"
        )
    if x.dtype == np.uint8:
        return x
    if not np.issubdtype(x.dtype, np.floating):
        raise DataError(f"{path} holds {x.dtype}: give uint8, or floats in [0, 1]")
    if not np.isfinite(x).all() or x.min() < 0 or x.max() > 1:
        raise DataError(f"{path} holds values that are not in [0, 1]: scale them, or give uint8")
    return to_uint8(x)
