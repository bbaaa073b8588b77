"""A user's own code on its way to where it runs: a signed bundle of the Python modules in a folder.

A bundle is a zip file without compression, the same bytes for the same modules, stored once under its digest:

    <storage>/bundles/<hex digest>.zip     every *.py of the folder, hidden folders left out; no other file, so that
                                           no data travels by accident
    <storage>/bundles/<hex digest>.json    the envelope that the release key signed (fededge.signing)

The task that runs carries the digest in place of the folder. Code is imported only after digest and signature are
proven by the public key that lies beside the release key (`release.pub.pem`), out of a private folder of the process.
"""

import functools
import io
import os
import re
import tempfile
import zipfile
from pathlib import Path

from fededge import settings, storage
from fededge.errors import IntegrityError, StorageError, TaskError, shown
from fededge.signing import LIMIT as ENVELOPE_LIMIT
from fededge.signing import SigningKey, TrustedKey, public_file
from fededge.task import FederatedTask

PACKED = re.compile(r"sha256:[0-9a-f]{64}")
"""What a task says in place of a folder once its code is packed."""
LIMIT = 16 << 20
"""Most bytes of a bundle."""
MOST = 1000
"""Most modules."""
NAME = re.compile(r"(?:[A-Za-z0-9_][\w.-]*/)*[A-Za-z0-9_][\w.-]*\.py", re.ASCII)
"""A module's path: no empty part, no part that begins with a dot, nothing absolute."""
EPOCH = (1980, 1, 1, 0, 0, 0)


def packed(task: FederatedTask, *, on_cluster: bool) -> FederatedTask:
    """`task` as it runs: each folder of code is stored as a bundle, and named by its digest.

    Args:
        task: as it was read.
        on_cluster: whether it runs there: the storage must be one that the cluster reaches, and the release key be
            here. On this machine the key is made on first use.

    Raises:
        TaskError: a folder is missing, empty, too large, or holds a link.
        StorageError: there is no key or storage for the bundle.
    """
    folders = {place: code for place, code in task.code.items() if not PACKED.fullmatch(code)}
    packs = {place: pack(Path(code), f"{'.'.join(place)}.code") for place, code in folders.items()}
    return task.with_code({place: _store(data, on_cluster) for place, data in packs.items()})


def pack(folder: Path, what: str) -> bytes:
    """The bundle of the modules in `folder`, which `what` of the task names.

    Raises:
        TaskError: as for `packed`.
    """
    names = _modules(folder, what)
    if not names or len(names) > MOST:
        raise TaskError(
            f"{what} {shown(str(folder))} holds {len(names):,} Python modules where 1 to {MOST:,} are expected: name the "
            "folder of the task's own code"
        )
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name in names:
            entry = zipfile.ZipInfo(name, EPOCH)
            entry.external_attr = 0o644 << 16
            entry.create_system = 3
            archive.writestr(entry, storage.read(str(folder / name), LIMIT))
    data = buffer.getvalue()
    if len(data) > LIMIT:
        raise TaskError(
            f"{what} {shown(str(folder))}: its modules are {len(data):,} bytes, more than the {LIMIT:,} of a bundle: "
            "name a smaller folder"
        )
    return data


def folder_of(code: str, url: str | None = None) -> Path:
    """Where the modules of `code` lie: a folder of this machine as it is, a bundle after it is proven and unpacked.

    Args:
        code: a folder, or the digest of a bundle.
        url: folder with the bundle; by default that of the storage.

    Raises:
        IntegrityError: the bundle was changed, is not signed by the trusted key, or writes outside its folder.
        StorageError: there is no bundle, or no key to prove it by.
    """
    if not PACKED.fullmatch(code):
        return Path(code)
    return Path(_opened(code, url or _shelf()).name)


def copy(code: str, url: str) -> None:
    """Copy the bundle `code` and its signature out of the storage into the folder `url`, for who cannot reach it."""
    for file, limit in zip(_files(code, _shelf()), (LIMIT, ENVELOPE_LIMIT), strict=True):
        storage.write(storage.join(url, file.rsplit("/", 1)[-1]), storage.read(file, limit))


@functools.lru_cache(maxsize=16)
def _opened(code: str, url: str) -> "tempfile.TemporaryDirectory[str]":
    """The unpacked bundle, which is removed when this process ends."""
    archive, envelope = _files(code, url)
    signed = _trusted().verify(storage.read(envelope, ENVELOPE_LIMIT))
    if signed != {"bundle": code}:
        raise IntegrityError(
            f"{envelope} signs something else than {code}: run the task again from its folder"
        )
    data = storage.read_verified(archive, code, LIMIT)
    folder = tempfile.TemporaryDirectory(prefix="fededge-code-")
    try:
        _unpack(data, Path(folder.name), archive)
    except BaseException:
        folder.cleanup()
        raise
    return folder


def _trusted() -> TrustedKey:
    """The public key that lies beside the release key, or where that is alone, its own."""
    private = settings.signing_key_file()
    public = public_file(private)
    if public.exists():
        return TrustedKey.load(public)
    if private.exists():
        return SigningKey.load(private).public
    raise StorageError(
        f"no public key at {public} to prove code by: put the release key's release.pub.pem there"
    )


def _unpack(data: bytes, folder: Path, where: str) -> None:
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            entries = archive.infolist()
            names = [entry.filename for entry in entries]
            wrong = next((name for name in names if not NAME.fullmatch(name)), None)
            if wrong is not None:
                raise IntegrityError(
                    f"{where} writes to {shown(wrong)}, which is no module in its folder: refused"
                )
            if len(set(names)) != len(names) or len(names) > MOST:
                raise IntegrityError(f"{where} holds a module twice, or more than {MOST:,}: refused")
            if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
                raise IntegrityError(f"{where} is compressed, which no bundle is: refused")
            for entry in entries:
                path = folder / entry.filename
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(archive.read(entry))
    except (zipfile.BadZipFile, ValueError, NotImplementedError, OSError, RuntimeError, EOFError) as error:
        raise IntegrityError(
            f"{where} is no bundle: {shown(str(error))}. Run the task again from its folder"
        ) from error


def _modules(folder: Path, what: str) -> list[str]:
    """Sorted paths of the modules in `folder`, relative to it."""
    if not folder.is_dir():
        raise TaskError(f"{what} {shown(str(folder))} is no folder: name the one that holds the module")
    names = []
    for place, inner, files in os.walk(folder):
        inner[:] = [name for name in inner if not name.startswith((".", "__pycache__"))]
        for name in [*inner, *(file for file in files if file.endswith(".py"))]:
            path = Path(place, name)
            if path.is_symlink():
                raise TaskError(
                    f"{what}: {shown(str(path))} is a link, which may lead anywhere: put the files there"
                )
            if path.suffix == ".py" and not path.is_dir():
                names.append(path.relative_to(folder).as_posix())
    wrong = next((name for name in names if not NAME.fullmatch(name)), None)
    if wrong is not None:
        raise TaskError(f"{what}: {shown(wrong)} is no name of a module: use letters, digits, - and _")
    return sorted(names)


def _store(data: bytes, on_cluster: bool) -> str:
    """Store a bundle and its signature; its digest."""
    code = storage.digest(data)
    file = settings.signing_key_file()
    if on_cluster and storage.local_path(settings.storage()) is not None:
        raise StorageError(
            "the task has code of its own, which goes to the cluster by FEDEDGE_STORAGE: set it to the storage that the "
            "cluster's steps use"
        )
    key = SigningKey.load(file) if on_cluster else SigningKey.load_or_create(file)
    archive, envelope = _files(code, _shelf())
    storage.write(archive, data)
    storage.write(envelope, key.sign({"bundle": code}))
    return code


def _shelf() -> str:
    return storage.join(settings.storage(), "bundles")


def _files(code: str, url: str) -> tuple[str, str]:
    name = code.removeprefix("sha256:")
    return storage.join(url, f"{name}.zip"), storage.join(url, f"{name}.json")
