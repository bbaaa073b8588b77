"""An endpoint on a cluster, asked through the cluster's ingress: what FEDEDGE_CLUSTER_FILE says under `ingress`."""

from fededge import settings
from fededge.delivery.endpoints.prediction import Way
from fededge.errors import EndpointError, StorageError
from fededge.storage import read
from fededge.task import load_cluster_settings

TOKEN_LIMIT = 64 << 10


def way_to(namespace: str, name: str) -> tuple[str, Way] | None:
    """URL of an endpoint behind the ingress, and how to ask there; None where no ingress is named.

    Args:
        namespace: of the endpoint.
        name: of the endpoint.

    Raises:
        TaskError: the cluster file is wrong.
        EndpointError: the token cannot be read.
    """
    file = settings.cluster_file()
    ingress = load_cluster_settings(file).ingress if file else None
    if file is None or ingress is None:
        return None
    headers = {}
    if ingress.host:
        headers["Host"] = ingress.host.format(name=name, namespace=namespace)
    if ingress.token_file:
        try:
            token = read(str(file.parent / ingress.token_file), TOKEN_LIMIT).decode().strip()
        except (StorageError, UnicodeDecodeError) as error:
            raise EndpointError(f"{file}: ingress.token_file: {error}") from error
        headers["Authorization"] = f"Bearer {token}"
    certificates = str(file.parent / ingress.ca_file) if ingress.ca_file else None
    return ingress.url.format(name=name, namespace=namespace), Way(headers, certificates)
