"""Federated training, from data at the clients to a quantized model on devices, as one DAG.

    prepare_data -> initialize_model, select_cohort
      -> [ run_rounds -> evaluate_model ] x ceil(rounds / rounds_per_step)
    where the task compares: prepare_data -> train_centralized, train_alone
      -> gate_model
      -> build_variants -> measure_variants
      -> register_model (candidate; champion if the gate passes)
      -> if it passes: deploy_endpoint -> check_endpoint -> release_variants
    whatever happens: write_report

Clients' examples go to run_rounds, evaluate_model, train_centralized and train_alone only. Those of a fleet go nowhere:
prepare_data, run_rounds and evaluate_model ask its gateway, and the last two sign what clients are asked to do;
release_variants hands releases to it.

Kubeflow Pipelines has no loop that carries state, so the chunks of rounds are unrolled when the
pipeline is compiled: it is compiled for one task, and its first step refuses any other. A model that fails
its gate ends the run in order; the report says why.

On a cluster, Kubeflow's cache is on for the steps whose results depend on the task alone: prepare_data, initialize_model,
train_centralized and train_alone, of a task whose examples stay what they are (steps.depending). A step that was reused
logs nothing: the step that reads its artifact tells MLflow. On this machine, a run that is repeated goes on after its
finished steps, but for those that touch the world outside their artifacts.
"""

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kfp import dsl
from kfp.compiler import Compiler

from components import images
from components.delivery.build_variants.component import build_variants
from components.delivery.check_endpoint.component import check_endpoint
from components.delivery.deploy_endpoint.component import deploy_endpoint
from components.delivery.gate_model.component import gate_model
from components.delivery.measure_variants.component import measure_variants
from components.delivery.register_model.component import register_model
from components.delivery.write_report.component import write_report
from components.fleet.release_variants.component import release_variants
from components.fleet.select_cohort.component import select_cohort
from components.learning.evaluate_model.component import evaluate_model
from components.learning.initialize_model.component import initialize_model
from components.learning.prepare_data.component import prepare_data
from components.learning.run_rounds.component import run_rounds
from components.learning.train_alone.component import train_alone
from components.learning.train_centralized.component import train_centralized
from fededge import storage
from fededge.delivery.gates import NOT_COMPARED
from fededge.errors import StorageError, TaskError
from fededge.task import FederatedTask
from pipelines.cluster_runs import pipeline_name
from pipelines.federated_training.steps import (
    CHECKPOINT_KEY,
    FUNCTIONS,
    RUN,
    SIGNING_KEY,
    depending,
    reach_fleet,
    settings_for,
    start_workers,
)
from pipelines.federated_training.steps import mount as _mount
from pipelines.federated_training.steps import step as _step

LARGEST = 1_000_000
"""Bytes of a compiled pipeline; Argo keeps a workflow in one object of at most 1.5 MiB."""


def build(task: FederatedTask, on_cluster: bool = True, cache: bool = True) -> Any:
    """The pipeline for `task`, as a kfp pipeline with the one parameter `task` (canonical JSON); see compile_to."""

    spec = task

    @dsl.pipeline(
        name=pipeline_name(spec.name),
        description=f"Federated training of {spec.name}: rounds, gate, variants, endpoint, devices.",
    )
    def federated_training(task: str = spec.to_json()) -> None:
        with settings_for(spec, on_cluster, cache):
            exit_task = _step(write_report(task=task, run=RUN), images.PLATFORM, resumed=False)
            with dsl.ExitHandler(exit_task=exit_task, name="train and deliver"):
                _train_and_deliver(spec, task)

    return federated_training


def compile_to(task: FederatedTask, path: str | Path, *, on_cluster: bool = True, cache: bool = True) -> None:
    """Compile the pipeline for `task` to the YAML file `path`.

    Args:
        task: whose rounds and deliveries the steps are.
        path: of the file.
        on_cluster: whether its steps get what the task and FEDEDGE_CLUSTER_FILE say for a cluster; a proxy or
            certificates there are none of this machine's.
        cache: whether a cluster may take results of an earlier run for steps that depend on the task alone.

    Raises:
        TaskError: it has so many steps that a cluster would refuse it, or settings of its steps are wrong.
        StorageError: `path` cannot be written.
    """
    try:
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "pipeline.yaml"
            Compiler().compile(build(task, on_cluster, cache), str(file))
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
    given = depending(task, images.WORKER)
    compiled = spec.to_json() if given["run"] else given["task"]
    prepared = _step(prepare_data(compiled=compiled, **given), images.WORKER)
    if not spec.simulated:
        reach_fleet(prepared)
    population, data, test = (prepared.outputs[name] for name in ("population", "data", "test"))
    clients = {"population": population, "data": data, "test": test}
    # What weights are named to start from may be others by then.
    first = {"task": task, "run": RUN} if spec.model.weights else given
    initial = _step(initialize_model(population=population, **first), images.WORKER)
    state, evaluations = _learn(spec, task, clients, initial.outputs["plan"], initial.outputs["state"])
    evaluated = evaluations[-1].outputs
    compared: dict[str, Any] = {"centralized": NOT_COMPARED}
    if spec.compare.centralized:
        centralized = _step(train_centralized(**given, **clients), images.WORKER).outputs
        compared |= {"centralized": centralized["Output"], "trained": centralized["centralized"]}
    if spec.compare.alone:
        compared["alone"] = _step(train_alone(**given, **clients), images.WORKER).outputs["alone"]
    gate = _step(
        gate_model(task=task, run=RUN, evaluation=evaluated["evaluation"], state=state, **compared),
        images.PLATFORM,
    ).after(*evaluations)
    registered = _register(spec, task, clients, state, evaluated, gate.outputs["decision"])
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
    selection = _step(
        select_cohort(task=task, compiled=spec.to_json(), run=RUN, population=clients["population"]),
        images.PLATFORM,
    ).outputs["selection"]
    for first in range(1, total + 1, chunk):
        last = min(first + chunk - 1, total)
        named = f"{first}" if first == last else f"{first} to {last}"
        rounds = _step(
            run_rounds(
                task=task, run=RUN, until=last, plan=plan, state=state, selection=selection, **clients
            ),
            images.WORKER,
            name=f"rounds {named}",
        )
        _mount(rounds, CHECKPOINT_KEY, "checkpoint.key", "FEDEDGE_CHECKPOINT_KEY_FILE")
        if not spec.simulated:
            _order_fleet(rounds)
        state = rounds.outputs["next_state"]
        evaluated = evaluate_model(
            task=task, run=RUN, calibrate=calibrated and last == total, plan=plan, state=state, **clients
        )
        evaluations.append(_step(evaluated, images.WORKER, name=f"evaluate round {last}"))
        if not spec.simulated:
            _order_fleet(evaluations[-1])
        if spec.learning.workers:
            for each in (rounds, evaluated):
                start_workers(each)
        if spec.learning.functions:
            for each in (rounds, evaluated):
                _mount(each, FUNCTIONS, "token", "FEDEDGE_FUNCTIONS_TOKEN_FILE")
    return state, evaluations


def _order_fleet(task: dsl.PipelineTask) -> None:
    """Let a step sign orders, and have a gateway's clients carry them out."""
    reach_fleet(task)
    _mount(task, SIGNING_KEY, "release.pem", "FEDEDGE_SIGNING_KEY_FILE")


def _register(
    spec: FederatedTask,
    task: Any,
    clients: Mapping[str, Any],
    state: Any,
    evaluated: Mapping[str, Any],
    decision: Any,
) -> dsl.PipelineTask:
    """All variants, built and measured, and the registration of the model version."""
    evaluation, ranges = evaluated["evaluation"], evaluated["ranges"]
    built = _step(
        build_variants(task=task, run=RUN, population=clients["population"], state=state, ranges=ranges),
        images.WORKER,
    ).outputs
    measured = _step(
        measure_variants(
            task=task, run=RUN, variants=built["variants"], test=clients["test"], evaluation=evaluation
        ),
        images.SERVING,
    ).output
    return _step(
        register_model(
            task=task,
            run=RUN,
            population=clients["population"],
            state=state,
            evaluation=evaluation,
            decision=decision,
            variants=built["variants"],
            measurements=measured,
            pyfunc=built["pyfunc"],
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
            resumed=False,
        )
        version = deployed.outputs["served"]
        checked = _step(
            check_endpoint(
                task=task, run=RUN, endpoint=deployed.outputs["endpoint"], version=version, test=test
            ),
            images.SERVING,
            resumed=False,
        )
    if spec.devices:
        released = _step(
            release_variants(task=task, run=RUN, version=version), images.PLATFORM, resumed=False
        )
        _mount(released, SIGNING_KEY, "release.pem", "FEDEDGE_SIGNING_KEY_FILE")
        if not spec.simulated:
            reach_fleet(released)
        if checked is not None:
            released.after(checked)
