"""What each step of a pipeline needs on a cluster: labels, resources, retries, secrets and caching.

Resources and everything else that clusters differ in can be changed by a task's `operation.steps` and by the
file that FEDEDGE_CLUSTER_FILE names (docs/guides/kubeflow.md).
"""

import contextlib
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from pathlib import Path
from typing import Any, NamedTuple

from kfp import dsl, kubernetes
from pydantic import ValidationError

from components import images
from fededge import settings
from fededge.errors import TaskError, shown
from fededge.task import FederatedTask, load_cluster_settings
from fededge.task.steps import DEFAULT, StepSettings, settings_of
from pipelines.federated_training import patience, worker_pods
from pipelines.federated_training.placement import place, variables
from pipelines.pods import RUN_LABEL

CONFIGURATION = "fededge-config"
"""Secret that every step needs, with these keys:"""
CONFIGURATION_KEYS = ("MLFLOW_TRACKING_URI", "FEDEDGE_STORAGE")

CREDENTIALS = {
    "fededge-tracking": (
        "MLFLOW_TRACKING_USERNAME",
        "MLFLOW_TRACKING_PASSWORD",
        "MLFLOW_TRACKING_TOKEN",
        "MLFLOW_TRACKING_INSECURE_TLS",
    ),
    "fededge-storage": (
        "AWS_ACCESS_KEY_ID",
        "AWS_SECRET_ACCESS_KEY",
        "AWS_SESSION_TOKEN",
        "AWS_DEFAULT_REGION",
        "AWS_ENDPOINT_URL",
        "FSSPEC_GS",
        "AZURE_STORAGE_ACCOUNT_NAME",
        "AZURE_STORAGE_CONNECTION_STRING",
    ),
}
"""Secrets that steps get where they exist, and the keys that are read from each; none of them is required."""

SIGNING_KEY = "fededge-signing-key"
"""Secret with release.pem, mounted into release_variants, and for a fleet into the steps that sign orders."""
CHECKPOINT_KEY = "fededge-checkpoint-key"
"""Secret with checkpoint.key (at least 32 random bytes), mounted into run_rounds alone."""
FLEET = "fededge-fleet"
"""Secret with FEDEDGE_GATEWAY and token, for the steps that ask a fleet's gateway."""
FUNCTIONS = "fededge-functions"
"""Secret with token, for the steps whose clients are functions."""
SECRETS = "/var/run/secrets"
RELEASE_KEY = "fededge-release-key"
"""ConfigMap with release.pub.pem, by which the steps of a task with code of its own prove that code."""
PUBLIC = "/var/run/config/fededge"
CODE_KEY = {"FEDEDGE_SIGNING_KEY_FILE": f"{PUBLIC}/release.pem"}
"""The public key lies beside the file that is named."""

RESOURCES = {
    images.PLATFORM: StepSettings(
        cpu_request="100m", cpu_limit="1", memory_request="512Mi", memory_limit="2Gi"
    ),
    images.WORKER: StepSettings(cpu_request="1", cpu_limit="4", memory_request="2Gi", memory_limit="8Gi"),
    images.SERVING: StepSettings(
        cpu_request="500m", cpu_limit="2", memory_request="512Mi", memory_limit="2Gi"
    ),
}
"""Of a step by its image, where nothing else is said."""
WORKERS = "workers"
"""Name by which settings tell of the pods that a step with workers starts."""
WORKERS_RESOURCES = StepSettings(cpu_request="1", cpu_limit="2", memory_request="1Gi", memory_limit="4Gi")
"""A replica trains in one thread."""
RUN = dsl.PIPELINE_JOB_ID_PLACEHOLDER
RETRIES = 2
COMPONENTS = Path(images.__file__).parent


class _Given(NamedTuple):
    """What all steps of the pipeline that is being compiled have in common."""

    labels: Mapping[str, str]
    layers: tuple[Mapping[str, StepSettings], ...]
    patience: Mapping[str, str]
    on_cluster: bool = False
    code: bool = False
    reused: FederatedTask | None = None


_given: ContextVar[_Given] = ContextVar("_given")


@contextlib.contextmanager
def settings_for(task: FederatedTask, on_cluster: bool, cache: bool) -> Iterator[None]:
    """Let each `step` in the block have the settings of the cluster file and of `task`, if it is `on_cluster`.

    Args:
        task: that is compiled.
        on_cluster: whether steps run on one.
        cache: whether a cluster may take an earlier run's results for those of `depending`.

    Raises:
        TaskError: the cluster file is wrong, or one of the two names a step that there is not.
    """
    file = settings.cluster_file() if on_cluster else None
    layers = {"operation.steps": task.operation.steps}
    if file is not None:
        layers = {f"{shown(str(file), 500)}: steps": load_cluster_settings(file).steps, **layers}
    known = {folder.parent.name.replace("_", "-") for folder in COMPONENTS.glob("*/*/component.py")} | {
        WORKERS
    }
    for where, layer in layers.items():
        if unknown := sorted(set(layer) - known - {DEFAULT}):
            raise TaskError(
                f"{where}.{unknown[0]}: there is no such step: name {DEFAULT} or one of {', '.join(sorted(known))}"
            )
    labels = {"app.kubernetes.io/part-of": "fededge", "fededge.io/task": task.name}
    given = _Given(labels, (), {})
    if on_cluster:
        waits = patience.variables(task.operation.retry_seconds)
        reused = task.reusable if cache else None
        given = _Given(labels, tuple(layers.values()), waits, on_cluster, bool(task.code), reused)
    before = _given.set(given)
    try:
        yield
    finally:
        _given.reset(before)


def depending(task: Any, image: str) -> dict[str, Any]:
    """The inputs `task` and `run` of a step whose results depend on the task and its image alone.

    A cluster may reuse them in later runs: then the step is given nothing that differs from run to run. Kubeflow keys
    its cache by a step's image, command and parameters, and not by what its artifacts hold, so that no other step may
    be reused; and an image that is not named by its digest may be another by then.

    Args:
        task: parameter of the pipeline.
        image: that the step runs in.
    """
    reused = _given.get().reused
    if reused is None or "@sha256:" not in image:
        return {"task": task, "run": RUN}
    return {"task": reused.to_json(), "run": ""}


def step(task: dsl.PipelineTask, image: str, *, name: str = "", resumed: bool = True) -> dsl.PipelineTask:
    """`task` with what it needs on a cluster; to be called in a block of `settings_for`.

    Args:
        task: a component's.
        image: that the component runs in.
        name: shown in the UI, where it is not the component's.
        resumed: whether a run on this machine that is repeated goes on after it. On a cluster only a step without the
            run's id takes results out of Kubeflow's cache; see `depending`.

    Raises:
        TaskError: the settings of this step do not fit together.
    """
    component = task.component_spec.name
    wanted = _settings(component, RESOURCES[image])
    reused = task.inputs.get("run") == ""
    task.set_caching_options(reused if _given.get().on_cluster else resumed)
    if reused:
        kubernetes.use_field_path_as_env(task, "FEDEDGE_RUN", f"metadata.labels['{RUN_LABEL}']")
    if name:
        task.set_display_name(name)
    task.set_retry(RETRIES, backoff_duration="10s", backoff_factor=2.0, backoff_max_duration="120s")
    said = variables(wanted)
    _read_secret(task, CONFIGURATION, CONFIGURATION_KEYS, said, optional=False)
    for secret, keys in CREDENTIALS.items():
        _read_secret(task, secret, keys, said, optional=True)
    for variable, value in _given.get().patience.items():
        if variable not in said:
            task.set_env_variable(variable, value)
    if _given.get().code and image == images.WORKER:
        for variable, value in CODE_KEY.items():
            task.set_env_variable(variable, value)
        kubernetes.use_config_map_as_volume(task, RELEASE_KEY, PUBLIC)
    place(task, wanted)
    for label, value in {**_given.get().labels, "fededge.io/step": component}.items():
        kubernetes.add_pod_label(task, label, value)
    return task


def mount(task: dsl.PipelineTask, secret: str, file: str, variable: str) -> None:
    """Mount `secret` into `task` alone, and name its `file` there in an environment variable."""
    task.set_env_variable(variable, f"{SECRETS}/{secret}/{file}")
    kubernetes.use_secret_as_volume(task, secret, f"{SECRETS}/{secret}")


def reach_fleet(task: dsl.PipelineTask) -> None:
    """Let `task` ask the gateway of a fleet."""
    mount(task, FLEET, "token", "FEDEDGE_GATEWAY_TOKEN_FILE")
    kubernetes.use_secret_as_env(task, FLEET, {"FEDEDGE_GATEWAY": "FEDEDGE_GATEWAY"})


def start_workers(task: dsl.PipelineTask) -> None:
    """Let `task` start pods of the worker image on its cluster, with what the settings say for WORKERS."""
    given = _given.get()
    if not given.on_cluster:
        return
    template = worker_pods.template_of(
        _settings(WORKERS, WORKERS_RESOURCES),
        images.WORKER,
        {**given.labels, "fededge.io/step": WORKERS},
        {**given.patience, **(CODE_KEY if given.code else {})},
        {
            CONFIGURATION: (CONFIGURATION_KEYS, False),
            **{name: (keys, True) for name, keys in CREDENTIALS.items()},
        },
        (RELEASE_KEY, PUBLIC) if given.code else None,
    )
    worker_pods.tell(task, template)


def settings_of_cluster(task: FederatedTask, first: StepSettings) -> StepSettings:
    """What every step gets by the cluster file and `task`, and where they say nothing, `first`.

    Raises:
        TaskError: the two do not fit together.
    """
    with settings_for(task, on_cluster=True, cache=False):
        return _settings(DEFAULT, first)


def _settings(component: str, own: StepSettings) -> StepSettings:
    try:
        return settings_of(component, own, *_given.get().layers)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise TaskError(
            f"operation.steps.{component}, with the cluster's defaults: {shown(first['msg'], 400)}"
        ) from error


def _read_secret(
    task: dsl.PipelineTask, secret: str, keys: tuple[str, ...], said: Mapping[str, str], *, optional: bool
) -> None:
    """Let `task` have `keys` of `secret` by their names, but for those that its settings say otherwise."""
    names = {key: key for key in keys if key not in said}
    if names:
        kubernetes.use_secret_as_env(task, secret, names, optional=optional)
