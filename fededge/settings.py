"""The few environment variables that FedEdge reads, each with its default."""

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path


def home() -> Path:
    """`FEDEDGE_HOME`: where a machine without a cluster keeps runs, blobs and tracking (./.fededge)."""
    return Path(os.environ.get("FEDEDGE_HOME", ".fededge")).resolve()


def storage() -> str:
    """`FEDEDGE_STORAGE`: root URL of the blob store for checkpoints, models and releases."""
    return os.environ.get("FEDEDGE_STORAGE") or f"file://{home() / 'storage'}"


def tracking_uri() -> str:
    """`MLFLOW_TRACKING_URI`: the MLflow server; by default a SQLite file in the home folder."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{home() / 'mlflow.db'}"


def platform() -> str:
    """`FEDEDGE_PLATFORM`: `kubernetes` (default) or `local`, which the local runner sets."""
    return os.environ.get("FEDEDGE_PLATFORM", "kubernetes")


def signing_key_file() -> Path:
    """`FEDEDGE_SIGNING_KEY_FILE`: PEM file of the Ed25519 key that signs releases."""
    return Path(os.environ.get("FEDEDGE_SIGNING_KEY_FILE") or home() / "keys" / "release.pem")


def endpoint_ports() -> str | None:
    """`FEDEDGE_ENDPOINT_PORTS`: REST, gRPC and metrics port of a local endpoint, as `9000,5000,6000`;
    by default three that are free."""
    return os.environ.get("FEDEDGE_ENDPOINT_PORTS") or None


def without_proxy(variables: Mapping[str, str]) -> dict[str, str]:
    """The variables that keep a proxy out of calls to this machine itself, beside what they exempt already."""
    exempt = variables.get("no_proxy") or variables.get("NO_PROXY") or ""
    names = ",".join(dict.fromkeys([*filter(None, exempt.split(",")), "127.0.0.1", "localhost"]))
    return {"no_proxy": names, "NO_PROXY": names}


def git_commit() -> str:
    """`FEDEDGE_GIT_COMMIT`: commit of this code, as images carry it; in a clone, what git says.

    A clone with uncommitted changes gives `<commit>-dirty`; without git it is `unknown`.
    """
    root = Path(__file__).resolve().parent.parent
    given = os.environ.get("FEDEDGE_GIT_COMMIT")
    if given or not (root / ".git").exists():
        return given or "unknown"
    command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
