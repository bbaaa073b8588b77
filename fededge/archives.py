"""A folder as one file: a zip archive, the same bytes for the same files.

Entries are stored without compression in the order of their names, with one date and mode. Folders are not entries.
"""

import io
import os
import shutil
import tempfile
import zipfile
from pathlib import Path

from fededge import storage
from fededge.errors import IntegrityError, StorageError, shown

EPOCH = (1980, 1, 1, 0, 0, 0)


def packed(folder: Path) -> bytes:
    """The archive of all files below `folder`.

    Raises:
        StorageError: a file cannot be read.
    """
    buffer = io.BytesIO()
    files = {file.relative_to(folder).as_posix(): file for file in folder.rglob("*") if file.is_file()}
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name, file in sorted(files.items()):
            entry = zipfile.ZipInfo(name, EPOCH)
            entry.external_attr = 0o644 << 16
            entry.create_system = 3
            archive.writestr(entry, storage.read(str(file)))
    return buffer.getvalue()


def unpack(data: bytes, folder: Path) -> None:
    """Make `folder` of the archive in `data`, whose digest was proven: whole, or not at all.

    A folder that stands already stays as it is. A name that leads out of the folder is kept inside it (`zipfile`).

    Raises:
        IntegrityError: it is no archive.
        StorageError: it cannot be written.
    """
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(dir=folder.parent, prefix=".new-"))
        try:
            with zipfile.ZipFile(io.BytesIO(data)) as archive:
                archive.extractall(staging)
            if not folder.exists():
                os.rename(staging, folder)
        finally:
            shutil.rmtree(staging, ignore_errors=True)
    except (zipfile.BadZipFile, NotImplementedError, EOFError) as error:
        raise IntegrityError(f"what was to be {folder} is no zip archive: {shown(str(error))}") from error
    except OSError as error:
        raise StorageError(f"cannot unpack {folder}: {error}. Free space or fix permissions") from error
