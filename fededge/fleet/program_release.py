"""Publishing releases of the program that clients run, by way of the gateway."""

import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

from fededge import storage, wheels
from fededge.documents import PROGRAM, ProgramBundle, ProgramRelease
from fededge.errors import ReleaseError
from fededge.fleet.gateway_client import GatewayClient
from fededge.fleet.offering import hand_over
from fededge.signing import SigningKey


def release(gateway: GatewayClient, folders: Mapping[str, Path], key: SigningKey) -> ProgramRelease:
    """Release the wheels in a folder to each device class, signed by `key`, in place of the release before.

    Args:
        gateway: that clients follow.
        folders: by device class.
        key: that their policies trust.

    Raises:
        ReleaseError: the folders are of several versions.
        IntegrityError: a folder holds no wheel of fededge, or what is none.
        StorageError: a file cannot be read.
        GatewayError: the gateway does not take it.
    """
    versions = {wheels.version_in(folder, "fededge") for folder in folders.values()}
    if len(versions) != 1:
        raise ReleaseError(f"the folders hold versions {', '.join(sorted(versions))}: release one at a time")
    stored = {folder: _stored(gateway, sorted(folder.glob("*.whl"))) for folder in set(folders.values())}
    made = ProgramRelease(
        version=versions.pop(),
        issued=time.time(),
        bundles={name: stored[folder] for name, folder in folders.items()},
    )
    envelope = key.sign(made.to_content())
    files = {name: bundle.digest for name, bundle in made.bundles.items()}
    hand_over(gateway, PROGRAM, envelope, made.issued, files)
    return made


def _stored(gateway: GatewayClient, files: list[Path]) -> ProgramBundle:
    """The bundle of these wheels, once the gateway has it."""
    with tempfile.TemporaryDirectory(prefix="fededge-bundle-") as folder:
        file = Path(folder) / "bundle.zip"
        wheels.pack(files, file)
        data = storage.read(str(file))
    return ProgramBundle(digest=gateway.store(data), bytes=len(data))
