"""What a compiled pipeline needs from a cluster: secrets, images and room for its largest step."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from kubernetes.utils.quantity import parse_quantity

from pipelines import compiled
from pipelines.federated_training import worker_pods


@dataclass(frozen=True)
class WorkerNeeds:
    """What the workers of a step ask for: how many pods, and cores and bytes of memory of each."""

    replicas: int
    cpu: float
    memory: float


@dataclass(frozen=True)
class Needs:
    """What a pipeline needs.

    Attributes:
        secrets: names of secrets that must be there, and the keys that they must hold; where a secret is mounted
            as files, its keys are not known.
        images: of its steps.
        cpu: most cores that a step asks for.
        memory: most bytes that a step asks for.
        workers: of a step that starts some; None where none does.
    """

    secrets: Mapping[str, frozenset[str]]
    images: list[str]
    cpu: float
    memory: float
    workers: WorkerNeeds | None = None


def needs_of(package: Path) -> Needs:
    """What the pipeline in the file `package` needs."""
    documents = list(yaml.safe_load_all(package.read_text(encoding="utf-8")))
    spec, platform = documents[0], documents[1] if len(documents) > 1 else {}
    executors = spec.get("deploymentSpec", {}).get("executors", {}).values()
    asked = [executor.get("container", {}).get("resources", {}) for executor in executors]
    return Needs(
        secrets=_secrets(platform),
        images=compiled.images(spec),
        cpu=max((each.get("cpuRequest", 0.0) for each in asked), default=0.0),
        memory=max((each.get("memoryRequest", 0.0) for each in asked), default=0.0) * 1e9,
        workers=_workers(spec),
    )


def _workers(spec: Mapping[str, Any]) -> WorkerNeeds | None:
    found = worker_pods.in_pipeline(spec)
    if found is None:
        return None
    (container,) = found.template["spec"]["containers"]
    asked = container.get("resources", {}).get("requests", {})
    return WorkerNeeds(
        found.replicas,
        float(parse_quantity(asked.get("cpu", 0))),
        float(parse_quantity(asked.get("memory", 0))),
    )


def _secrets(platform: Mapping[str, Any]) -> dict[str, frozenset[str]]:
    kubernetes = platform.get("platforms", {}).get("kubernetes", {})
    found: dict[str, frozenset[str]] = {}
    for executor in kubernetes.get("deploymentSpec", {}).get("executors", {}).values():
        for each in [*executor.get("secretAsEnv", ()), *executor.get("secretAsVolume", ())]:
            if not each.get("optional"):
                keys = frozenset(pair["secretKey"] for pair in each.get("keyToEnv", ()))
                found[each["secretName"]] = found.get(each["secretName"], frozenset()) | keys
    return found
