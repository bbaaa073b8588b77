"""Federated training, from data at the clients to a quantized model on devices, as one DAG.

    prepare_data -> initialize_model
      -> [ select_cohort -> run_rounds -> evaluate_model ] x ceil(rounds / rounds_per_step)
    where the task compares: prepare_data -> train_centralized
      -> gate_model
    for each variant: build_variant -> measure_variant
      -> register_model (candidate; champion if the gate passes)
      -> if it passes: deploy_endpoint -> check_endpoint -> release_variants
    whatever happens: write_report

Clients' examples go to run_rounds, evaluate_model and train_centralized alone.

Kubeflow Pipelines has no loop that carries state, so the chunks of rounds are unrolled when the
pipeline is compiled: it is compiled for one task, and its first step refuses any other. A model that fails
its gate ends the run in order; the report says why. Caching is per run, since every step is given the
run's id: it spares a repeated run its finished steps. Steps that touch the world outside their artifacts
are never cached.
"""

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kfp import dsl, kubernetes
from kfp.compiler import Compiler

from components import images
from components.delivery.build_variant.component import build_variant
from components.delivery.check_endpoint.component import check_endpoint
from components.delivery.deploy_endpoint.component import deploy_endpoint
from components.delivery.gate_model.component import gate_model
from components.delivery.measure_variant.component import measure_variant
from components.delivery.register_model.component import register_model
from components.delivery.write_report.component import write_report
from components.fleet.release_variants.component import release_variants
from components.fleet.select_cohort.component import select_cohort
from components.learning.evaluate_model.component import evaluate_model
from components.learning.initialize_model.component import initialize_model
from components.learning.prepare_data.component import prepare_data
from components.learning.run_rounds.component import run_rounds
from components.learning.train_centralized.component import train_centralized
from fededge import storage
from fededge.errors import StorageError, TaskError
from fededge.task import FederatedTask
from pipelines.cluster_runs import pipeline_name

LARGEST = 1_000_000
"""Bytes of a compiled pipeline; Argo keeps a workflow in one object of at most 1.5 MiB."""
RUN = dsl.PIPELINE_JOB_ID_PLACEHOLDER

CONFIGURATION = "fededge-config"
"""Secret with MLFLOW_TRACKING_URI and FEDEDGE_STORAGE; every step reads it."""
STORAGE_ACCESS = "fededge-storage"
"""Optional secret with the credentials of an S3-compatible FEDEDGE_STORAGE."""
SIGNING_KEY = "fededge-signing-key"
"""Secret with release.pem, mounted into release_variants alone."""
CHECKPOINT_KEY = "fededge-checkpoint-key"
"""Secret with checkpoint.key (at least 32 random bytes), mounted into run_rounds alone."""
SECRETS = "/var/run/secrets/fededge"
NOT_COMPARED = -1.0
"""What gate_model is given where nothing was trained centrally."""

# CPU request, CPU limit, memory request, memory limit of a step, by its image.
RESOURCES = {
    images.PLATFORM: ("100m", "1", "512Mi", "2Gi"),
    images.WORKER: ("1", "4", "2Gi", "8Gi"),
    images.SERVING: ("500m", "2", "512Mi", "2Gi"),
}
RETRIES = 2


def build(task: FederatedTask) -> Any:
    """The pipeline for `task`, as a kfp pipeline with the one parameter `task` (canonical JSON)."""

    spec = task

    @dsl.pipeline(
        name=pipeline_name(spec.name),
        description=f"Federated training of {spec.name}: rounds, gate, variants, endpoint, devices.",
    )
    def federated_training(task: str = spec.to_json()) -> None:
        exit_task = _step(write_report(task=task, run=RUN), images.PLATFORM, cached=False)
        with dsl.ExitHandler(exit_task=exit_task, name="train and deliver"):
            _train_and_deliver(spec, task)

    return federated_training


def compile_to(task: FederatedTask, path: str | Path) -> None:
    """Compile the pipeline for `task` to the YAML file `path`.

    Raises:
        TaskError: it has so many steps that a cluster would refuse it.
        StorageError: `path` cannot be written.
    """
    try:
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "pipeline.yaml"
            Compiler().compile(build(task), str(file))
            text = file.read_bytes()
    except OSError as error:
        raise StorageError(f"cannot write {path}: {error}. Free space, then run again") from error
    if len(text) > LARGEST:
        raise TaskError(
            f"the pipeline of {task.name} would be {len(text):,} bytes, more than the {LARGEST:,} that a "
            f"cluster takes: raise operation.rounds_per_step (now {task.operation.rounds_per_step}) "
            f"for its {task.learning.rounds} rounds"
        )
    storage.write(str(path), text)


def _train_and_deliver(spec: FederatedTask, task: Any) -> None:
    """Everything but the report."""
    prepared = _step(prepare_data(task=task, compiled=spec.to_json(), run=RUN), images.WORKER)
    population, data, test = (prepared.outputs[name] for name in ("population", "data", "test"))
    clients = {"population": population, "data": data, "test": test}
    initial = _step(initialize_model(task=task, run=RUN).after(prepared), images.WORKER)
    state, evaluations = _learn(spec, task, clients, initial.outputs["plan"], initial.outputs["state"])
    evaluated = evaluations[-1].outputs
    compared: Any = NOT_COMPARED
    if spec.compare.centralized:
        compared = _step(train_centralized(task=task, run=RUN, **clients), images.WORKER).outputs["Output"]
    gate = _step(
        gate_model(task=task, run=RUN, evaluation=evaluated["evaluation"], state=state, centralized=compared),
        images.PLATFORM,
    ).after(*evaluations)
    registered = _register(spec, task, test, state, evaluated, gate.outputs["decision"])
    if spec.endpoint or spec.devices:
        with dsl.If(registered.outputs["Output"] == "pass", name="passes the gate"):
            _deliver(spec, task, test, registered.outputs["version"])


def _learn(
    spec: FederatedTask, task: Any, clients: Mapping[str, Any], plan: Any, state: Any
) -> tuple[Any, list[dsl.PipelineTask]]:
    """All rounds from `state` on, in chunks; the last state, and the evaluation after each chunk."""
    evaluations = []
    chunk, total = spec.operation.rounds_per_step, spec.learning.rounds
    calibrated = any(variant.kind == "int8" for variant in spec.variants)
    for first in range(1, total + 1, chunk):
        last = min(first + chunk - 1, total)
        named = f"{first}" if first == last else f"{first} to {last}"
        selection = _step(
            select_cohort(task=task, run=RUN, population=clients["population"], state=state),
            images.PLATFORM,
            name=f"select cohorts {named}",
        ).outputs["selection"]
        rounds = _step(
            run_rounds(
                task=task, run=RUN, until=last, plan=plan, state=state, selection=selection, **clients
            ),
            images.WORKER,
            name=f"rounds {named}",
        )
        _mount(rounds, CHECKPOINT_KEY, "checkpoint.key", "FEDEDGE_CHECKPOINT_KEY_FILE")
        state = rounds.outputs["next_state"]
        evaluated = evaluate_model(
            task=task, run=RUN, calibrate=calibrated and last == total, plan=plan, state=state, **clients
        )
        evaluations.append(_step(evaluated, images.WORKER, name=f"evaluate round {last}"))
    return state, evaluations


def _register(
    spec: FederatedTask, task: Any, test: Any, state: Any, evaluated: Mapping[str, Any], decision: Any
) -> dsl.PipelineTask:
    """All variants, built and measured side by side, and the registration of the model version."""
    evaluation, ranges = evaluated["evaluation"], evaluated["ranges"]
    with dsl.ParallelFor([variant.kind for variant in spec.variants], name="variants") as kind:
        built = _step(build_variant(task=task, run=RUN, kind=kind, state=state, ranges=ranges), images.WORKER)
        measured = _step(
            measure_variant(
                task=task, run=RUN, variant=built.outputs["variant"], test=test, evaluation=evaluation
            ),
            images.SERVING,
        )
    return _step(
        register_model(
            task=task,
            run=RUN,
            state=state,
            evaluation=evaluation,
            decision=decision,
            variants=dsl.Collected(built.outputs["variant"]),
            measurements=dsl.Collected(measured.outputs["measurement"]),
        ),
        images.PLATFORM,
    )


def _deliver(spec: FederatedTask, task: Any, test: Any, version: Any) -> None:
    """Endpoint and release of the champion, after a model version passed its gate."""
    checked = None
    if spec.endpoint:
        deployed = _step(
            deploy_endpoint(task=task, run=RUN, image=images.SERVING, version=version),
            images.PLATFORM,
            cached=False,
        )
        version = deployed.outputs["served"]
        checked = _step(
            check_endpoint(
                task=task, run=RUN, endpoint=deployed.outputs["endpoint"], version=version, test=test
            ),
            images.SERVING,
            cached=False,
        )
    if spec.devices:
        released = _step(release_variants(task=task, run=RUN, version=version), images.PLATFORM, cached=False)
        _mount(released, SIGNING_KEY, "release.pem", "FEDEDGE_SIGNING_KEY_FILE")
        if checked is not None:
            released.after(checked)


def _mount(task: dsl.PipelineTask, secret: str, file: str, variable: str) -> None:
    """Mount `secret` into `task` alone, and name its `file` there in an environment variable."""
    task.set_env_variable(variable, f"{SECRETS}/{file}")
    kubernetes.use_secret_as_volume(task, secret, SECRETS)


def _step(task: dsl.PipelineTask, image: str, *, name: str = "", cached: bool = True) -> dsl.PipelineTask:
    """`task` with what it needs on a cluster: resources, retries, configuration and caching."""
    cpu_request, cpu_limit, memory_request, memory_limit = RESOURCES[image]
    task.set_cpu_request(cpu_request).set_cpu_limit(cpu_limit)
    task.set_memory_request(memory_request).set_memory_limit(memory_limit)
    task.set_caching_options(cached)
    if name:
        task.set_display_name(name)
    task.set_retry(RETRIES, backoff_duration="10s", backoff_factor=2.0, backoff_max_duration="120s")
    kubernetes.use_secret_as_env(task, CONFIGURATION, _same_names("MLFLOW_TRACKING_URI", "FEDEDGE_STORAGE"))
    kubernetes.use_secret_as_env(
        task,
        STORAGE_ACCESS,
        _same_names("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_ENDPOINT_URL"),
        optional=True,
    )
    return task


def _same_names(*names: str) -> dict[str, str]:
    return {name: name for name in names}
