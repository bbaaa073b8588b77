"""Image files as arrays: bounded before they are decoded, resized, and never anything but an image."""

import io
import warnings
from typing import Any

import numpy as np

from fededge.errors import DataError, shown

FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
MOST_PIXELS = 64 << 20
"""Pixels of the largest image that is decoded: 8,192 x 8,192."""
MOST_BYTES = 256 << 20
MODES = {1: "L", 3: "RGB"}


def decoded(data: Any, size: list[int], channels: int, where: str) -> np.ndarray:
    """The image in `data` (bytes, or a Pillow image) as uint8 [height, width, channels].

    Raises:
        DataError: it is no image, damaged, or too large to be decoded.
    """
    from PIL import Image

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            image = data if isinstance(data, Image.Image) else Image.open(io.BytesIO(data), formats=FORMATS)
            width, height = image.size
            if width * height > MOST_PIXELS:
                raise Image.DecompressionBombError(f"{width} x {height} pixels")
            image = image.convert(MODES[channels]).resize((size[1], size[0]), Image.Resampling.BILINEAR)
    except Image.DecompressionBombError as error:
        raise DataError(
            f"{where} has more than the {MOST_PIXELS:,} pixels that are decoded: make it smaller"
        ) from error
    except Exception as error:
        raise DataError(
            f"{where} is not an image that can be read ({shown(str(error), 100)}): remove it, or save it as PNG or JPEG"
        ) from error
    return np.asarray(image, np.uint8).reshape(*size, channels)
