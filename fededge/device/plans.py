"""Plans on a client's disk, each unpacked once from its zip file and kept under the file's digest.

<folder>/<hex digest>/    the plan's folder; there whole, or not at all
"""

import errno
import os
import re
import shutil
import stat
import tempfile
import zipfile
import zlib
from contextlib import suppress
from pathlib import Path

from fededge import storage
from fededge.errors import IntegrityError, StorageError, shown

MOST = 1000
"""Most files of a plan."""
LIMIT = 1 << 30
"""Most bytes of all of them."""
RATIO = 200
"""Most bytes that one byte of the zip file becomes: weights and programs do not shrink more."""
KEPT = 16
"""Plans that stay for the next rounds: no fewer than assignments that are worked on at a time."""
NAME = re.compile(r"(?:[A-Za-z0-9_][\w.-]*/)*[A-Za-z0-9_][\w.-]*/?", re.ASCII)
"""A path in the plan's folder: no empty part, no part that begins with a dot, nothing absolute; `/` ends a folder."""
LONGEST = 300
"""Most letters of a path."""
COMPRESSION = {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}


class Plans:
    """The plans in `folder`, which is made where it is missing."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def find(self, digest: str) -> Path | None:
        """The folder of the plan whose zip file has this digest, where it was unpacked."""
        folder = self._folder / digest.removeprefix("sha256:")
        if not folder.is_dir():
            return None
        os.utime(folder)  # it is used again
        return folder

    def add(self, digest: str, archive: Path) -> Path:
        """Unpack the zip file `archive`, whose digest was proven; the plan's folder. The plans used last are kept.

        Raises:
            IntegrityError: it is no zip file, holds too much, or writes outside its folder.
            StorageError: it cannot be written.
        """
        target = self._folder / digest.removeprefix("sha256:")
        try:
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            staging = Path(tempfile.mkdtemp(dir=self._folder, prefix=".new-"))
            try:
                _unpack(archive, staging)
                staging.chmod(0o755)
                os.rename(staging, target)
                storage.sync_folder(self._folder)
            finally:
                shutil.rmtree(staging, ignore_errors=True)
        except OSError as error:
            raise StorageError(
                f"cannot unpack a plan into {self._folder}: {error.strerror}. Free space"
            ) from error
        self._prune(target)
        return target

    def _prune(self, newest: Path) -> None:
        """Remove what an interruption left, and plans beyond the last KEPT."""
        with suppress(OSError):  # what stays is removed the next time
            folders = [folder for folder in self._folder.iterdir() if folder != newest]
            whole = [folder for folder in folders if not folder.name.startswith(".new-")]
            old = sorted(whole, key=lambda folder: folder.stat().st_mtime, reverse=True)[KEPT - 1 :]
            for folder in [*old, *(set(folders) - set(whole))]:
                shutil.rmtree(folder)


def _unpack(archive: Path, folder: Path) -> None:
    """The files in `archive`, into `folder`; what disk they need is known before the first is written."""
    try:
        with zipfile.ZipFile(archive) as opened:
            entries = opened.infolist()
            _check(entries, archive.stat().st_size)
            for entry in entries:
                path = folder / entry.filename
                if entry.is_dir():
                    path.mkdir(parents=True, exist_ok=True)
                    continue
                path.parent.mkdir(parents=True, exist_ok=True)
                with opened.open(entry) as source, path.open("xb") as target:
                    shutil.copyfileobj(source, target, storage.CHUNK)
                    target.flush()
                    os.fsync(target.fileno())
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError) as error:
        raise _no_zip(error) from error
    except (FileExistsError, NotADirectoryError) as error:
        raise IntegrityError(
            f"the plan has {shown(str(error.filename))} as a file and a folder: refused"
        ) from error
    except OSError as error:
        if error.errno != errno.EINVAL:  # which seeking before the start of the zip file gives
            raise
        raise _no_zip(error) from error


def _no_zip(error: Exception) -> IntegrityError:
    return IntegrityError(f"the plan is no zip file: {shown(str(error), 200)}. Run the task again")


def _check(entries: list[zipfile.ZipInfo], size: int) -> None:
    """Refuse what is no plan, by what the zip file says of its entries; zipfile reads no more than it says."""
    if len(entries) > MOST or len({entry.filename for entry in entries}) != len(entries):
        raise IntegrityError(
            f"the plan holds a file twice, or more than {MOST:,} ({len(entries):,}): refused"
        )
    for entry in entries:
        if not NAME.fullmatch(entry.filename) or len(entry.filename) > LONGEST:
            raise IntegrityError(
                f"the plan writes to {shown(entry.filename)}, which is no place in its folder: refused"
            )
        kind = stat.S_IFMT(entry.external_attr >> 16)
        if kind not in (0, stat.S_IFREG, stat.S_IFDIR) or (kind == stat.S_IFDIR) > entry.is_dir():
            raise IntegrityError(f"the plan's {shown(entry.filename)} is a link or a device: refused")
        if entry.compress_type not in COMPRESSION or entry.flag_bits & 1:
            raise IntegrityError(
                f"the plan's {shown(entry.filename)} is encrypted or packed otherwise: refused"
            )
    whole = sum(entry.file_size for entry in entries)
    if whole > LIMIT or whole > RATIO * size:
        raise IntegrityError(
            f"the plan's {size:,} bytes would become {whole:,}, over {RATIO} times as many or over {LIMIT:,}: refused"
        )
