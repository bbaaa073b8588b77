"""What a cluster has of what a task's pipeline needs, asked from outside: quick, and nothing is changed."""

import sys
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

from kubernetes.utils.quantity import parse_quantity

from fededge.delivery.api_server import ApiServer, Refused
from fededge.delivery.endpoints.pod import STORAGE_SECRET
from fededge.delivery.endpoints.seldon import GROUP, PLURAL, VERSION
from fededge.delivery.readiness import Finding, tried
from fededge.errors import KubeflowError
from fededge.learning.runtimes import training_job
from fededge.task import FederatedTask
from pipelines.doctor.needs import Needs, WorkerNeeds
from pipelines.kubeflow import namespace

ACCOUNT = {True: "default-editor", False: "pipeline-runner"}
"""Service account of the runs' pods, in a profile of a multi-user installation and elsewhere."""
VERBS = ("get", "create", "patch")


def look(server: ApiServer, task: FederatedTask, needs: Needs, multi_user: bool) -> Iterator[Finding]:
    """What `server`'s cluster has.

    Args:
        server: its API.
        task: what is to be run.
        needs: of its pipeline.
        multi_user: whether runs are in profiles.
    """
    own = namespace()
    account = f"system:serviceaccount:{own}:{ACCOUNT[multi_user]}"
    yield asked(f"namespace {own}", lambda: _namespace(server, own), f"kubectl create namespace {own}")
    for name, keys in sorted(needs.secrets.items()):
        yield asked(
            f"secret {own}/{name}",
            partial(_secret, server, own, name, keys),
            f"kubectl -n {own} create secret generic {name} (docs/guides/kubeflow.md)",
        )
    if task.endpoint:
        where = task.endpoint.namespace
        yield asked(
            "Seldon Core", lambda: _seldon(server), "install Seldon Core 1.18 (docs/guides/kubeflow.md)"
        )
        yield asked(
            f"secret {where}/{STORAGE_SECRET}",
            lambda: _secret(server, where, STORAGE_SECRET, frozenset()),
            "create it there too where the blob store asks for credentials: the model server reads the model itself",
        )
        yield asked(
            f"rights of {account} in {where}",
            lambda: _rights(server, account, where, GROUP, PLURAL, VERBS),
            f"kubectl apply -n {where} -k manifests/base/endpoints",
        )
    workers = needs.workers
    if workers:
        kind = training_job.kind_for(task.model.framework)
        yield asked(
            "Training Operator",
            lambda: _training_operator(server, kind),
            "install Kubeflow's Training Operator 1.9 (docs/guides/kubeflow.md), or remove learning.workers",
        )
        yield asked(
            f"rights of {account} to start workers",
            lambda: _rights(server, account, own, training_job.GROUP, kind.plural, training_job.VERBS),
            f"kubectl apply -n {own} -k manifests/base/workers",
        )
        yield asked(
            "room for the workers",
            lambda: _room_for_workers(server, workers),
            "add nodes, or lower learning.workers.replicas or operation.steps.workers",
        )
    yield asked(
        "room for the largest step",
        lambda: _room(server, needs),
        "add a node, or lower operation.steps (docs/guides/kubeflow.md)",
    )


def asked(check: str, action: Callable[[], str], remedy: str) -> Finding:
    """As `tried`; what this user may not ask is no fault of the cluster's, and said."""

    def looked() -> str:
        try:
            return action()
        except Refused:
            return "not known: this user may not look"

    return tried(check, looked, remedy)


def _namespace(server: ApiServer, name: str) -> str:
    if server.get(f"/api/v1/namespaces/{name}") is None:
        raise KubeflowError("there is no such namespace.")
    return "is there"


def _secret(server: ApiServer, where: str, name: str, keys: frozenset[str]) -> str:
    found = server.get(f"/api/v1/namespaces/{where}/secrets/{name}")
    if found is None:
        raise KubeflowError("is missing.")
    lacking = sorted(keys - set(found.get("data") or {}))
    if lacking:
        raise KubeflowError(f"lacks {', '.join(lacking)}.")
    return f"is there, with {', '.join(sorted(keys))}" if keys else "is there"


def _seldon(server: ApiServer) -> str:
    kinds = server.get(f"/apis/{GROUP}/{VERSION}") or {}
    if PLURAL not in {each["name"] for each in kinds.get("resources", ())}:
        raise KubeflowError("the cluster does not know SeldonDeployments.")
    hooks = server.get("/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations") or {}
    for hook in hooks.get("items", ()):
        for each in hook.get("webhooks", ()):
            service = each.get("clientConfig", {}).get("service")
            if "seldon" in hook["metadata"]["name"] and service:
                _answering(server, service)
                return f"knows SeldonDeployments; its webhook {service['name']} has a ready pod"
    return "knows SeldonDeployments; it has no webhook"


def _answering(server: ApiServer, service: Mapping[str, Any]) -> None:
    path = f"/api/v1/namespaces/{service['namespace']}/endpoints/{service['name']}"
    found = server.get(path) or {}
    if not any(subset.get("addresses") for subset in found.get("subsets") or ()):
        raise KubeflowError(
            f"no ready pod is behind its webhook {service['namespace']}/{service['name']}: it refuses everything."
        )


def _training_operator(server: ApiServer, kind: training_job.Kind) -> str:
    known = server.get(f"/apis/{training_job.GROUP}/{training_job.VERSION}") or {}
    if kind.plural not in {each["name"] for each in known.get("resources", ())}:
        raise KubeflowError(f"the cluster does not know {kind.kind}s.")
    return f"knows {kind.kind}s"


def _rights(
    server: ApiServer, account: str, where: str, group: str, plural: str, verbs: tuple[str, ...]
) -> str:
    for verb in verbs:
        attributes = {"namespace": where, "group": group, "resource": plural, "verb": verb}
        review = server.post(
            "/apis/authorization.k8s.io/v1/subjectaccessreviews",
            {
                "apiVersion": "authorization.k8s.io/v1",
                "kind": "SubjectAccessReview",
                "spec": {"user": account, "resourceAttributes": attributes},
            },
        )
        if not review.get("status", {}).get("allowed"):
            raise KubeflowError(f"it may not {verb} {plural}.")
    return f"it may {', '.join(verbs)} {plural}"


def _free(server: ApiServer) -> dict[str, tuple[float, ...]]:
    """Free cores and bytes of memory by node: what each offers without what its pods ask for."""
    nodes = (server.get("/api/v1/nodes") or {}).get("items", [])
    pods = (
        server.get("/api/v1/pods", fieldSelector="status.phase!=Succeeded,status.phase!=Failed") or {}
    ).get("items", [])
    free = {}
    for node in nodes:
        if node.get("spec", {}).get("unschedulable"):
            continue
        name, offered = node["metadata"]["name"], node["status"]["allocatable"]
        mine = [pod for pod in pods if pod["spec"].get("nodeName") == name]
        free[name] = tuple(
            float(parse_quantity(offered[what]) - sum(_requests(pod, what) for pod in mine))
            for what in ("cpu", "memory")
        )
    return free


def _room(server: ApiServer, needs: Needs) -> str:
    free = _free(server)
    asked = f"{needs.cpu:g} CPU and {needs.memory / 2**30:.1f} GiB"
    for name, (cpu, memory) in free.items():
        if cpu >= needs.cpu and memory >= needs.memory:
            return f"{asked}: node {name} has {cpu:.1f} CPU and {memory / 2**30:.1f} GiB free"
    best = ", ".join(f"{n} has {c:.1f} CPU and {m / 2**30:.1f} GiB free" for n, (c, m) in free.items())
    raise KubeflowError(f"it asks for {asked}, and no node has that: {best or 'there are no nodes'}.")


def _room_for_workers(server: ApiServer, workers: WorkerNeeds) -> str:
    fitting = sum(
        max(0, min(_times(cpu, workers.cpu), _times(memory, workers.memory), workers.replicas))
        for cpu, memory in _free(server).values()
    )
    asked = f"{workers.replicas} pods of {workers.cpu:g} CPU and {workers.memory / 2**30:.1f} GiB"
    if fitting < workers.replicas:
        raise KubeflowError(f"they ask for {asked}, of which {fitting} fit now.")
    return f"{asked} fit now"


def _times(free: float, asked: float) -> int:
    return int(free // asked) if asked else sys.maxsize


def _requests(pod: Mapping[str, Any], what: str) -> Any:
    return sum(
        parse_quantity(container.get("resources", {}).get("requests", {}).get(what, 0))
        for container in pod["spec"].get("containers", ())
    )
