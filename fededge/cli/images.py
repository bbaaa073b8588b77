"""Images from files, as an endpoint takes them."""

from pathlib import Path

import numpy as np

from fededge.delivery.endpoints.prediction import to_uint8
from fededge.errors import DataError
from fededge.examples import MALFORMED, open_array

TYPES = ".npy, .png"
LIMIT = 256 << 20  # bytes of a file
DAMAGED = (*MALFORMED, IndexError, RecursionError)  # what numpy and Pillow raise on a damaged file
MODES = {1: "L", 3: "RGB"}  # of PNG files, by channels

Shape = tuple[int, ...]


def read(path: Path, shape: Shape) -> np.ndarray:
    """The images in an .npy or .png file.

    An .npy file holds one image or many, uint8 or floats in [0, 1]; a single channel need not be there. A
    .png file of 1 to 16 bits holds one image, which is read in shades of gray or, for three channels, in
    color.

    Args:
        path: of the file.
        shape: of one image that the endpoint takes: height, width, channels.

    Returns:
        uint8 [n, *shape], n >= 1.

    Raises:
        DataError: missing, too large, of another type or shape, or not finite.
    """
    if path.suffix not in (".npy", ".png"):
        raise DataError(f"{path} is not one of {TYPES}: convert it")
    try:
        if not path.is_file():
            raise DataError(f"{path} is not a file: give an existing {TYPES} file")
        if path.stat().st_size > LIMIT:
            raise DataError(f"{path} is larger than {LIMIT:,} bytes: split it")
        return _array(path, shape) if path.suffix == ".npy" else _png(path, shape)
    except DAMAGED as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise DataError(f"cannot read images from {path}: {reason}. Give an existing {TYPES} file") from error


def _array(path: Path, shape: Shape) -> np.ndarray:
    x = open_array(path)  # which reads no more than there is
    for one in (shape, shape[:-1] if shape[-1] == 1 else shape):
        if x.shape == one or (x.shape[1:] == one and len(x) > 0):
            return _checked(x.reshape(-1, *shape), path)
    raise DataError(
        f"{path} has shape {list(x.shape)} where the endpoint takes images of shape {list(shape)}, one or [n, "
        f"{', '.join(map(str, shape))}]: resize the images, or ask another endpoint"
    )


def _png(path: Path, shape: Shape) -> np.ndarray:
    from PIL import Image

    if len(shape) != 3 or shape[-1] not in MODES:
        raise DataError(f"{path} is an image, and the endpoint takes {list(shape)}: give an .npy file")
    try:
        with Image.open(path, formats=["PNG"]) as image:
            if (image.height, image.width) != shape[:2]:  # before a pixel is decoded
                raise DataError(
                    f"{path} has {image.height} x {image.width} pixels where the endpoint takes "
                    f"{shape[0]} x {shape[1]}: resize it"
                )
            gray: Image.Image = image
            if image.mode.startswith("I"):  # 16 bits of gray, which Pillow would cut off at 255
                gray = Image.fromarray(np.rint(np.asarray(image) / 257).astype(np.uint8))
            return np.asarray(gray.convert(MODES[shape[-1]])).reshape(1, *shape)
    except Image.DecompressionBombError as error:
        raise DataError(f"{path} is larger than an image may be: {error}. Resize it") from error


def _checked(x: np.ndarray, path: Path) -> np.ndarray:
    if x.dtype == np.uint8:
        return np.asarray(x)
    if not np.issubdtype(x.dtype, np.floating):
        raise DataError(f"{path} holds {x.dtype}: give uint8, or floats in [0, 1]")
    if not np.isfinite(x).all() or x.min() < 0 or x.max() > 1:
        raise DataError(f"{path} holds values that are not in [0, 1]: scale them, or give uint8")
    return to_uint8(x)
