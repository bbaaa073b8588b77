"""The connection to MLflow: a server by HTTP, a database, or the SQLite file of this machine.

A server that does not answer is named within seconds; MLflow itself would retry for minutes.
"""

import contextlib
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from filelock import FileLock

from fededge import settings
from fededge.errors import TrackingError

if TYPE_CHECKING:
    from mlflow import MlflowClient

QUIET = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false"}
HOST_REFUSED = "Invalid Host header"
"""What MLflow's server says where it is asked by a name that it was not told."""
ALLOW_HOST = "Start that server with this name in --allowed-hosts, as manifests/base/mlflow does"
PROBE = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1", "MLFLOW_HTTP_REQUEST_TIMEOUT": "4"}


def connect() -> "MlflowClient":
    """A client for the tracking URI, after a first request that was answered.

    Raises:
        TrackingError: nobody answers there, or the URI is not one that MLflow knows.
    """
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    try:
        urlsplit(settings.tracking_uri())
    except ValueError as error:
        raise TrackingError(
            f"MLFLOW_TRACKING_URI {public_uri()} is not a URL: {error}. Correct it, or unset it for a SQLite "
            "file on this machine"
        ) from error
    with translated("connect to"):
        from mlflow import MlflowClient

        logging.getLogger("mlflow.store.db.utils").setLevel(logging.WARNING)
        with _with_few_retries():
            client = MlflowClient(tracking_uri=settings.tracking_uri(), registry_uri=settings.tracking_uri())
            client.search_experiments(max_results=1)
    return client


@contextlib.contextmanager
def translated(action: str) -> Iterator[None]:
    """Turn what MLflow, its transports and its database raise into a one-line TrackingError."""
    from mlflow.exceptions import MlflowException
    from requests import RequestException
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except (MlflowException, RequestException, SQLAlchemyError, ImportError, OSError) as error:
        reason = _reason(error)
        remedy = ALLOW_HOST if HOST_REFUSED in reason else _remedy()
        raise TrackingError(f"cannot {action} MLflow at {public_uri()}: {reason}. {remedy}") from error


@contextlib.contextmanager
def exclusive() -> Iterator[None]:
    """Let one thread of this machine at a time set up or change a SQLite store; a server needs no lock.

    It may be nested.

    Raises:
        TrackingError: the store's folder cannot be written.
    """
    database = sqlite_file()
    if database is None:
        yield
        return
    with contextlib.ExitStack() as stack:
        try:
            database.parent.mkdir(parents=True, exist_ok=True)
            stack.enter_context(FileLock(f"{database}.lock", is_singleton=True))
        except OSError as error:
            raise TrackingError(
                f"cannot write the MLflow store {database}: {error}. Free space, fix permissions or set "
                "FEDEDGE_HOME to a folder that can be written"
            ) from error
        yield


def sqlite_file() -> Path | None:
    """The database file where the store is SQLite, else None."""
    scheme, _, path = settings.tracking_uri().partition(":///")
    return Path(unquote(path.partition("?")[0])) if scheme.split("+")[0] == "sqlite" else None


def is_missing() -> bool:
    """Whether the store is a SQLite file that nobody made yet: then nothing was tracked, and to ask would make it."""
    database = sqlite_file()
    return database is not None and not database.exists()


def public_uri() -> str:
    """The tracking URI without a user name or password."""
    scheme, separator, rest = settings.tracking_uri().partition("://")
    place, slash, path = rest.partition("/")
    return f"{scheme}{separator}{place.rpartition('@')[2]}{slash}{path}"


def _remedy() -> str:
    database = sqlite_file()
    if database is None:
        return "Start that server, or correct or unset MLFLOW_TRACKING_URI (unset: a SQLite file on this machine)"
    return (
        f"Free space or fix permissions; if {database} is damaged, put a copy in its place or move it away, and "
        "an empty one is made"
    )


def _reason(error: BaseException) -> str:
    from requests import ConnectionError, Timeout

    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ConnectionError | Timeout):
            return "nobody answers there"
        cause = cause.__cause__ or cause.__context__
    said = getattr(error, "orig", None) or error  # the database's own words, without the statement
    return " ".join(str(said).split()).replace(settings.tracking_uri(), public_uri())[:300]


@contextlib.contextmanager
def _with_few_retries() -> Iterator[None]:
    """Few retries and a short deadline, for as long as this lasts; what the user has set stays."""
    added = {name: value for name, value in PROBE.items() if name not in os.environ}
    os.environ.update(added)
    try:
        yield
    finally:
        for name in added:
            os.environ.pop(name, None)
