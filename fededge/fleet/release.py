"""The release manifest: which variant each device class runs, signed.

It lies at `<storage>/releases/<task>.json` as an envelope of `fededge.signing`. Manifests of
one task are ordered by the time they were issued: the publisher never issues one that is not later
than the last, and a device refuses one that is earlier than what it runs. So an old manifest cannot
be played back, while going back to an older model version is simply a new manifest.
"""

import time
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from fededge import storage
from fededge.errors import IntegrityError, ReleaseError, StorageError
from fededge.signing import LIMIT, SigningKey, TrustedKey
from fededge.task import FederatedTask

MODEL_LIMIT = 256 << 20
Digest = Annotated[str, Field(pattern=r"^sha256:[0-9a-f]{64}$")]
Text = Annotated[str, Field(min_length=1, max_length=2000)]


class Variant(BaseModel):
    """One model file that devices download."""

    model_config = ConfigDict(strict=True, frozen=True)

    kind: Annotated[str, Field(min_length=1, max_length=40)]
    url: Text
    digest: Digest
    bytes: int = Field(ge=1, le=MODEL_LIMIT)


class Manifest(BaseModel):
    """What the devices of a task run.

    Attributes:
        format: guards against another kind of document signed by the same key.
        version: of the registered model.
        issued: seconds since the epoch.
        classes: device class -> variant.
        shape: of one example, without the batch dimension.
        classes_count: length of the model's output for one example.
        state_digest: digest of the trained state that the variants were built from.
        round: number of its last round.
    """

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)

    format: Literal["fededge-release-1"] = "fededge-release-1"
    task: Text
    version: int = Field(ge=1, lt=10**12)
    issued: float = Field(ge=0)
    classes: dict[str, Variant]
    shape: list[Annotated[int, Field(ge=1)]] = Field(max_length=8)
    classes_count: int = Field(ge=1)
    state_digest: Digest
    round: int = Field(ge=0)

    def variant_for(self, device_class: str) -> Variant:
        """The variant that devices of `device_class` run.

        Raises:
            ReleaseError: the release holds none for this class.
        """
        if device_class not in self.classes:
            raise ReleaseError(
                f"release {self.version} of {self.task} has nothing for device class {device_class!r} "
                f"(it has {sorted(self.classes)}): add the class to the task's devices and release again"
            )
        return self.classes[device_class]


class _Version(BaseModel):
    """The part of the model-version document that a release needs."""

    version: int = Field(ge=1)
    state_digest: Digest
    round: int = Field(ge=0)
    shape: list[int]
    classes: int
    variants: list[Variant]
    devices: dict[str, str]


def build(task: FederatedTask, document: bytes) -> Manifest:
    """The manifest of the model version that the JSON `document` describes, issued now.

    Raises:
        ReleaseError: the document is malformed, or names no published variant for a device class.
    """
    try:
        version = _Version.model_validate_json(document)
    except ValidationError as error:
        raise ReleaseError(
            f"malformed model version document: {_first(error)}. Register the model again"
        ) from error
    variants = {variant.kind: variant for variant in version.variants}
    classes = {}
    for device in task.devices:
        kind = version.devices.get(device.name)
        if kind not in variants:
            raise ReleaseError(
                f"no variant for device class {device.name}: version {version.version} gives it {kind!r} and "
                f"has {sorted(variants)}. Widen the limits of the class or of its variants' gates"
            )
        classes[device.name] = variants[kind]
    return Manifest(
        task=task.name,
        version=version.version,
        issued=time.time(),
        classes=classes,
        shape=version.shape,
        classes_count=version.classes,
        state_digest=version.state_digest,
        round=version.round,
    )


def publish(root: str, manifest: Manifest, key: SigningKey) -> tuple[Manifest, bytes]:
    """Sign `manifest` and make it the task's release under the storage `root`, whole or not at all.

    Every model is read and checked first. Publishing what is already published changes nothing.

    Returns:
        The manifest as published, and its envelope.

    Raises:
        IntegrityError: a model has another digest than promised.
        StorageError: a model cannot be read, or the manifest not be written.
    """
    for variant in manifest.classes.values():
        storage.read_verified(variant.url, variant.digest, variant.bytes)
    url = address(root, manifest.task)
    previous = _published(url, key.public, manifest.task)
    if previous is not None:
        same = previous.model_copy(update={"issued": manifest.issued}) == manifest
        later = max(manifest.issued, previous.issued + 0.001)
        manifest = previous if same else manifest.model_copy(update={"issued": later})
    envelope = key.sign(manifest.model_dump(mode="json"))
    storage.write(url, envelope)
    return manifest, envelope


def address(root: str, task: str) -> str:
    """URL of the current release of `task` under the storage `root`."""
    return storage.join(root, "releases", f"{task}.json")


def open_envelope(data: bytes, trusted: TrustedKey, task: str) -> Manifest:
    """The manifest in the envelope `data`, once it is proven to be signed by `trusted` and for `task`.

    Raises:
        IntegrityError: not signed by the trusted key, or changed since.
        ReleaseError: signed, but no release manifest of this task.
    """
    payload = trusted.verify(data)
    try:
        manifest = Manifest.model_validate(payload)
    except ValidationError as error:
        raise ReleaseError(f"signed, but no release manifest: {_first(error)}. Release again") from error
    if manifest.task != task:
        raise ReleaseError(
            f"this release is for task {manifest.task!r}, not {task!r}. Check where it is fetched from"
        )
    return manifest


def check_model(variant: Variant, model: bytes) -> None:
    """Check that `model` is the file that was released as `variant`.

    Raises:
        IntegrityError: it is not.
    """
    found = storage.digest(model)
    if found != variant.digest:
        raise IntegrityError(
            f"the model from {variant.url} has digest {found} where {variant.digest} was released: "
            "it was changed or damaged. Publish it again from a trusted run"
        )


def _published(url: str, trusted: TrustedKey, task: str) -> Manifest | None:
    """The release now at `url`; None where there is none that devices trusting this key accept."""
    try:
        return open_envelope(storage.read(url, LIMIT), trusted, task)
    except (IntegrityError, ReleaseError):
        return None
    except StorageError as error:
        if isinstance(error.__cause__, FileNotFoundError):
            return None
        raise


def _first(error: ValidationError) -> str:
    mistake = error.errors(include_url=False, include_input=False)[0]
    return f"{'.'.join(map(str, mistake['loc'])) or 'document'}: {mistake['msg']}"
