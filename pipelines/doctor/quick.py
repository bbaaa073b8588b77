"""The quick part of a look at Kubeflow: from this machine, in seconds, changing nothing on the cluster."""

import tempfile
from pathlib import Path

from fededge.delivery.api_server import ApiServer
from fededge.delivery.readiness import Finding
from fededge.errors import FedEdgeError
from fededge.task import FederatedTask
from pipelines.doctor import cluster
from pipelines.doctor.needs import needs_of
from pipelines.federated_training.pipeline import compile_to
from pipelines.kubeflow import Kubeflow


def look(task: FederatedTask) -> list[Finding]:
    """What is there of what `task` needs on Kubeflow.

    Raises:
        TaskError: the task cannot be compiled.
    """
    with tempfile.TemporaryDirectory() as folder:
        package = Path(folder) / "pipeline.yaml"
        compile_to(task, package)
        needs = needs_of(package)
    found, multi_user = [], False
    try:
        kubeflow = Kubeflow()
        multi_user = kubeflow.multi_user
        kind = "multi-user" if multi_user else "single-user"
        version = kubeflow.version or "it does not tell its version"
        found.append(Finding("Kubeflow Pipelines", f"{kubeflow.host} answers; {version}; {kind}"))
    except FedEdgeError as error:
        found.append(Finding("Kubeflow Pipelines", str(error), "set KF_PIPELINES_ENDPOINT"))
    try:
        found += cluster.look(ApiServer(), task, needs, multi_user)
    except FedEdgeError as error:
        found.append(Finding("Kubernetes", str(error), "set KUBECONFIG to look at secrets, rights and room"))
    return found


def missing(task: FederatedTask, package: Path, multi_user: bool) -> list[Finding]:
    """What the cluster of KUBECONFIG lacks for the compiled `package` of `task`; nothing where none is configured."""
    try:
        found = list(cluster.look(ApiServer(), task, needs_of(package), multi_user))
    except FedEdgeError:
        return []
    return [finding for finding in found if not finding.good]
