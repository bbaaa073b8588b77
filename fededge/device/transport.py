"""How a device reaches its release and hands in its report.

`BlobTransport` does it over the blob store. Whatever comes in is bounded in size and proven by the
agent, so another transport (a gateway's) needs to be trusted no more than this one.
"""

from typing import Protocol

from fededge import storage
from fededge.documents import DeviceReport, VariantFile, release_url, reports_url
from fededge.errors import StorageError
from fededge.signing import LIMIT


class Transport(Protocol):
    """A device's connection to its fleet; it is always the device that connects."""

    def fetch_release(self) -> bytes:
        """The envelope of the current release, unverified. Raises StorageError."""

    def fetch_model(self, variant: VariantFile) -> bytes:
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
        url = release_url(self._root, self._task)
        try:
            return storage.read(url, LIMIT)
        except StorageError as error:
            if isinstance(error.__cause__, FileNotFoundError):
                raise StorageError(
                    f"no release for task {self._task} at {url}. Run the task to publish one"
                ) from error
            raise

    def fetch_model(self, variant: VariantFile) -> bytes:
        """See Transport."""
        return storage.read(variant.url, variant.bytes)

    def report(self, report: DeviceReport) -> None:
        """See Transport."""
        report.write(storage.join(reports_url(self._root, self._task), f"{report.device}.json"))
