"""A folder with a folder of image files for each class."""

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from fededge import storage
from fededge.errors import DataError, shown
from fededge.examples import BLOCK
from fededge.learning.data.arrays import Raw, from_arrays
from fededge.learning.data.source import Source
from fededge.learning.data.sources.pictures import MOST_BYTES, decoded
from fededge.task import ImagesData


def open_source(data: ImagesData, seed: int, column: str | None) -> Source:
    """Images uint8 [n, height, width, channels]; the classes are the names of the folders.

    Raises:
        DataError: a file is no image or lies outside the folder, or there are fewer than two classes.
        StorageError: they cannot be read.
    """
    root = local_folder(data.path)
    found = sorted(entry for entry in root.iterdir() if not entry.name.startswith("."))
    folders = [entry for entry in found if entry.is_dir()]
    if len(folders) < 2:
        raise DataError(
            f"{root} has {len(folders)} folders: give a folder of images for each class, at least two"
        )
    classes = [folder.name for folder in folders]
    files = [(file, place) for place, folder in enumerate(folders) for file in inside(root, folder)]
    empty = set(range(len(classes))) - {place for _, place in files}
    if empty:
        raise DataError(
            f"class {shown(classes[min(empty)])} has no example anywhere: {root} has an empty folder of it"
        )
    step = max(1, BLOCK // (data.size[0] * data.size[1] * data.channels))

    def passes() -> Iterator[Raw]:
        for start in range(0, len(files), step):
            part = files[start : start + step]
            images = [
                decoded(storage.read(str(file), MOST_BYTES), data.size, data.channels, str(file))
                for file, _ in part
            ]
            yield Raw(np.stack(images), np.array([place for _, place in part], np.int64))

    return from_arrays(data.path, passes, data.model_copy(update={"classes": data.classes or classes}))


def inside(root: Path, folder: Path) -> list[Path]:
    """Files in `folder`, sorted by name, none of which leads out of `root`.

    Raises:
        DataError: one does, or is none.
    """
    limit = os.path.realpath(root)
    files = []
    for file in sorted(folder.iterdir()):
        if file.name.startswith("."):
            continue
        real = os.path.realpath(file)
        if os.path.commonpath([real, limit]) != limit:
            raise DataError(f"{file} is a link that leads out of {root}: put the file itself there")
        if not os.path.isfile(real):
            raise DataError(f"{file} is not a file: keep nothing but files in a folder of {root}")
        files.append(file)
    return files


def local_folder(path: str) -> Path:
    """The folder of this machine at `path`.

    Raises:
        DataError: there is none.
    """
    local = storage.local_path(path)
    if local is None or not local.is_dir():
        raise DataError(f"{path} is not a folder of this machine: check the path, or mount it")
    return local
