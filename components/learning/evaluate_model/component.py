"""Evaluate the global model on held-out data and at each client."""

from kfp import dsl
from kfp.dsl import Artifact, ClassificationMetrics, Dataset, Input, Metrics, Model, Output

from components.images import WORKER


@dsl.component(base_image=WORKER, install_kfp_package=False)
def evaluate_model(
    task: str,
    run: str,
    calibrate: bool,
    population: Input[Artifact],
    data: Input[Dataset],
    test: Input[Dataset],
    plan: Input[Artifact],
    state: Input[Model],
    evaluation: Output[Metrics],
    classification: Output[ClassificationMetrics],
    ranges: Output[Artifact],
) -> None:
    """Evaluate the global model on held-out examples, and at each client on that client's own.

    A client evaluates where its data is, and hands in counts and ranges only.

    Args:
        task: the task as canonical JSON.
        run: id of the pipeline run.
        calibrate: whether clients also measure the ranges that an int8 variant is calibrated with.
        population: the clients and how many examples they hold.
        data: a folder for each simulated client, or where a fleet's examples are.
        test: held-out examples.
        plan: what clients execute.
        state: the global model.
        evaluation: the evaluation document.
        classification: the confusion matrix, and of two classes the ROC curve, for the Kubeflow UI.
        ranges: with `calibrate` and a model that has an int8 variant, the calibration ranges, merged over clients;
            else nothing.
    """
    from pathlib import Path

    from fededge import examples, lineage
    from fededge.documents import Plan, Population
    from fededge.fleet.clients_runtime import GatewayClients
    from fededge.fleet.selection import drawn
    from fededge.learning import calibration
    from fededge.learning import evaluation as measures
    from fededge.learning import state as states
    from fededge.learning.engines import open_runtime
    from fededge.learning.frameworks import model_spec
    from fededge.learning.runtimes.functions import open_functions
    from fededge.learning.runtimes.workers import open_workers
    from fededge.task import FederatedTask
    from fededge.tracking.run import TrackedRun
    from fededge.update import UpdateFormat

    def say(line: str) -> None:
        print(f"fededge: {line}", flush=True)

    spec = FederatedTask.from_json(task)
    current = states.load(state.path, spec.identity)
    with TrackedRun.join(run, spec).step(f"evaluate_model-{current.round:04d}") as step:
        lineage.verify(population, data, test, plan, state)
        clients = Population.read(population.path)
        x, y = examples.read(test.path, clients.example)
        deadline, program = spec.operation.evaluation_deadline_seconds, Path(plan.path)
        model, document = (
            model_spec(spec.model, clients.example, spec.seed),
            Plan.read(program / "plan.json"),
        )
        fleet = workers = None
        if spec.simulated:
            workers = open_functions(spec, program) or open_workers(
                spec,
                run,
                f"evaluate-{current.round:04d}",
                program,
                Path(data.path),
                data.metadata["digest"],
                say,
            )
        else:
            fleet = GatewayClients.of(spec, run, program, UpdateFormat.of(document).size, say)
        reached = fleet or workers or open_runtime(spec.learning.engine, program, Path(data.path))
        with reached as runtime:
            if fleet is not None:
                asked = fleet.evaluators(current.round, spec.evaluation.clients)
            else:
                asked = drawn(clients.clients, spec.evaluation.clients, spec.seed, current.round)
            result = measures.evaluate_state(
                model, current, x, y, clients, asked, runtime, deadline, spec.metrics, spec.model.code
            )
            if calibrate and document.activations:
                names = sorted(client.id for client in asked)
                reports = runtime.ranges(current.weights, current.round, names, deadline)
                merged = calibration.merge(reports, document.activations, asked, spec.privacy)
                merged.write(ranges.path)
                lineage.seal(ranges, parents=[state, population], round=current.round)
        result.write(evaluation.path)
        for name, value in result.figures.items():
            evaluation.log_metric(name, value)
        lineage.seal(evaluation, parents=[state, population, data, test], round=current.round)
        if result.confusion:
            classification.log_confusion_matrix([row.label for row in result.per_class], result.confusion)
        if result.roc:
            classification.log_roc_curve(*([point[axis] for point in result.roc] for axis in range(3)))
        step.evaluation(result)
        step.record(f"evaluation-{current.round:04d}", result.model_copy(update={"errors": None}))
        for client, reason in result.failed.items():
            say(f"{client} did not evaluate the model: {reason}")
        say(f"after round {current.round}: {result.metric} {result.score:.4f}, loss {result.loss:.4f}")
