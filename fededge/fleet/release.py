"""Publishing releases: which variant each device class runs, signed (`fededge.documents.Release`)."""

import time

from fededge import storage
from fededge.documents import ModelVersion, Release, VariantFile, check_model, release_url
from fededge.errors import IntegrityError, ReleaseError, StorageError
from fededge.signing import LIMIT, SigningKey, TrustedKey


def build(version: ModelVersion) -> Release:
    """The release of a model version for the device classes that it was made for, issued now.

    Raises:
        ReleaseError: the version has no device classes, or no published variant for one.
    """
    if not version.devices:
        raise ReleaseError(
            f"version {version.version} of {version.name} was made for no device class: add devices to the task, "
            "and train it again"
        )
    devices = {}
    for name, kind in version.devices.items():
        variant = version.variant(kind)
        if variant is None:
            raise ReleaseError(
                f"no variant for device class {name}: version {version.version} gives it {kind!r} and "
                f"has {sorted(each.kind for each in version.variants)}. Widen the limits of the class or of its "
                "variants' gates"
            )
        devices[name] = VariantFile(
            kind=variant.kind, url=variant.url, digest=variant.digest, bytes=variant.bytes
        )
    return Release(
        task=version.name,
        version=version.version,
        issued=time.time(),
        devices=devices,
        shape=version.shape,
        classes=version.classes,
        state_digest=version.state_digest,
        round=version.round,
    )


def publish(root: str, release: Release, key: SigningKey) -> tuple[Release, bytes]:
    """Sign `release` and make it its task's release under the storage `root`, whole or not at all.

    Every model is read and checked first. Publishing what is already published changes nothing.

    Returns:
        The release as published, and its envelope.

    Raises:
        IntegrityError: a model has another digest or size than promised.
        StorageError: a model cannot be read, or the release not be written.
    """
    for variant in release.devices.values():
        check_model(variant, storage.read(variant.url, variant.bytes))
    url = release_url(root, release.task)
    previous = _published(url, key.public, release.task)
    if previous is not None:
        same = previous.model_copy(update={"issued": release.issued}) == release
        later = max(release.issued, previous.issued + 0.001)
        release = previous if same else release.model_copy(update={"issued": later})
    envelope = key.sign(release.to_content())
    storage.write(url, envelope)
    return release, envelope


def _published(url: str, trusted: TrustedKey, task: str) -> Release | None:
    """The release now at `url`; None where there is none that devices trusting this key accept."""
    try:
        return Release.opened(storage.read(url, LIMIT), trusted, task)
    except (IntegrityError, ReleaseError):
        return None
    except StorageError as error:
        if isinstance(error.__cause__, FileNotFoundError):
            return None
        raise
