"""Examples from files, as an endpoint takes them."""

import csv
import json
from pathlib import Path

import numpy as np

from fededge import named
from fededge.delivery.endpoints.prediction import to_uint8
from fededge.documents import Schema
from fededge.errors import DataError, RequestError
from fededge.examples import MALFORMED, open_array

TYPES = ".csv, .json, .npy, .png"
LIMIT = 256 << 20  # bytes of a file
DAMAGED = (*MALFORMED, IndexError, RecursionError)  # what numpy and Pillow raise on a damaged file
MODES = {1: "L", 3: "RGB"}  # of PNG files, by channels

Shape = tuple[int, ...]


def read(path: Path, shape: Shape, schema: Schema | None = None) -> np.ndarray:
    """The examples in a file.

    A .csv file has a header and an example a row; of its columns, those that are features are taken. A .json file
    holds an object of features by name, or a list of them. An .npy file holds one example or many: images as uint8
    or floats in [0, 1], where a single channel need not be there, and any other features as numbers. A .png file of
    1 to 16 bits holds one image, which is read in shades of gray or, for three channels, in color.

    Args:
        path: of the file.
        shape: of one example that the endpoint takes.
        schema: of the examples, where the endpoint tells it.

    Returns:
        uint8 images or float32 [n, *shape], n >= 1.

    Raises:
        DataError: missing, too large, of another type or shape, not finite, or without the features.
    """
    readers = {".csv": _csv, ".json": _json, ".npy": _array, ".png": _png}
    if path.suffix not in readers:
        raise DataError(f"{path} is not one of {TYPES}: convert it")
    try:
        if not path.is_file():
            raise DataError(f"{path} is not a file: give an existing {TYPES} file")
        if path.stat().st_size > LIMIT:
            raise DataError(f"{path} is larger than {LIMIT:,} bytes: split it")
        return readers[path.suffix](path, shape, schema)
    except RequestError as error:
        raise DataError(f"{path}: {error}") from error
    except (*DAMAGED, csv.Error) as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise DataError(
            f"cannot read examples from {path}: {reason}. Give an existing {TYPES} file"
        ) from error


def _csv(path: Path, shape: Shape, schema: Schema | None) -> np.ndarray:
    with path.open(encoding="utf-8", newline="") as file:
        return named.examples(_known(list(csv.DictReader(file)), path, schema), _told(path, schema))


def _json(path: Path, shape: Shape, schema: Schema | None) -> np.ndarray:
    content = json.loads(path.read_text(encoding="utf-8"))
    records = [content] if isinstance(content, dict) else content
    if not isinstance(records, list) or not all(isinstance(record, dict) for record in records):
        raise DataError(f"{path} is no object of features by name, nor a list of them: correct it")
    return named.examples(records, _told(path, schema))


def _told(path: Path, schema: Schema | None) -> Schema:
    if schema is None:
        raise DataError(f"{path}: the endpoint does not tell the names of its features: give an .npy file")
    return schema


def _known(rows: list[dict[str, str]], path: Path, schema: Schema | None) -> list[dict[str, str]]:
    """`rows` without columns that are no features, such as the label."""
    names = {feature.name for feature in _told(path, schema).features}
    if missing := sorted(names.difference(rows[0] if rows else ())):
        raise DataError(f"{path} has no column {missing[0]}: give a header with {', '.join(sorted(names))}")
    return [{name: value for name, value in row.items() if name in names} for row in rows]


def _array(path: Path, shape: Shape, schema: Schema | None) -> np.ndarray:
    x = open_array(path)  # which reads no more than there is
    image = len(shape) == 3
    for one in (shape, shape[:-1] if shape[-1] == 1 and image else shape):
        if x.shape == one or (x.shape[1:] == one and len(x) > 0):
            return (_levels if image else _numbers)(x.reshape(-1, *shape), path)
    raise DataError(
        f"{path} has shape {list(x.shape)} where the endpoint takes examples of shape {list(shape)}, one or [n, "
        f"{', '.join(map(str, shape))}]: resize them, or ask another endpoint"
    )


def _png(path: Path, shape: Shape, schema: Schema | None) -> np.ndarray:
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


def _levels(x: np.ndarray, path: Path) -> np.ndarray:
    if x.dtype == np.uint8:
        return np.asarray(x)
    if not np.issubdtype(x.dtype, np.floating):
        raise DataError(f"{path} holds {x.dtype}: give uint8, or floats in [0, 1]")
    if not np.isfinite(x).all() or x.min() < 0 or x.max() > 1:
        raise DataError(f"{path} holds values that are not in [0, 1]: scale them, or give uint8")
    return to_uint8(x)


def _numbers(x: np.ndarray, path: Path) -> np.ndarray:
    with np.errstate(over="ignore"):
        made = np.asarray(x).astype(np.float32)
    if not np.isfinite(made).all():
        raise DataError(f"{path} holds NaN, infinity or numbers beyond float32: give finite numbers")
    return made
