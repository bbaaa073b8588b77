"""The few environment variables that FedEdge reads, each with its default."""

import getpass
import json
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from fededge.errors import GatewayError, KubeflowError, StorageError


def home() -> Path:
    """`FEDEDGE_HOME`: where a machine without a cluster keeps runs, blobs and tracking (./.fededge).

    Raises:
        StorageError: its path is not UTF-8, which no URL or JSON can carry.
    """
    folder = Path(os.environ.get("FEDEDGE_HOME") or ".fededge").resolve()
    try:
        str(folder).encode()
    except UnicodeEncodeError as error:
        raise StorageError(f"FEDEDGE_HOME {folder!r} is not UTF-8: name a folder that is") from error
    return folder


def storage(folder: Path | None = None) -> str:
    """`FEDEDGE_STORAGE`: root URL of the blob store for checkpoints, models and releases.

    Args:
        folder: absolute; takes the place of `home()`, here and in the functions below.
    """
    return os.environ.get("FEDEDGE_STORAGE") or ((folder or home()) / "storage").as_uri()


def store_retry_seconds() -> float:
    """For how long a store of Google's or Azure's is asked again that is away, beyond what its client does."""
    return float(os.environ.get("FEDEDGE_STORE_RETRY_SECONDS") or 0)


def tracking_uri(folder: Path | None = None) -> str:
    """`MLFLOW_TRACKING_URI`: the MLflow server; by default a SQLite file in the home folder."""
    return os.environ.get("MLFLOW_TRACKING_URI") or _sqlite((folder or home()) / "mlflow.db")


def _sqlite(file: Path) -> str:
    """URL of a SQLite file, percent-encoded for SQLAlchemy.

    Where that changes the path, the driver is named: for `sqlite:///` MLflow makes a folder of the encoded name.
    """
    quoted = quote(str(file))
    return f"{'sqlite' if quoted == str(file) else 'sqlite+pysqlite'}:///{quoted}"


def fleet_database(folder: Path | None = None) -> str:
    """`FEDEDGE_FLEET_DATABASE`: URL of the gateway's registry; by default a SQLite file in the home folder."""
    return os.environ.get("FEDEDGE_FLEET_DATABASE") or _sqlite((folder or home()) / "gateway" / "registry.db")


def run() -> str | None:
    """Id of the pipeline run (FEDEDGE_RUN) of a step that is not told it otherwise, so that its inputs are the same in
    each run.
    """
    return os.environ.get("FEDEDGE_RUN") or None


def gateway_url() -> str | None:
    """`FEDEDGE_GATEWAY_URL`: address under which a gateway is reached from outside; by default where it listens."""
    return os.environ.get("FEDEDGE_GATEWAY_URL") or None


def gateway_key_file() -> Path | None:
    """`FEDEDGE_GATEWAY_KEY_FILE`: file with the secret that signs the gateway's URLs; by default one in the home
    folder, made on first use."""
    name = os.environ.get("FEDEDGE_GATEWAY_KEY_FILE")
    return Path(name) if name else None


def gateway_redis() -> str | None:
    """`FEDEDGE_GATEWAY_REDIS`: URL of the Redis by which gateways wake each other; by default none."""
    return os.environ.get("FEDEDGE_GATEWAY_REDIS") or None


def lambda_endpoint() -> str:
    """`FEDEDGE_LAMBDA_ENDPOINT`: URL of the stage of the WebSocket API before a function of AWS Lambda.

    Raises:
        GatewayError: it is not set.
    """
    endpoint = os.environ.get("FEDEDGE_LAMBDA_ENDPOINT")
    if not endpoint:
        raise GatewayError(
            "FEDEDGE_LAMBDA_ENDPOINT is not set: deploy the template of docs/guides/functions.md"
        )
    return endpoint.rstrip("/")


def lambda_secret() -> str | None:
    """`FEDEDGE_LAMBDA_SECRET`: ARN of the secret in AWS Secrets Manager that holds the registry's URL; by default
    FEDEDGE_FLEET_DATABASE says it."""
    return os.environ.get("FEDEDGE_LAMBDA_SECRET") or None


def platform() -> str:
    """`FEDEDGE_PLATFORM`: `kubernetes` (default) or `local`, which the local runner sets."""
    return os.environ.get("FEDEDGE_PLATFORM", "kubernetes")


def user() -> str:
    """`FEDEDGE_USER`: who is named where a person decides something; by default the user of this process."""
    try:
        return os.environ.get("FEDEDGE_USER") or getpass.getuser()
    except (KeyError, OSError):  # a user id without a name, as in a container
        return f"user id {os.getuid()}"


def signing_key_file(folder: Path | None = None) -> Path:
    """`FEDEDGE_SIGNING_KEY_FILE`: PEM file of the Ed25519 key that signs releases."""
    return Path(os.environ.get("FEDEDGE_SIGNING_KEY_FILE") or (folder or home()) / "keys" / "release.pem")


def checkpoint_key_file() -> Path | None:
    """`FEDEDGE_CHECKPOINT_KEY_FILE`: file with the secret that keys of checkpoints are derived from; by default
    each run has a key file of its own in its folder."""
    name = os.environ.get("FEDEDGE_CHECKPOINT_KEY_FILE")
    return Path(name) if name else None


def cluster_file() -> Path | None:
    """`FEDEDGE_CLUSTER_FILE`: YAML file with what steps get on a cluster where a task says nothing else."""
    name = os.environ.get("FEDEDGE_CLUSTER_FILE")
    return Path(name) if name else None


def gateway() -> str | None:
    """`FEDEDGE_GATEWAY`: URL of the gateway that reaches the clients of a fleet."""
    return os.environ.get("FEDEDGE_GATEWAY") or None


def gateway_token_file() -> Path | None:
    """`FEDEDGE_GATEWAY_TOKEN_FILE`: file with the token by which the gateway knows who calls; read anew for each call."""
    name = os.environ.get("FEDEDGE_GATEWAY_TOKEN_FILE")
    return Path(name) if name else None


def gateway_ca_file() -> Path | None:
    """`FEDEDGE_GATEWAY_CA_FILE`: PEM file with the authorities of its certificate; by default the usual ones."""
    name = os.environ.get("FEDEDGE_GATEWAY_CA_FILE")
    return Path(name) if name else None


def functions_token_file() -> Path | None:
    """`FEDEDGE_FUNCTIONS_TOKEN_FILE`: file with the token that clients that are functions ask for."""
    name = os.environ.get("FEDEDGE_FUNCTIONS_TOKEN_FILE")
    return Path(name) if name else None


def worker_pod() -> dict[str, Any] | None:
    """`FEDEDGE_WORKER_POD`: template of the pods of a task's workers (JSON), which a compiled pipeline sets.

    Raises:
        KubeflowError: it is none.
    """
    text = os.environ.get("FEDEDGE_WORKER_POD")
    if not text:
        return None
    try:
        return dict(json.loads(text))
    except (ValueError, TypeError) as error:
        raise KubeflowError(
            f"FEDEDGE_WORKER_POD is no JSON object: {error}. Compile the pipeline again"
        ) from error


def pod() -> tuple[str, str, str] | None:
    """`FEDEDGE_POD_NAME`, `FEDEDGE_POD_UID`, `FEDEDGE_POD_ACCOUNT`: this step's pod and its service account, which a
    compiled pipeline lets Kubernetes tell."""
    name, uid = os.environ.get("FEDEDGE_POD_NAME"), os.environ.get("FEDEDGE_POD_UID")
    account = os.environ.get("FEDEDGE_POD_ACCOUNT")
    return (name, uid, account) if name and uid and account else None


def endpoint_host() -> str:
    """`FEDEDGE_ENDPOINT_HOST`: address that a model server listens on (127.0.0.1); in a pod 0.0.0.0."""
    return os.environ.get("FEDEDGE_ENDPOINT_HOST") or "127.0.0.1"


def endpoint_ports() -> str | None:
    """`FEDEDGE_ENDPOINT_PORTS`: REST, gRPC and metrics port of a local endpoint, as `9000,5000,6000`;
    by default three that are free."""
    return os.environ.get("FEDEDGE_ENDPOINT_PORTS") or None


def registry() -> str:
    """`FEDEDGE_REGISTRY`: container registry of the four images (ghcr.io/fededge)."""
    return os.environ.get("FEDEDGE_REGISTRY") or "ghcr.io/fededge"


def image_digests() -> Path | None:
    """`FEDEDGE_IMAGES`: file that names the images of a compiled pipeline by digest; by default their tags do."""
    name = os.environ.get("FEDEDGE_IMAGES")
    return Path(name) if name else None


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
