"""A plan's folder as one file: a zip archive, the same bytes for the same files.

Entries are stored without compression in the order of their names, with one date and mode. Folders are not entries.
"""

import io
import zipfile
from pathlib import Path

from fededge import storage

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
