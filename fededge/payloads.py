"""What a request may carry and how it is answered.

| kind | examples in the request | answer |
|---|---|---|
| ndarray | nested lists of numbers, [n, ...] | nested lists [n, classes] |
| tensor | `shape` and row-major `values` | `shape` and `values` |
| binData | raw row-major bytes | raw little-endian float32 [n, classes] |
| names | `names` of features beside the rows of an ndarray, as numbers and words | as ndarray |
| jsonData | an object of features by name, or a list of them | a list of answers by name (fededge.named) |

The bytes of binData are uint8, 0 to 255, scaled by 1/255 here; with `meta.tags.dtype` of "float32"
they are little-endian float32, taken as they are. The length alone cannot tell: four uint8 examples
are as long as one of float32. `meta.tags.shape`, where it is given, must be that of whole examples. An
answer in bytes says its dtype and shape in its own tags.

Every mistake raises a RequestError that names it.
"""

import base64
import math
from collections.abc import Iterable, Mapping
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np

from fededge import named, records
from fededge.errors import RequestError, shown

if TYPE_CHECKING:
    from fededge.documents import Schema

DTYPES = {"uint8": 1, "float32": 4}
USE = "use data.ndarray, data.tensor, jsonData or binData"

Shape = tuple[int, ...]


def from_json(message: Any, shape: Shape, schema: "Schema | None" = None) -> tuple[np.ndarray, str]:
    """The examples in a JSON request.

    Args:
        message: the parsed body.
        shape: of one example.
        schema: of the examples, where the model tells it.

    Returns:
        float32 [n, *shape], finite, n >= 1; and the kind of payload.
    """
    if not isinstance(message, Mapping):
        raise RequestError(f"the body is a JSON {_word(message)}, not an object: {USE}", "WRONG_TYPE")
    data = message.get("data")
    if "binData" in message and "data" in message:
        raise RequestError("the body holds both data and binData: send one of them", "UNKNOWN_PAYLOAD")
    if "binData" in message:
        meta = message.get("meta")
        tags = meta.get("tags") if isinstance(meta, Mapping) else None
        return from_bytes(_base64(message["binData"]), tags or {}, shape), "binData"
    if "jsonData" in message and "data" not in message:
        return records.from_json_data(message["jsonData"], schema), "jsonData"
    if "data" not in message:
        raise unknown(message)
    if not isinstance(data, Mapping):
        raise RequestError(f"data is a JSON {_word(data)}, not an object: {USE}", "WRONG_TYPE")
    kinds = [kind for kind in ("ndarray", "tensor") if kind in data]
    if len(kinds) != 1:
        raise unknown(data)
    if kinds == ["ndarray"]:
        if schema is not None and records.are_features(data.get("names"), schema):
            return records.from_rows(data["names"], data["ndarray"], schema), "ndarray"
        return examples(nested(data["ndarray"], shape), shape), "ndarray"
    tensor = data["tensor"]
    if not isinstance(tensor, Mapping):
        raise RequestError(f"data.tensor is a JSON {_word(tensor)}, not an object", "WRONG_TYPE")
    values = _numbers(tensor.get("values"), "tensor.values")
    return examples(shaped(values, tensor.get("shape")), shape), "tensor"


def to_json(
    outputs: np.ndarray, kind: str, examples: np.ndarray | None = None, schema: "Schema | None" = None
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The payload of a JSON answer, and the tags that describe it.

    Args:
        outputs: float32 [n, outputs].
        kind: of the request.
        examples: that were asked about.
        schema: of them, where the model tells it.
    """
    if kind == "jsonData" and schema is not None and examples is not None:
        return {"jsonData": named.answers(outputs, examples, schema)}, {}
    if kind == "binData":
        return {"binData": base64.b64encode(little_endian(outputs)).decode()}, described(outputs)
    names = names_of(outputs, schema)
    if kind == "tensor":
        content: Any = {"shape": list(outputs.shape), "values": outputs.ravel()}
    else:
        content = outputs
    return {"data": {"names": names, kind: content}}, {}


def check_outputs(outputs: np.ndarray) -> None:
    """Refuse to tell what a model answers where a number in it is none.

    Raises:
        RequestError: it holds NaN or infinity.
    """
    if not np.isfinite(outputs).all():
        raise RequestError(
            "the model's answer holds NaN or infinity: send examples like those it was trained on",
            "OUTPUT_NOT_FINITE",
            422,
        )


def names_of(outputs: np.ndarray, schema: "Schema | None") -> list[str]:
    """A name for each output."""
    return named.output_names(schema) if schema else [f"t:{index}" for index in range(outputs.shape[1])]


def from_bytes(data: bytes, tags: Any, shape: Shape) -> np.ndarray:
    """float32 [n, *shape] of binData, which `tags` describe."""
    if not isinstance(tags, Mapping):
        raise RequestError(f"meta.tags is a JSON {_word(tags)}: send an object", "WRONG_TYPE")
    dtype = tags.get("dtype", "uint8")
    if not isinstance(dtype, str) or dtype not in DTYPES:
        raise RequestError(
            f"meta.tags.dtype is {str(dtype)[:40]!r}: binData holds uint8 (the default) or float32",
            "WRONG_TYPE",
        )
    size = DTYPES[dtype] * math.prod(shape)
    if not data:
        raise RequestError(f"binData is empty: send at least one example of {size} bytes", "EMPTY")
    if len(data) % size:
        raise RequestError(
            f"binData holds {len(data)} bytes, not a multiple of {size}: an example is {dtype} {list(shape)}",
            "WRONG_SHAPE",
        )
    whole = [len(data) // size, *shape]
    if "shape" in tags and tags["shape"] != whole:
        raise RequestError(
            f"meta.tags.shape is {shown(str(tags['shape']))} where binData holds {dtype} {whole}",
            "WRONG_SHAPE",
        )
    if dtype == "uint8":
        pixels = np.frombuffer(data, np.uint8).reshape(-1, *shape)
        return np.divide(pixels, np.float32(255), dtype=np.float32)
    return _finite(np.frombuffer(data, "<f4").astype(np.float32, copy=False).reshape(-1, *shape))


def _base64(text: Any) -> bytes:
    if not isinstance(text, str):
        raise RequestError(f"binData is a JSON {_word(text)}: send a base64 string", "WRONG_TYPE")
    try:
        return base64.b64decode(text, validate=True)
    except ValueError as error:
        raise RequestError(
            f"binData is not base64 (RFC 4648, padded): {error}", "MALFORMED_BASE64"
        ) from error


def nested(value: Any, shape: Shape) -> np.ndarray:
    """Nested lists as an array; those of the right shape are flattened first, which numpy does slowly."""
    level = value
    try:
        for size in shape:
            if {*map(len, level)} != {size}:
                return _numbers(value, "ndarray")
            level = list(chain.from_iterable(level))
    except TypeError:
        return _numbers(value, "ndarray")
    flat = _numbers(level, "ndarray")
    return flat.reshape(-1, *shape) if flat.ndim == 1 else _numbers(value, "ndarray")


def _numbers(value: Any, name: str) -> np.ndarray:
    if not isinstance(value, list):
        raise RequestError(f"data.{name} is a JSON {_word(value)}: send a list of numbers", "WRONG_TYPE")
    try:
        array = np.asarray(value)
    except (ValueError, RecursionError) as error:
        raise RequestError(
            f"data.{name} is ragged or too deep: its lists must have equal lengths", "WRONG_SHAPE"
        ) from error
    if array.size == 0:
        raise RequestError(f"data.{name} is empty: send at least one example", "EMPTY")
    if array.dtype.kind not in "fiu":
        raise RequestError(f"data.{name} holds something that is not a number", "WRONG_TYPE")
    return array


def shaped(values: np.ndarray, shape: Any) -> np.ndarray:
    """`values` of a tensor in its shape."""
    if not isinstance(shape, list) or not all(type(size) is int and size >= 0 for size in shape):
        raise RequestError("data.tensor.shape must be a list of sizes, such as [n, 28, 28, 1]", "WRONG_TYPE")
    if not values.size:
        raise RequestError("data.tensor.values is empty: send at least one example", "EMPTY")
    if values.ndim != 1 or math.prod(shape) != values.size or len(shape) > 32:
        raise RequestError(
            f"data.tensor has {values.size} values where its shape {str(shape)[:80]} says otherwise",
            "WRONG_SHAPE",
        )
    return values.reshape(shape)


def examples(array: np.ndarray, shape: Shape) -> np.ndarray:
    """float32 [n, *shape], finite."""
    if array.shape[1:] != shape:
        raise RequestError(
            f"the examples have shape {list(array.shape)} where [n, {', '.join(map(str, shape))}] is needed",
            "WRONG_SHAPE",
        )
    with np.errstate(over="ignore"):
        return _finite(array.astype(np.float32))


def _finite(array: np.ndarray) -> np.ndarray:
    if not np.isfinite(array).all():
        raise RequestError(
            "the examples hold NaN, infinity or values beyond float32: send finite numbers", "NOT_FINITE"
        )
    return array


def little_endian(outputs: np.ndarray) -> bytes:
    """Outputs as bytes."""
    return outputs.astype("<f4", copy=False).tobytes()


def described(outputs: np.ndarray) -> dict[str, Any]:
    """Tags of an answer in bytes."""
    return {"dtype": "float32", "shape": list(outputs.shape)}


def unknown(keys: Iterable[str]) -> RequestError:
    """That a payload of these keys is none known here."""
    found = shown(", ".join(sorted(keys)), 100) or "nothing"
    return RequestError(f"the payload ({found}) is not one kind known here: {USE}", "UNKNOWN_PAYLOAD")


def _word(value: Any) -> str:
    words = {dict: "object", list: "array", str: "string", bool: "boolean", type(None): "null"}
    return words.get(type(value), "number")
