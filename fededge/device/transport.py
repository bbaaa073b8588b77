"""How a device reaches its release and hands in its report.

`BlobTransport` does it over the blob store. Whatever comes in is bounded in size and proven by the
agent, so another transport (a gateway's) needs to be trusted no more than this one.
"""

import logging
from typing import Annotated, Any, Literal, Protocol

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from fededge import storage
from fededge.errors import StorageError
from fededge.fleet.release import Variant, address
from fededge.signing import LIMIT

REPORT_LIMIT = 1 << 14
ERROR_LIMIT = 500
DEVICE_ID = r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$"
log = logging.getLogger(__name__)


class DeviceReport(BaseModel):
    """What a device says about itself.

    Attributes:
        status: `failed` when its last attempt to follow the release failed; what it goes on running
            (if anything) is still in `version`, `kind` and `digest`.
        accuracy: on the device's own samples, in [0, 1]; None where it has none.
        latency_ms: median time for one example, in milliseconds.
        at: when, in seconds since the epoch.
    """

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)

    device: Annotated[str, Field(pattern=DEVICE_ID)]
    device_class: Annotated[str, Field(alias="class", min_length=1, max_length=64)]
    version: Annotated[int, Field(ge=1)] | None
    kind: Annotated[str, Field(max_length=40)] | None
    digest: Annotated[str, Field(pattern=r"^sha256:[0-9a-f]{64}$")] | None
    status: Literal["running", "failed"]
    error: Annotated[str, Field(max_length=ERROR_LIMIT)] | None
    accuracy: Annotated[float, Field(ge=0, le=1)] | None
    latency_ms: Annotated[float, Field(ge=0)] | None
    at: Annotated[float, Field(ge=0)]


class Transport(Protocol):
    """A device's connection to its fleet; it is always the device that connects."""

    def fetch_release(self) -> bytes:
        """The envelope of the current release, unverified. Raises StorageError."""

    def fetch_model(self, variant: Variant) -> bytes:
        """The model file of `variant`, at most `variant.bytes` long, unverified. Raises StorageError."""

    def report(self, report: DeviceReport) -> None:
        """Hand in a report. Raises StorageError."""


class BlobTransport:
    """Release, models and reports as blobs under one storage root."""

    def __init__(self, root: str, task: str) -> None:
        self._root = root
        self._task = task

    def fetch_release(self) -> bytes:
        """See Transport."""
        url = address(self._root, self._task)
        try:
            return storage.read(url, LIMIT)
        except StorageError as error:
            if isinstance(error.__cause__, FileNotFoundError):
                raise StorageError(
                    f"no release for task {self._task} at {url}. Run the task to publish one"
                ) from error
            raise

    def fetch_model(self, variant: Variant) -> bytes:
        """See Transport."""
        return storage.read(variant.url, variant.bytes)

    def report(self, report: DeviceReport) -> None:
        """See Transport."""
        url = storage.join(_folder(self._root, self._task), f"{report.device}.json")
        storage.write(url, report.model_dump_json(by_alias=True).encode())


def collect(root: str, task: str) -> list[dict[str, Any]]:
    """The last report of every device of `task`, sorted by device id.

    A report that is too large, malformed or under another device's name is left out and logged: one
    bad device must not hide the others.
    """
    reports = []
    folder = _folder(root, task)
    for name in storage.names(folder):
        if name.startswith(".") or not name.endswith(".json"):
            continue
        try:
            data = storage.read(storage.join(folder, name), REPORT_LIMIT)
            report = DeviceReport.model_validate_json(data)
        except (StorageError, ValidationError) as error:
            log.warning("ignoring the device report %s: %s", name, " ".join(str(error).split())[:ERROR_LIMIT])
            continue
        if name != f"{report.device}.json":
            log.warning("ignoring the device report %s: it says it is from %s", name, report.device)
            continue
        reports.append(report.model_dump(by_alias=True))
    return sorted(reports, key=lambda report: str(report["device"]))


def _folder(root: str, task: str) -> str:
    return storage.join(root, "fleet", task, "devices")
