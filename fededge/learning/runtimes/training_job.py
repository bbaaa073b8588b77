"""Replicas on a cluster: a TFJob or PyTorchJob of Kubeflow's Training Operator (v1), made by a step for its time.

The step's pod owns the job, so that it goes when the step's pod is removed; a step that ends removes it itself. Its
name follows from the run and the step: a step whose pod was lost finds it again, and owns it from then on. Only
workers are asked for, each with its index from the label that the operator gives it. They do not talk to each other.
"""

import hashlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from fededge.errors import KubeflowError
from fededge.learning.runtimes.pod_api import PodApi, Refused
from fededge.learning.runtimes.replica import ReplicaProgram

GROUP, VERSION = "kubeflow.org", "v1"
VERBS = ("get", "create", "delete", "patch")
SHARDS = "fededge.io/shards"
"""Annotation: what the replicas of a job run for."""
INDEX_LABEL = "training.kubeflow.org/replica-index"
INDEX = "FEDEDGE_REPLICA"
KEPT_SECONDS = 3600
"""For which the operator keeps a job that ended."""
LOOK_SECONDS = 5.0
"""Between looks at the job."""
GONE_SECONDS = 120.0
"""For which a job that is deleted may take to go."""


@dataclass(frozen=True)
class Kind:
    """A kind of job: its names, where its replicas stand, what their container must be called, and fields of its own."""

    kind: str
    plural: str
    replicas: str
    container: str
    fields: Mapping[str, Any]


# A replica that fails must not fail the others' job; without a cluster of all in each replica's environment.
TFJOB = Kind(
    "TFJob",
    "tfjobs",
    "tfReplicaSpecs",
    "tensorflow",
    {"successPolicy": "AllWorkers", "enableDynamicWorker": True},
)
PYTORCHJOB = Kind("PyTorchJob", "pytorchjobs", "pytorchReplicaSpecs", "pytorch", {})


def kind_for(framework: str) -> Kind:
    """The kind of job for a framework of the task."""
    return PYTORCHJOB if framework == "torch" else TFJOB


def job_name(run: str, step: str) -> str:
    """The job's name, which with an index of its replicas stays within the 63 letters of a service's."""
    return f"fededge-{step}-{hashlib.sha256(run.encode()).hexdigest()[:12]}"


@dataclass(frozen=True)
class Owner:
    """The pod of the step that owns a job."""

    name: str
    uid: str
    account: str

    @property
    def reference(self) -> dict[str, Any]:
        """As metadata say it."""
        return {"apiVersion": "v1", "kind": "Pod", "name": self.name, "uid": self.uid}


def manifest(
    kind: Kind,
    name: str,
    template: Mapping[str, Any],
    owner: Owner,
    program: ReplicaProgram,
    shards: str,
) -> dict[str, Any]:
    """The job.

    Args:
        kind: of the job.
        name: of the job.
        template: of its pods, with one container.
        owner: its owner, as whose account the replicas run.
        program: what they run.
        shards: digest of the document Shards that they run for.
    """
    (container,) = template["spec"]["containers"]
    index = {"name": INDEX, "valueFrom": {"fieldRef": {"fieldPath": f"metadata.labels['{INDEX_LABEL}']"}}}
    container = {
        **container,
        "name": kind.container,
        "command": ["python", *program.arguments(shards, f"$({INDEX})")],
        "env": [index, *container["env"]],
    }
    pod = {**template["spec"], "serviceAccountName": owner.account, "containers": [container]}
    return {
        "apiVersion": f"{GROUP}/{VERSION}",
        "kind": kind.kind,
        "metadata": {
            "name": name,
            "labels": dict(template["metadata"]["labels"]),
            "annotations": {SHARDS: shards},
            "ownerReferences": [owner.reference],
        },
        "spec": {
            "runPolicy": {"cleanPodPolicy": "All", "ttlSecondsAfterFinished": KEPT_SECONDS},
            kind.replicas: {
                "Worker": {
                    "replicas": program.replicas,
                    "restartPolicy": "OnFailure",
                    "template": {"metadata": template["metadata"], "spec": pod},
                }
            },
            **kind.fields,
        },
    }


class TrainingJob:
    """The replicas of `program` as a job; see `fededge.learning.runtimes.jobs.Replicas`.

    Args:
        api: of the cluster.
        kind: of the job.
        name: of the job.
        template: of its pods.
        owner: the pod of this step.
        program: what replicas run.
        say: told in a line when the job is made, found again, or stands otherwise than before.
    """

    def __init__(
        self,
        api: PodApi,
        kind: Kind,
        name: str,
        template: Mapping[str, Any],
        owner: Owner,
        program: ReplicaProgram,
        say: Callable[[str], None],
    ) -> None:
        self._api = api
        self._kind = kind
        self._name = name
        self._template = template
        self._owner = owner
        self._program = program
        self._say = say
        self._jobs = f"/apis/{GROUP}/{VERSION}/namespaces/{api.namespace}/{kind.plural}"
        self._job = f"{self._jobs}/{name}"
        self._shards = ""
        self._looked = 0.0
        self._state = ""
        self._failed = ""

    def start(self, shards: str) -> None:
        """See Replicas.

        Raises:
            KubeflowError: the cluster has no Training Operator, refuses, or does not answer.
        """
        self._shards = shards
        try:
            found = self._api.get(self._job)
            if found is not None and (_ended(found) or _shards(found) != shards):
                self._remove()
                found = None
            if found is None:
                self._make()
            elif self._owner.reference not in _owners(found):
                self._adopt()
        except Refused as error:
            raise KubeflowError(f"{error}. {_remedy(error.status)}") from error

    def lost(self) -> Mapping[int, str]:
        """See Replicas: all of them, where the job failed; one that was removed is made again."""
        if time.monotonic() - self._looked >= LOOK_SECONDS:
            self._look()
            self._looked = time.monotonic()
        return dict.fromkeys(range(self._program.replicas), self._failed) if self._failed else {}

    def state(self) -> str:
        """See Replicas."""
        return f"{self._kind.kind} {self._name} {self._state or 'is not known'}"

    def close(self) -> None:
        """Delete the job.

        Raises:
            KubeflowError: the cluster refuses, or does not answer.
        """
        try:
            self._api.delete(self._job)
        finally:
            self._api.close()

    def _look(self) -> None:
        try:
            found = self._api.get(self._job, patiently=False)
        except KubeflowError:
            return  # no news: replicas are heard by way of the store meanwhile
        if found is None or _type(found) == "Succeeded":
            self.start(self._shards)
            return
        if _type(found) == "Failed":
            self._failed = f"{self._kind.kind} {self._name} {_words(found, self._program.replicas)}"
        state = _words(found, self._program.replicas)
        if state != self._state:
            self._state = state
            self._say(self.state())

    def _make(self) -> None:
        body = manifest(self._kind, self._name, self._template, self._owner, self._program, self._shards)
        made = self._api.post(self._jobs, body)
        self._state = "is made" if made else "was made meanwhile"
        self._say(self.state())

    def _adopt(self) -> None:
        """Own the job of a step that was lost, or it would go when the pod of that step is removed."""
        self._api.merge(self._job, {"metadata": {"ownerReferences": [self._owner.reference]}})
        self._state = "is found again"
        self._say(self.state())

    def _remove(self) -> None:
        self._api.delete(self._job)
        end = time.monotonic() + GONE_SECONDS
        while self._api.get(self._job) is not None:
            if time.monotonic() > end:
                raise KubeflowError(
                    f"{self._job} was deleted, but is there after {GONE_SECONDS:g} s: see `kubectl describe` of it"
                )
            time.sleep(0.5)


def _remedy(status: int) -> str:
    if status == 404:
        return (
            "Install Kubeflow's Training Operator 1.9 (docs/guides/kubeflow.md), or remove learning.workers"
        )
    return "Give the run's service account the rights of manifests/base/workers (docs/guides/kubeflow.md)"


def _shards(job: Mapping[str, Any]) -> str | None:
    return (job["metadata"].get("annotations") or {}).get(SHARDS)


def _owners(job: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [
        {key: each.get(key) for key in ("apiVersion", "kind", "name", "uid")}
        for each in job["metadata"].get("ownerReferences", [])
    ]


def _ended(job: Mapping[str, Any]) -> bool:
    return "deletionTimestamp" in job["metadata"] or _type(job) in ("Succeeded", "Failed")


def _type(job: Mapping[str, Any]) -> str:
    """The condition that holds: Created, Running, Restarting, Suspended, Succeeded or Failed; empty for none."""
    return str(_condition(job).get("type", ""))


def _condition(job: Mapping[str, Any]) -> Mapping[str, Any]:
    holding = [each for each in job.get("status", {}).get("conditions") or () if each["status"] == "True"]
    return holding[-1] if holding else {}


def _words(job: Mapping[str, Any], replicas: int) -> str:
    condition = _condition(job)
    statuses = job.get("status", {}).get("replicaStatuses") or {}
    active = (statuses.get("Worker") or {}).get("active", 0)
    why = f": {condition.get('message')}" if condition.get("type") == "Failed" else ""
    return f"is {condition.get('type', 'made')}, {active} of {replicas} replicas active{why}"
