"""Whether what a run relies on is there, tried from where this process runs: tracking and the blob store."""

import secrets
import socket
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from fededge import settings, storage
from fededge.errors import FedEdgeError, KubeflowError, StorageError
from fededge.tracking.connection import connect, public_uri, translated
from fededge.tracking.run import experiment

EXPERIMENT = "fededge-doctor"
CONNECT = 5.0
"""Seconds for which a connection may take to come about."""
PROXIED = ("mlflow-artifacts:", "file:", "/")
"""How artifact URIs begin that a step reads and writes without credentials of its own."""


@dataclass(frozen=True)
class Finding:
    """What was looked at, what was found, and what to do about it; `remedy` is empty where all is well."""

    check: str
    found: str
    remedy: str = ""

    @property
    def good(self) -> bool:
        """Whether nothing is to be done."""
        return not self.remedy


def tried(check: str, action: Callable[[], str], remedy: str) -> Finding:
    """The finding of `action`, which tells what it found or raises FedEdgeError."""
    try:
        return Finding(check, action())
    except FedEdgeError as error:
        return Finding(check, str(error), remedy)


def inside() -> list[Finding]:
    """What a step needs from where it runs."""
    return [
        tried("MLflow", _tracking, "correct MLFLOW_TRACKING_URI (on Kubeflow in the secret fededge-config)"),
        tried(
            "blob store", store, "correct FEDEDGE_STORAGE, and the credentials in the secret fededge-storage"
        ),
    ]


def _tracking() -> str:
    """Make a run with an artifact in MLflow, read it back and delete the run."""
    with translated("use"), tempfile.TemporaryDirectory() as folder:
        client = connect()
        run = client.create_run(experiment(client, EXPERIMENT))
        try:
            client.log_text(run.info.run_id, "well", "doctor.txt")
            path = client.download_artifacts(run.info.run_id, "doctor.txt", folder)
            said = Path(path).read_text(encoding="utf-8")
        finally:
            client.delete_run(run.info.run_id)
    if said != "well":
        raise StorageError(f"MLflow at {public_uri()} gave {said!r} back for what was written")
    direct = "" if str(run.info.artifact_uri).startswith(PROXIED) else "; it does not proxy artifacts"
    return f"{public_uri()} answers, and keeps artifacts{direct}"


def isolation(open_host: str, closed_host: str, port: str) -> None:
    """Check that a connection to the first host's port comes about, and none to the second's.

    Raises:
        KubeflowError: otherwise.
    """
    if not _reached(open_host, port):
        raise KubeflowError("not known: pods do not reach each other at all.")
    if _reached(closed_host, port):
        raise KubeflowError(
            "a pod reaches one that has the label of steps: NetworkPolicies are not enforced."
        )


def _reached(host: str, port: str) -> bool:
    try:
        socket.create_connection((host, int(port)), timeout=CONNECT).close()
    except OSError:
        return False
    return True


def store() -> str:
    """Write, read and remove a blob.

    Raises:
        StorageError: the store does not serve that.
    """
    url, data = storage.join(settings.storage(), "doctor", secrets.token_hex(8)), secrets.token_bytes(16)
    storage.write(url, data)
    try:
        if storage.read(url, len(data)) != data:
            raise StorageError(f"{settings.storage()} gave other bytes back than were written")
    finally:
        storage.remove(url)
    return f"{settings.storage()} can be written and read"
