"""Run the next federated rounds from a state."""

from kfp import dsl
from kfp.dsl import Artifact, Dataset, Input, Metrics, Model, Output

from components.images import WORKER


@dsl.component(base_image=WORKER, install_kfp_package=False)
def run_rounds(
    task: str,
    run: str,
    until: int,
    population: Input[Artifact],
    data: Input[Dataset],
    test: Input[Dataset],
    plan: Input[Artifact],
    state: Input[Model],
    selection: Input[Artifact],
    next_state: Output[Model],
    figures: Output[Metrics],
) -> None:
    """Run one federated round after another, and hand on the state after the last.

    A round's cohort is selected when it begins. Every committed round is saved as a checkpoint before it is
    reported: a retry goes on after the last good one.

    Args:
        task: the task as canonical JSON.
        run: id of the pipeline run.
        until: number of the last round.
        population: the clients and how many examples they hold.
        data: a folder for each simulated client, or where a fleet's examples are.
        test: held-out examples, on which each round's weights are scored.
        plan: what clients execute.
        state: the state to start from.
        selection: from whom and how cohorts are selected.
        next_state: the state after the last round; metadata round, digest, parents.
        figures: loss and score of the last round, for the Kubeflow UI.
    """
    from pathlib import Path

    from fededge import examples, lineage, settings, storage
    from fededge.documents import Plan, Population, RoundRecord, Rounds, Selection
    from fededge.fleet.clients_runtime import GatewayClients
    from fededge.fleet.selection import Selector
    from fededge.learning import evaluation, factories, rounds
    from fededge.learning import state as states
    from fededge.learning.checkpoints import Checkpoints, run_key
    from fededge.learning.data.folders import client_names
    from fededge.learning.engines import open_engine
    from fededge.learning.frameworks import model_spec
    from fededge.learning.runtimes.functions import open_functions
    from fededge.learning.runtimes.workers import open_workers
    from fededge.metrics import METRIC
    from fededge.task import FederatedTask
    from fededge.tracking.run import TrackedRun
    from fededge.update import UpdateFormat

    spec = FederatedTask.from_json(task)
    begin = states.load(state.path, spec.identity)
    first = f"{begin.round + 1:04d}"
    with TrackedRun.join(run, spec).step(f"run_rounds-{first}") as step:
        lineage.verify(population, data, test, plan, state, selection)
        step.reused(state)
        schema = Population.read(population.path).example
        metric = METRIC[schema.label.kind]
        done: list[RoundRecord] = []

        def say(line: str) -> None:
            print(f"fededge: {line}", flush=True)

        def report(record: RoundRecord) -> None:
            if fleet is not None:
                fleet.committed(record)
            done.append(record)
            step.round(record, metric)
            say(rounds.line(record, spec.learning.rounds, metric))

        def arrived(client: str, failure: str | None) -> None:
            if failure is not None:
                say(f"{client} has no usable report: {failure}")

        x, y = examples.read(test.path, schema)
        folder = storage.join(settings.storage(), "checkpoints", run)
        chosen, program, clients = Selection.read(selection.path), Path(plan.path), Path(data.path)
        fleet = workers = None
        if spec.simulated:
            own = None
            if ":" in chosen.policy:
                own = factories.load(chosen.policy, "learning.cohort.policy", chosen.code)
            selector = Selector(chosen, lambda: client_names(clients), own)
            workers = open_functions(spec, program) or open_workers(
                spec,
                run,
                f"rounds-{first}",
                program,
                clients,
                data.metadata["digest"],
                say,
            )
        else:
            size = UpdateFormat.of(Plan.read(program / "plan.json")).size
            fleet = GatewayClients.of(spec, run, program, size, say)
        with open_engine(
            spec.model,
            spec.learning,
            spec.operation,
            spec.seed,
            program,
            clients,
            fleet or workers,
            arrived,
        ) as engine:
            end = rounds.run_rounds(
                engine,
                fleet or selector,
                begin,
                until,
                Checkpoints(folder, run, run_key(run)),
                score=evaluation.scorer(model_spec(spec.model, schema, spec.seed), schema, x, y),
                prices=spec.operation.prices,
                on_round=report,
                on_passed_over=say,
            )
        end.save(next_state.path)
        parents = [state, population, data, test, plan, selection]
        lineage.seal(next_state, parents=parents, round=end.round)
        last = end.history[-1]
        for name, value in (("loss", last.loss), (metric, last.score)):
            figures.log_metric(f"train/{name}", value)
        if last.held_out:
            figures.log_metric(f"held_out/{metric}", last.held_out.score)
        step.record(f"rounds-{first}", Rounds(rounds=done))
