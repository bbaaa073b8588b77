"""Where examples come from: the sources a task can name, as arrays checked at the door."""

import io
import zlib
from dataclasses import dataclass
from lzma import LZMAError
from zipfile import BadZipFile

import numpy as np

from fededge import storage
from fededge.errors import DataError
from fededge.examples import MALFORMED
from fededge.task import Data, DigitsData, FileData, KerasMnist

LIMIT = 8 << 30
SHAPE = (28, 28, 1)
CLASSES = 10


@dataclass(frozen=True)
class Examples:
    """A labeled data set, split into what clients learn from and what is held out.

    x: float32 [n, 28, 28, 1] in [0, 1]; y: int64 [n]; owners: one name per training example where
    the data has a natural key.
    """

    x: np.ndarray
    y: np.ndarray
    test_x: np.ndarray
    test_y: np.ndarray
    classes: int
    owners: np.ndarray | None = None


def load(data: Data, seed: int) -> Examples:
    """The examples that a task's section `data` names, split with the task's `seed`.

    Raises:
        DataError: missing, malformed, not finite, or of another shape than the model takes.
    """
    if isinstance(data, DigitsData):
        return _hold_out(*_digits(), data.holdout, seed)
    if isinstance(data, FileData):
        return _npz(data)
    if isinstance(data, KerasMnist):
        return _keras_mnist()
    return _hold_out(*_synthetic(data.examples, seed), data.holdout, seed)


def images(x: np.ndarray, source: str) -> np.ndarray:
    """`x` as float32 [n, 28, 28, 1] in [0, 1]: uint8 is scaled by 1/255, a missing channel is added.

    Raises:
        DataError: another shape or type, NaN or infinity, or values outside [0, 1].
    """
    if x.ndim == 3:
        x = x[..., np.newaxis]
    if x.shape[1:] != SHAPE:
        raise DataError(
            f"{source}: examples have shape {x.shape[1:]} where the model takes {SHAPE}: resize them"
        )
    if x.dtype == np.uint8:
        return x.astype(np.float32) / np.float32(255)
    if not np.issubdtype(x.dtype, np.floating):
        raise DataError(f"{source}: examples are {x.dtype}; give uint8 (0 to 255) or float (0 to 1)")
    x = x.astype(np.float32)
    bad = int(np.count_nonzero(~np.isfinite(x)))
    if bad:
        raise DataError(f"{source}: {bad} values are NaN or infinite: clean the data and run again")
    if len(x) and (x.min() < 0 or x.max() > 1):
        raise DataError(
            f"{source}: values lie in [{x.min()}, {x.max()}] where [0, 1] is expected: scale them"
        )
    return x


def labels(y: np.ndarray, count: int, source: str) -> np.ndarray:
    """`y` as int64 [count].

    Raises:
        DataError: not whole numbers from 0 to 9, or not one per example.
    """
    if y.shape != (count,):
        raise DataError(f"{source}: labels have shape {y.shape} for {count} examples: give one label each")
    if not np.issubdtype(y.dtype, np.integer) or (count and y.min() < 0):
        raise DataError(f"{source}: labels must be whole numbers from 0, found {y.dtype}")
    if count and int(y.max()) >= CLASSES:
        raise DataError(
            f"{source}: label {y.max()} found where the model tells {CLASSES} classes apart (0 to {CLASSES - 1})"
        )
    return y.astype(np.int64)


def _digits() -> tuple[np.ndarray, np.ndarray]:
    from sklearn.datasets import load_digits

    small, y = load_digits(return_X_y=True)
    return _enlarge(small.reshape(-1, 8, 8) / 16.0), y.astype(np.int64)


def _enlarge(small: np.ndarray) -> np.ndarray:
    """Bilinear resize of [n, 8, 8] to float32 [n, 28, 28, 1], pixel centers aligned."""
    position = np.clip((np.arange(28) + 0.5) * 8 / 28 - 0.5, 0, 7)
    low = np.floor(position).astype(int)
    high = np.minimum(low + 1, 7)
    share = position - low
    weight = np.zeros((28, 8))
    weight[np.arange(28), low] += 1 - share
    weight[np.arange(28), high] += share
    large = np.einsum("ai,nij,bj->nab", weight, small, weight, optimize=True)
    return np.clip(large, 0, 1).astype(np.float32)[..., np.newaxis]


def _synthetic(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 10, count)
    prototypes = rng.random((10, *SHAPE), dtype=np.float32)
    x = rng.random((count, *SHAPE), dtype=np.float32) * np.float32(0.5)
    x += prototypes[y] * np.float32(0.5)
    return x, y.astype(np.int64)


def _npz(data: FileData) -> Examples:
    raw = storage.read(data.path, LIMIT)
    wanted = ["x_train", "y_train", "x_test", "y_test", *([data.key] if data.key else [])]
    try:
        with np.load(io.BytesIO(raw), allow_pickle=False) as archive:
            missing = [name for name in wanted if name not in archive.files]
            if missing:
                raise DataError(
                    f"{data.path} lacks {', '.join(missing)}; it has {sorted(archive.files)[:10]}"
                )
            arrays = {name: np.asarray(archive[name]) for name in wanted}  # bytes, where it is no .npy
        owners = arrays[data.key].astype(str) if data.key else None
    except (*MALFORMED, RuntimeError, BadZipFile, LZMAError, zlib.error) as error:
        told = " ".join(str(error).split())[:200]
        raise DataError(f"{data.path} is not an .npz file without pickled objects: {told}") from error
    return _examples(arrays, data.path, owners)


def _keras_mnist() -> Examples:
    import tensorflow as tf

    try:
        (x, y), (test_x, test_y) = tf.keras.datasets.mnist.load_data()
    except Exception as error:  # Keras raises a bare Exception when a download fails
        raise DataError(
            f"Keras cannot download MNIST: {error}. Use data.source npz with a file you have"
        ) from error
    return _examples({"x_train": x, "y_train": y, "x_test": test_x, "y_test": test_y}, "keras-mnist", None)


def _examples(arrays: dict[str, np.ndarray], source: str, owners: np.ndarray | None) -> Examples:
    x, test_x = images(arrays["x_train"], source), images(arrays["x_test"], source)
    y = labels(arrays["y_train"], len(x), source)
    test_y = labels(arrays["y_test"], len(test_x), source)
    if owners is not None and owners.shape != (len(x),):
        raise DataError(f"{source}: the key array must name one owner per training example")
    if not len(x) or not len(test_x):
        raise DataError(f"{source}: {len(x)} training and {len(test_x)} test examples; both are needed")
    return Examples(x, y, test_x, test_y, CLASSES, owners)


def _hold_out(x: np.ndarray, y: np.ndarray, share: float, seed: int) -> Examples:
    order = np.random.default_rng([seed, 1]).permutation(len(x))
    held = max(1, round(len(x) * share))
    train, test = order[held:], order[:held]
    return Examples(x[train], y[train], x[test], y[test], 10)
