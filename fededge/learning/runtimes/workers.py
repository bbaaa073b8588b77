"""The workers of a task: a job on the cluster that a step runs in, or processes of this machine."""

import os
from collections.abc import Callable
from pathlib import Path

from fededge import settings, storage
from fededge.errors import KubeflowError
from fededge.learning.runtimes.jobs import JobClients
from fededge.learning.runtimes.pod_api import PodApi
from fededge.learning.runtimes.replica import ReplicaProgram
from fededge.learning.runtimes.replica_processes import ReplicaProcesses
from fededge.learning.runtimes.training_job import Owner, TrainingJob, job_name, kind_for
from fededge.task import FederatedTask

FOLDER = "/tmp/fededge-clients"
"""Where a replica on a cluster keeps the folders of its clients."""


def open_workers(
    task: FederatedTask,
    run: str,
    step: str,
    plan: Path,
    clients: Path,
    data: str,
    say: Callable[[str], None],
) -> JobClients | None:
    """The clients in the folder `clients`, spread over the task's workers; None where it has none.

    Args:
        task: what is learned.
        run: id of the pipeline run.
        step: name of this step in the run, of lower-case letters, digits and hyphens.
        plan: folder of the exported plan.
        clients: folder with one folder for each client.
        data: digest of that folder.
        say: told in lines how the workers stand.

    Raises:
        KubeflowError: this is a cluster, but no step of a pipeline that was compiled with workers.
    """
    workers, operation = task.learning.workers, task.operation
    if workers is None:
        return None
    root = storage.join(settings.storage(), "workers", f"{run}-{step}")
    deadline = max(operation.round_deadline_seconds, operation.evaluation_deadline_seconds)
    idle = deadline + operation.worker_timeout_seconds
    if settings.platform() == "local":
        count = min(workers.replicas, len(os.sched_getaffinity(0)))
        if count < workers.replicas:
            say(f"{count} of {workers.replicas} workers, one for each core of this machine")
        program = ReplicaProgram(root, count, str(clients.resolve()), idle)
        return JobClients(plan, clients, root, ReplicaProcesses(program), count, None, say)
    template, pod = settings.worker_pod(), settings.pod()
    if template is None or pod is None:
        raise KubeflowError(
            "this step was not told how the pods of workers are made (FEDEDGE_WORKER_POD, FEDEDGE_POD_NAME): compile "
            "the pipeline for this task again"
        )
    program = ReplicaProgram(root, workers.replicas, FOLDER, idle)
    job = TrainingJob(
        PodApi.own(operation.retry_seconds),
        kind_for(task.model.framework),
        job_name(run, step),
        template,
        Owner(*pod),
        program,
        say,
    )
    population = storage.join(settings.storage(), "populations", data.removeprefix("sha256:"))
    return JobClients(plan, clients, root, job, workers.replicas, population, say)
