"""How far a version has come on a cluster, by its Deployment and pods and in their own words.

Seldon's state of a SeldonDeployment says Available while the old version still answers, and flickers during
an update. What Kubernetes itself knows decides instead: the Deployment's template is the one that was asked
for, its controller has seen it, and all its pods are new and available.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fededge.delivery.endpoints.seldon import VERSION_LABEL

OURS = re.compile(r"^fededge\.errors\.\w+: (.*)", re.MULTILINE)
GO_BACK = "correct that and deploy again, or go back: `fededge rollback MODEL --why TEXT --on kubeflow`"
IMAGE = "push that image, or correct its name or its pull secret"
REMEDIES = {
    "ErrImagePull": IMAGE,
    "ImagePullBackOff": IMAGE,
    "InvalidImageName": IMAGE,
    "ErrImageNeverPull": IMAGE,
    "CreateContainerConfigError": "create the secret or key that is missing in that namespace",
    "CreateContainerError": GO_BACK,
    "RunContainerError": GO_BACK,
    "CrashLoopBackOff": GO_BACK,
    "Unschedulable": "lower endpoint.resources, or add a node that has room",
    "ReplicaFailure": "raise the namespace's quota, or lower endpoint.resources",
    "ProgressDeadlineExceeded": GO_BACK,
    "Failed": "see `kubectl describe sdep` and the log of Seldon's operator",
}
"""What does not heal by itself, and what to do about it."""


@dataclass(frozen=True)
class Progress:
    """How far a predictor has come.

    Attributes:
        done: its version has taken over.
        words: what it waits for.
        trouble: a key of REMEDIES where that does not heal by itself.
        answering: versions whose pods are ready, without the new one.
    """

    done: bool
    words: str
    trouble: str | None = None
    answering: tuple[str, ...] = ()


def progress(
    predictor: Mapping[str, Any], deployment: Mapping[str, Any] | None, pods: Sequence[Mapping[str, Any]]
) -> Progress:
    """How far `predictor` has come.

    Args:
        predictor: as it was applied.
        deployment: of that predictor, as it stands; None where there is none yet.
        pods: all pods of that Deployment, old and new.
    """
    labels = predictor.get("labels") or {}
    if deployment is None:
        return Progress(False, "Seldon has not made its Deployment yet")
    alive = [pod for pod in pods if not pod["metadata"].get("deletionTimestamp")]
    new = [pod for pod in alive if _has(pod["metadata"], labels)]
    answering = tuple(
        sorted(
            {
                pod["metadata"]["labels"].get(VERSION_LABEL, "unknown")
                for pod in alive
                if pod not in new and is_ready(pod)
            }
        )
    )
    spec, status = deployment["spec"], deployment.get("status") or {}
    if not _has(spec["template"]["metadata"], labels):
        return Progress(False, "Seldon has not updated its Deployment yet", answering=answering)
    if status.get("observedGeneration", 0) < deployment["metadata"]["generation"]:
        return Progress(False, "Kubernetes has not seen its new Deployment yet", answering=answering)
    wanted = spec.get("replicas", 1)
    counts = {name: status.get(f"{name}Replicas", 0) for name in ("updated", "available")}
    if {wanted, status.get("replicas", 0), *counts.values()} == {wanted}:
        return Progress(True, f"{wanted} of {wanted} pods available", answering=answering)
    for trouble, words in _troubles(deployment, new):
        return Progress(False, words, trouble, answering)
    starting = [words for pod in new if (words := _starting(pod))]
    words = f"{len(new) - len(starting)} of {wanted} new pods ready"
    return Progress(False, "; ".join([words, *starting[:1]]), answering=answering)


def is_ready(pod: Mapping[str, Any]) -> bool:
    """Whether a pod answers and is not about to end."""
    ends = pod["metadata"].get("deletionTimestamp")
    return not ends and _condition(pod, "Ready").get("status") == "True"


def last_words(log: str) -> str:
    """The line of a log that says why its process ended: our own error, else the last line."""
    ours = OURS.findall(log)
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    return ours[-1] if ours else (lines or ["it said nothing"])[-1]


def _troubles(deployment: Mapping[str, Any], pods: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, str]]:
    """What does not heal by itself, and its words: the pods' own first."""
    for pod in pods:
        yield from pod_troubles(pod)
    for kind, bad, trouble in (
        ("ReplicaFailure", "True", "ReplicaFailure"),
        ("Progressing", "False", "ProgressDeadlineExceeded"),
    ):
        condition = _condition(deployment, kind)
        if condition.get("status") == bad:
            yield trouble, f"{condition.get('reason', kind)}: {_line(condition.get('message'))}"


def pod_troubles(pod: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """What in a pod does not heal by itself: a key of REMEDIES, and the pod's own words."""
    name = pod["metadata"]["name"]
    scheduled = _condition(pod, "PodScheduled")
    if scheduled.get("reason") == "Unschedulable":
        yield "Unschedulable", f"pod {name} is Unschedulable: {_line(scheduled.get('message'))}"
    status = pod.get("status") or {}
    for container in [
        *(status.get("initContainerStatuses") or ()),
        *(status.get("containerStatuses") or ()),
    ]:
        yield from _container_troubles(name, container)


def _container_troubles(pod: str, container: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    where = f"container {container['name']} of pod {pod}"
    state = container.get("state") or {}
    waiting = state.get("waiting") or {}
    reason = waiting.get("reason")
    ended = state.get("terminated") or (container.get("lastState") or {}).get("terminated") or {}
    if ended.get("exitCode") and not container.get("ready"):
        said = f": {_line(last_words(ended['message']))}" if ended.get("message") else ""
        times = container.get("restartCount", 0)
        yield (
            "CrashLoopBackOff",
            f"{where} ended with exit code {ended['exitCode']} ({ended.get('reason')}), restarted {times} times{said}",
        )
    elif reason in REMEDIES:
        yield reason, f"{where}: {reason}: {_line(waiting.get('message'))}"


def _starting(pod: Mapping[str, Any]) -> str:
    """What a pod that is under way waits for."""
    containers = (pod.get("status") or {}).get("containerStatuses") or ()
    waiting = [
        f"{each['name']} {((each.get('state') or {}).get('waiting') or {}).get('reason', 'not ready')}"
        for each in containers
        if not each.get("ready")
    ]
    return f"pod {pod['metadata']['name']}: {', '.join(waiting)}" if waiting else ""


def _condition(thing: Mapping[str, Any], kind: str) -> Mapping[str, Any]:
    conditions = (thing.get("status") or {}).get("conditions") or ()
    return next((each for each in conditions if each["type"] == kind), {})


def _has(metadata: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    return labels.items() <= (metadata.get("labels") or {}).items()


def _line(text: object) -> str:
    return " ".join(str(text or "no reason given").split())[:400]
