"""Documents between the fleet's coordinator and its devices: releases and device reports.

Devices stay in the field for years, so reports and releases of every earlier version are read.

A release is signed: it lies at `<storage>/releases/<task>.json` as an envelope of `fededge.signing`.
Releases of one task are ordered by the time they were issued: the publisher never issues one that is not
later than the last, and a device refuses one that is earlier than what it runs. So an old release cannot
be played back, while going back to an older model version is simply a new release.
"""

from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

from pydantic import Field

from fededge import storage
from fededge.documents.base import ACCURACY, Digest, Document, NotNegative, renamed, signed
from fededge.documents.delivery import VariantFile
from fededge.errors import DocumentError, IntegrityError, ReleaseError, StorageError

if TYPE_CHECKING:
    from fededge.signing import TrustedKey

ERROR_LIMIT = 500
DEVICE_ID = r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$"
Text = Annotated[str, Field(min_length=1, max_length=2000)]


def check_model(variant: VariantFile, model: bytes) -> None:
    """Check that `model` is the file that was released as `variant`.

    Raises:
        IntegrityError: it has another size or other bytes.
    """
    found = storage.digest(model)
    if found != variant.digest or len(model) != variant.bytes:
        raise IntegrityError(
            f"the model from {variant.url} has {len(model):,} bytes and digest {found} where {variant.bytes:,} "
            f"and {variant.digest} were released: it was changed or damaged. Publish it again from a trusted run"
        )


class Release(Document):
    """What the devices of a task run.

    Attributes:
        task: its name.
        version: of the registered model.
        issued: seconds since the epoch.
        devices: device class to variant.
        shape: of one example, without the batch dimension.
        classes: length of the model's output for one example.
        state_digest: digest of the trained state that the variants were built from.
        round: number of its last round.
    """

    KIND: ClassVar = "release"
    VERSION: ClassVar = 2
    REMEDY: ClassVar = "Release again (`fededge run`)"

    task: Text
    version: int = Field(ge=1, lt=10**12)
    issued: NotNegative
    devices: dict[str, VariantFile]
    shape: list[Annotated[int, Field(ge=1)]] = Field(max_length=8)
    classes: int = Field(ge=1)
    state_digest: Digest
    round: int = Field(ge=0)

    @classmethod
    def upgraded(cls, content: dict[str, Any], version: int) -> dict[str, Any]:
        """Version 1 had the variants of device classes in `classes`, and called the length `classes_count`."""
        named = {"classes": "devices", "classes_count": "classes"}
        return {named.get(name, name): value for name, value in content.items()}

    @classmethod
    def opened(cls, envelope: bytes, trusted: "TrustedKey", task: str) -> Self:
        """The release in `envelope`, once it is proven to be signed by `trusted` and for `task`.

        Raises:
            IntegrityError: not signed by the trusted key, or changed since.
            ReleaseError: signed, but no release of this task, or one of a newer format.
        """
        release = signed(cls, envelope, trusted)
        if release.task != task:
            raise ReleaseError(
                f"this release is for task {release.task!r}, not {task!r}. Check where it is fetched from"
            )
        return release

    def variant_for(self, device_class: str) -> VariantFile:
        """The variant that devices of `device_class` run.

        Raises:
            ReleaseError: the release holds none for this class.
        """
        if device_class not in self.devices:
            raise ReleaseError(
                f"release {self.version} of {self.task} has nothing for device class {device_class!r} "
                f"(it has {sorted(self.devices)}): add the class to the task's devices and release again"
            )
        return self.devices[device_class]


def release_url(root: str, task: str) -> str:
    """URL of the current release of `task` under the storage `root`."""
    return storage.join(root, "releases", f"{task}.json")


class DeviceReport(Document):
    """What a device says about itself.

    Attributes:
        status: `failed` when its last attempt to follow the release failed; what it goes on running
            (if anything) is still in `version`, `kind` and `digest`.
        score: on the device's own samples, in `metric`; None where it has none.
        latency_ms: median time for one example, in milliseconds.
        at: when, in seconds since the epoch.
    """

    KIND: ClassVar = "device-report"
    VERSION: ClassVar = 2
    LIMIT: ClassVar = 1 << 14
    REMEDY: ClassVar = "Update the device's agent"
    UNVERSIONED: ClassVar = True

    device: Annotated[str, Field(pattern=DEVICE_ID)]
    device_class: Annotated[str, Field(alias="class", min_length=1, max_length=64)]
    version: Annotated[int, Field(ge=1)] | None
    kind: Annotated[str, Field(max_length=40)] | None
    digest: Digest | None
    status: Literal["running", "failed"]
    error: Annotated[str, Field(max_length=ERROR_LIMIT)] | None
    metric: Annotated[str, Field(max_length=200)] = ACCURACY
    score: float | None
    latency_ms: NotNegative | None
    at: NotNegative

    @classmethod
    def upgraded(cls, content: dict[str, Any], version: int) -> dict[str, Any]:
        """Until version 1 the score was an accuracy."""
        return super().upgraded(renamed(content, {"accuracy": "score"}), version)

    def to_report(self) -> dict[str, Any]:
        """The report as plain values, by the names that it has in JSON."""
        return self.model_dump(by_alias=True)


class DeviceReports(Document):
    """What the devices of a run reported: the last report of each."""

    KIND: ClassVar = "device-reports"
    VERSION: ClassVar = 2
    BARE_LIST: ClassVar = "devices"

    devices: list[DeviceReport]

    @classmethod
    def upgraded(cls, content: dict[str, Any], version: int) -> dict[str, Any]:
        """Reports in it are of version 1, too."""
        return {"devices": [DeviceReport.upgraded(report, version) for report in content["devices"]]}


def reports_url(root: str, task: str) -> str:
    """URL of the folder with the last report of each device of `task` under the storage `root`."""
    return storage.join(root, "fleet", task, "devices")


def read_reports(root: str, task: str) -> tuple[list[DeviceReport], dict[str, str]]:
    """The last report of each device of `task`, sorted by device id; and why, by file, others are left out.

    One that is too large, malformed or under another device's name is left out: it must not hide the others.

    Raises:
        StorageError: the folder cannot be listed.
    """
    reports, refused = [], {}
    folder = reports_url(root, task)
    for name in storage.names(folder):
        if name.startswith(".") or not name.endswith(".json"):
            continue
        try:
            report = DeviceReport.read(storage.join(folder, name))
        except (StorageError, DocumentError) as error:
            refused[name] = str(error)
            continue
        if name == f"{report.device}.json":
            reports.append(report)
        else:
            refused[name] = f"it says that it is from {report.device}"
    return sorted(reports, key=lambda report: report.device), refused
