"""What a compiled pipeline means for a cluster."""

from collections.abc import Iterator
from pathlib import Path

import yaml

from pipelines import compiled
from pipelines.federated_training import worker_pods
from pipelines.federated_training.pipeline import LARGEST

STEP_SECONDS = (12, 20)
"""What a step took of a cluster beside its work: driver, pod and launcher (Kubeflow Pipelines 2.17, one node)."""


def explain(package: Path) -> Iterator[tuple[str, str]]:
    """Steps, which of them later runs reuse, pods, workers, bytes and expected seconds of the compiled pipeline in the
    file `package`, as words.
    """
    spec = next(yaml.safe_load_all(package.read_text(encoding="utf-8")))
    steps, size = compiled.steps(spec), package.stat().st_size
    least, most = (seconds * steps for seconds in STEP_SECONDS)
    yield "steps", str(steps)
    yield "pods", str(compiled.pods(spec))
    yield "reused by later runs", ", ".join(compiled.reused(spec)) or "none"
    workers = worker_pods.in_pipeline(spec)
    if workers:
        yield "workers", f"{workers.replicas} more pods at a time in each of {workers.steps} steps"
    yield "bytes", f"{size:,} of at most {LARGEST:,}, which one object of Kubernetes holds"
    yield "time", f"{least} to {most} s on a cluster beside the work, where one step follows another"
