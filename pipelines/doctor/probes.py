"""What only pods can tell of a cluster: small ones are started as this user, watched to their end, and removed.

They tell whether the endpoint's namespace reaches the blob store, and whether NetworkPolicies are enforced. No account of
runs needs a right for it.
"""

import base64
import contextlib
import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from components import images
from fededge.delivery.api_server import ApiServer
from fededge.delivery.endpoints.pod import STORAGE_SECRET
from fededge.delivery.endpoints.rollout import is_ready, last_words, pod_troubles
from fededge.delivery.readiness import Finding
from fededge.errors import KubeflowError
from fededge.task import FederatedTask
from fededge.task.steps import StepSettings
from pipelines.doctor.cluster import asked
from pipelines.federated_training.steps import CONFIGURATION, settings_of_cluster
from pipelines.federated_training.worker_pods import template_of
from pipelines.kubeflow import namespace
from pipelines.pods import STEP_LABEL

POLL, PATIENCE, LONGEST = 1.0, 45.0, 300.0
"""Seconds between two looks, for what does not heal by itself, and until a pod is given up."""
PORT = 8080
POLICY = "fededge-steps"
"""The NetworkPolicy that keeps others away from the pods of steps."""
SMALL = {"cpu_request": "50m", "cpu_limit": "1", "memory_request": "256Mi", "memory_limit": "1Gi"}
Pod = dict[str, Any]


def look(server: ApiServer, task: FederatedTask) -> Iterator[Finding]:
    """What the pods found; only of the cluster that `server` is the API of."""
    if task.endpoint:
        where = task.endpoint.namespace
        yield asked(
            f"blob store from {where}",
            lambda: _store(server, where),
            f"correct the secret {where}/{STORAGE_SECRET}, or let its pods reach the store",
        )
    yield asked(
        "isolation of steps",
        lambda: _isolation(server, task),
        "install a network plugin that enforces NetworkPolicy (docs/guides/kubeflow.md)",
    )


def _store(server: ApiServer, where: str) -> str:
    """Let a pod with the endpoint's image, account and secret try the store."""
    found = server.get(f"/api/v1/namespaces/{namespace()}/secrets/{CONFIGURATION}") or {}
    root = base64.b64decode((found.get("data") or {}).get("FEDEDGE_STORAGE", "")).decode()
    if not root:
        raise KubeflowError(f"the secret {namespace()}/{CONFIGURATION} names no FEDEDGE_STORAGE.")
    pod = _pod(
        images.SERVING, _call("store"), {}, StepSettings.model_validate(SMALL), {"FEDEDGE_STORAGE": root}
    )
    pod["spec"]["containers"][0]["envFrom"] = [{"secretRef": {"name": STORAGE_SECRET, "optional": True}}]
    with _running(server, where, pod) as name:
        _watched(server, where, name, _succeeded)
    return f"{root} can be written and read"


def _isolation(server: ApiServer, task: FederatedTask) -> str:
    """Let a pod try to reach one that has the label of steps, and one that has not."""
    own = namespace()
    if server.get(f"/apis/networking.k8s.io/v1/namespaces/{own}/networkpolicies/{POLICY}") is None:
        raise KubeflowError(
            f"there is no NetworkPolicy {own}/{POLICY}: kubectl apply -k manifests/base/steps."
        )
    settings = settings_of_cluster(task, StepSettings.model_validate(SMALL))
    with contextlib.ExitStack() as pods:
        listeners = []
        for labels in ({}, {STEP_LABEL: "doctor"}):
            serving = ["python3", "-m", "http.server", str(PORT), "--directory", "/tmp"]
            listening = _pod(images.PLATFORM, serving, labels, settings)
            listening["spec"]["containers"][0]["readinessProbe"] = {
                "tcpSocket": {"port": PORT},
                "periodSeconds": 1,
            }
            listeners.append(pods.enter_context(_running(server, own, listening)))
        reached = [_watched(server, own, name, is_ready)["status"]["podIP"] for name in listeners]
        trying = _pod(images.PLATFORM, _call("isolation", *reached, str(PORT)), {}, settings)
        _watched(server, own, pods.enter_context(_running(server, own, trying)), _succeeded)
    return "a pod reaches others, and none that has the label of steps"


def _call(function: str, *arguments: str) -> list[str]:
    """The command that calls a function of fededge.delivery.readiness."""
    code = f"import sys; from fededge.delivery import readiness; readiness.{function}(*sys.argv[1:])"
    return ["python3", "-c", code, *arguments]


def _pod(
    image: str,
    command: list[str],
    labels: Mapping[str, str],
    settings: StepSettings,
    variables: Mapping[str, str] | None = None,
) -> Pod:
    template = template_of(settings, image, labels, variables or {}, {}, None)
    template["spec"]["containers"][0]["command"] = command
    template["spec"] |= {"restartPolicy": "Never", "activeDeadlineSeconds": int(LONGEST)}
    template["metadata"]["name"] = f"fededge-doctor-{secrets.token_hex(4)}"
    return {"apiVersion": "v1", "kind": "Pod", **template}


@contextlib.contextmanager
def _running(server: ApiServer, where: str, pod: Pod) -> Iterator[str]:
    """Name of `pod`, which is there while this lasts."""
    path, name = f"/api/v1/namespaces/{where}/pods", pod["metadata"]["name"]
    server.post(path, pod)
    try:
        yield name
    finally:
        server.delete(f"{path}/{name}")


def _watched(server: ApiServer, where: str, name: str, done: Callable[[Pod], bool]) -> Pod:
    """The pod, once it is `done`.

    Raises:
        KubeflowError: it failed, waits for what does not come, or takes too long; in its own words.
    """
    begun = time.monotonic()
    while True:
        pod = server.get(f"/api/v1/namespaces/{where}/pods/{name}")
        if pod is None:
            raise KubeflowError(f"pod {name} was removed while it ran.")
        if done(pod):
            return pod
        if pod.get("status", {}).get("phase") == "Failed":
            raise KubeflowError(_said(pod))
        waited = time.monotonic() - begun
        troubles = [words for _, words in pod_troubles(pod)]
        if waited > LONGEST or (troubles and waited > PATIENCE):
            raise KubeflowError(f"{(troubles or [f'pod {name} has not ended'])[0]}.")
        time.sleep(POLL)


def _succeeded(pod: Mapping[str, Any]) -> bool:
    return bool(pod.get("status", {}).get("phase") == "Succeeded")


def _said(pod: Mapping[str, Any]) -> str:
    """Why a pod failed."""
    for container in pod["status"].get("containerStatuses") or ():
        if message := (container.get("state", {}).get("terminated") or {}).get("message"):
            return last_words(message)
    return str(pod["status"].get("message") or pod["status"].get("reason") or "it failed and said nothing.")
