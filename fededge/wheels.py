"""A bundle: wheels side by side in one zip file, as a release of a program brings them.

The file is the same for the same wheels, and not compressed: wheels are.
"""

import re
import shutil
import stat
import zipfile
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from fededge import storage
from fededge.archives import EPOCH
from fededge.errors import IntegrityError, StorageError, shown

NAME = re.compile(r"[A-Za-z0-9_.]{1,100}(?:-[A-Za-z0-9_.+!]{1,100}){4,5}\.whl")
"""Of a wheel's file (PyPA: Binary distribution format, File name convention): a name alone, no path."""
MOST = 200
"""Most wheels of a bundle."""
FILES = 50_000
"""Most files of all wheels."""
LIMIT = 2 << 30
"""Most bytes that all wheels become."""
RATIO = 100
"""Most bytes that one byte of a wheel becomes."""


def version_in(folder: Path, package: str) -> str:
    """The version of the one wheel of `package` in `folder`.

    Raises:
        IntegrityError: there is none, or several.
    """
    found = [file.name.split("-")[1] for file in folder.glob(f"{package}-*.whl")]
    if len(found) != 1:
        raise IntegrityError(f"{folder} holds {len(found)} wheels of {package}: put one there")
    return found[0]


def pack(wheels: Sequence[Path], bundle: Path) -> None:
    """Write the bundle of `wheels` to the file `bundle`.

    Raises:
        IntegrityError: a file is no wheel, or they are too many or too large.
        StorageError: a file cannot be read or written.
    """
    try:
        with zipfile.ZipFile(bundle, "w", zipfile.ZIP_STORED) as archive:
            for wheel in sorted(wheels, key=lambda each: each.name):
                entry = zipfile.ZipInfo(wheel.name, EPOCH)
                entry.external_attr = 0o644 << 16
                entry.create_system = 3
                entry.file_size = wheel.stat().st_size
                with wheel.open("rb") as source, archive.open(entry, "w") as target:
                    shutil.copyfileobj(source, target, storage.CHUNK)
        with zipfile.ZipFile(bundle) as archive:
            _check_bundle(archive.infolist())
        _check_wheels(wheels)
    except OSError as error:
        raise StorageError(
            f"cannot pack wheels into {bundle}: {error}. Check its disk and the files"
        ) from error


def unpack(bundle: Path, folder: Path) -> list[Path]:
    """The wheels in the file `bundle`, in the new folder `folder`; what they become is known before one is installed.

    Raises:
        IntegrityError: it is no bundle, a name is none of a wheel, or it becomes too many files or bytes.
        StorageError: they cannot be written.
    """
    try:
        folder.mkdir(mode=0o700)
        with zipfile.ZipFile(bundle) as archive:
            entries = archive.infolist()
            _check_bundle(entries)
            wheels = [folder / entry.filename for entry in entries]
            for entry, wheel in zip(entries, wheels, strict=True):
                with archive.open(entry) as source, wheel.open("xb") as target:
                    shutil.copyfileobj(source, target, storage.CHUNK)
        _check_wheels(wheels)
    except (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError, ValueError) as error:
        raise IntegrityError(f"no bundle of wheels: {shown(str(error), 200)}. Release it again") from error
    except OSError as error:
        raise StorageError(f"cannot unpack wheels into {folder}: {error.strerror}. Free space") from error
    return wheels


def _check_bundle(entries: Sequence[zipfile.ZipInfo]) -> None:
    names = [entry.filename for entry in entries]
    if not names or len(names) > MOST or len(set(names)) < len(names):
        raise IntegrityError(f"a bundle of {len(names):,} wheels, or one twice: give 1 to {MOST}")
    for entry in entries:
        if not NAME.fullmatch(entry.filename):
            raise IntegrityError(
                f"a bundle holds {shown(entry.filename)!r}, which is no wheel's name: refused"
            )
        if entry.compress_type != zipfile.ZIP_STORED or entry.flag_bits & 1:
            raise IntegrityError(f"{entry.filename} is encrypted or compressed in its bundle: refused")
        if stat.S_IFMT(entry.external_attr >> 16) not in (0, stat.S_IFREG):
            raise IntegrityError(f"{entry.filename} is a link or a device in its bundle: refused")


def _check_wheels(wheels: Sequence[Path]) -> None:
    """Refuse what no installation needs, by what wheels say of their files; an installer reads no more than that."""
    count = whole = 0
    for wheel in wheels:
        try:
            with zipfile.ZipFile(wheel) as archive:
                entries = archive.infolist()
        except (zipfile.BadZipFile, NotImplementedError, ValueError) as error:
            raise IntegrityError(f"{wheel.name} is no wheel: {shown(str(error), 200)}") from error
        size = sum(entry.file_size for entry in entries)
        count, whole = count + len(entries), whole + size
        if size > RATIO * wheel.stat().st_size or whole > LIMIT or count > FILES:
            raise IntegrityError(
                f"{wheel.name} would become {size:,} bytes: over {RATIO} times as many as it has, or with the others "
                f"over {LIMIT:,} bytes or {FILES:,} files: refused"
            )
        for entry in entries:
            path = PurePosixPath(entry.filename)
            if path.is_absolute() or ".." in path.parts or "\\" in entry.filename:
                raise IntegrityError(
                    f"{wheel.name} writes to {shown(entry.filename)!r}, outside its place: refused"
                )
