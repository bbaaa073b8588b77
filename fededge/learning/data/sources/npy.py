"""Two .npy files, memory-mapped."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from fededge import examples
from fededge.errors import DataError
from fededge.learning.data.arrays import Raw, from_arrays
from fededge.learning.data.source import Source
from fededge.storage import local_path
from fededge.task import NpyData


def open_source(data: NpyData, seed: int, column: str | None) -> Source:
    """Examples x [n, ...] and labels y [n, ...], with owners and times [n] where the task names them."""
    x, y, owners, times = (
        None if url is None else opened(url) for url in (data.x, data.y, data.owner, data.time)
    )
    assert x is not None
    for url, other in ((data.y, y), (data.owner, owners), (data.time, times)):
        if other is not None and len(other) != len(x):
            raise DataError(
                f"{url} has {len(other)} entries for {len(x)} examples in {data.x}: give one each"
            )

    def passes() -> Iterator[Raw]:
        start = 0
        for block in examples.blocks(x):
            rows = slice(start, start + len(block))
            start += len(block)
            part = [None if each is None else np.asarray(each[rows]) for each in (y, owners, times)]
            yield Raw(block, part[0], part[1], part[2])

    return from_arrays(data.x, passes, data, tokens=data.tokens)


def opened(url: str) -> np.ndarray:
    """The memory-mapped numbers in a local .npy file.

    Raises:
        DataError: it is none, or lies elsewhere.
    """
    path = local_path(url)
    if path is None:
        raise DataError(f"{url} is not a file of this machine: download it, or use data.source npz")
    try:
        found = examples.open_array(Path(path))
    except examples.MALFORMED as error:
        told = " ".join(str(error).split())[:200]
        raise DataError(f"{url} is not an .npy file of numbers: {told}. Save it with numpy.save") from error
    if not found.ndim:
        raise DataError(f"{url} holds one number: give an array [n, ...]")
    return found
