"""The pods of a run on Kubeflow: what they wait for, in their own words, and their logs."""

from collections.abc import Iterator
from typing import Any

from fededge.delivery.api_server import ApiServer
from fededge.delivery.endpoints.rollout import pod_troubles
from fededge.errors import RunError
from pipelines.kubeflow import namespace

RUN_LABEL = "pipeline/runid"
"""Set by Kubeflow Pipelines on each pod of a run."""
STEP_LABEL = "fededge.io/step"
CONTAINER = "main"
LINES = 10_000


class Pods:
    """The pods of runs in this namespace.

    Raises:
        KubeflowError: no cluster is configured.
    """

    def __init__(self) -> None:
        self._server = ApiServer()
        self._path = f"/api/v1/namespaces/{namespace()}/pods"

    def waiting(self, run: str) -> list[str]:
        """What pods of the run wait for that does not come by itself.

        Raises:
            KubeflowError: the cluster cannot be asked.
        """
        return [words for pod in self._of(run) for _, words in pod_troubles(pod)]

    def logs(self, run: str, step: str = "") -> Iterator[tuple[str, str]]:
        """Name and log of each step of the run whose pod is still there, as they were started.

        Args:
            run: its id.
            step: only of this step.

        Raises:
            RunError: no pod of it is there.
            KubeflowError: the cluster cannot be asked.
        """
        labeled = [
            (pod["metadata"]["labels"][STEP_LABEL], pod["metadata"]["name"])
            for pod in self._of(run)
            if STEP_LABEL in pod["metadata"]["labels"]
        ]
        wanted = [(name, pod) for name, pod in labeled if step in ("", name)]
        if not wanted:
            there = ", ".join(sorted({name for name, _ in labeled})) or "none"
            raise RunError(
                f"run {run} has no pod of {f'step {step}' if step else 'a step'} any more: its steps with pods are "
                f"{there}. The page of the run has logs that Kubeflow kept"
            )
        for name, pod in wanted:
            log = self._server.text(f"{self._path}/{pod}/log", container=CONTAINER, tailLines=str(LINES))
            yield name, log or ""

    def _of(self, run: str) -> list[dict[str, Any]]:
        found = self._server.get(self._path, labelSelector=f"{RUN_LABEL}={run}") or {}
        return sorted(found.get("items", ()), key=lambda pod: str(pod["metadata"].get("creationTimestamp")))
