"""Register a model version."""

from kfp import dsl
from kfp.dsl import Artifact, Input, Metrics, Model, Output

from components.images import PLATFORM


@dsl.component(base_image=PLATFORM, install_kfp_package=False)
def register_model(
    task: str,
    run: str,
    population: Input[Artifact],
    state: Input[Model],
    evaluation: Input[Metrics],
    decision: Input[Artifact],
    variants: Input[Model],
    measurements: Input[Metrics],
    pyfunc: Input[Model],
    version: Output[Model],
) -> str:
    """Publish the variants that passed their gates and register the model version in MLflow.

    Where the champion is another than the decision was taken against, the decision is taken again first. The
    version gets the alias `candidate`, then `champion` where the decision is `pass`. A retry gives the same
    version and decision, and moves no alias. A model card is kept with it.

    Args:
        task: the task as canonical JSON.
        run: id of the pipeline run.
        population: whom it learned from, for the model card.
        state: the trained global model.
        evaluation: of the model on held-out examples.
        decision: of the model's gate.
        variants: a folder with a file for each kind.
        measurements: a folder with a measurement document for each kind.
        pyfunc: the model as MLflow loads it; kept with the version.
        version: the model-version document: variants by URL and digest, and which device class
            gets which.

    Returns:
        The decision that counts: `pass`, `fail` or `kept`.
    """
    from pathlib import Path

    from fededge import lineage, storage, weights
    from fededge.delivery import card, registration, registry
    from fededge.documents import Evaluation, GateDecision, Measurement, Population
    from fededge.learning import state as states
    from fededge.task import FederatedTask
    from fededge.tracking.run import TrackedRun

    spec = FederatedTask.from_json(task)
    tracked = TrackedRun.join(run, spec)
    with tracked.step("register_model") as step:
        named = {
            "population": population,
            "state": state,
            "evaluation": evaluation,
            "decision": decision,
            "variants": variants,
            "measurements": measurements,
            "pyfunc": pyfunc,
        }
        parents = list(named.values())
        lineage.verify(*parents)
        kinds = variants.metadata["kinds"]
        trained = states.load(state.path)
        given = GateDecision.read(decision.path)
        measured = [Measurement.read(Path(measurements.path) / f"{kind}.json") for kind in kinds]
        reached = Evaluation.read(evaluation.path)
        tracked.keep(Path(pyfunc.path), registry.FOLDER)
        registered, final = registration.register(
            spec,
            run,
            tracked,
            registration.Trained(
                state=Path(state.path),
                digest=state.metadata["digest"],
                weights_digest=weights.digest_of(trained.weights),
                round=trained.round,
                evaluation=reached,
            ),
            {kind: storage.read(str(Path(variants.path) / kind)) for kind in kinds},
            measured,
            given,
        )
        facts = card.Facts(
            population=Population.read(population.path),
            history=trained.history,
            evaluation=reached,
            decision=final,
            measured=measured,
            parents={name: each.metadata["digest"] for name, each in named.items()},
        )
        card.keep(tracked, spec, registered, facts)
        registered.write(version.path)
        lineage.seal(
            version,
            parents=parents,
            round=registered.round,
            version=registered.version,
            decision=final.decision,
        )
        step.record("version", registered)
        step.gate(final, step=registered.round)
        step.record("gate", final)
        if final != given:
            print(
                f"fededge: another version became champion meanwhile, and against that the gate says {final.decision}"
            )
        print(f"fededge: version {registered.version} is registered")
    return final.decision
