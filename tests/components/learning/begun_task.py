"""The learning components one after the other, on the artifacts of a test."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kfp.dsl import Artifact, ClassificationMetrics, Dataset, Metrics, Model

from fededge import lineage
from fededge.documents import Population
from fededge.fleet.selection import select
from fededge.task import FederatedTask


@dataclass(frozen=True)
class Learned:
    """Files of what was learned: the state, its evaluation and, where they were asked for, the ranges."""

    state: Path
    evaluation: Path
    ranges: Path


class BegunTask:
    """A task whose data are spread, whose model is made and whose selection is decided.

    Attributes:
        clients: their ids.
        data: folder of the clients' folders.
        state: file of the first state.
    """

    def __init__(
        self, plain: Callable[..., Any], artifact: Callable[..., Any], spec: FederatedTask, run: str
    ) -> None:
        self._plain, self._artifact = plain, artifact
        self._data = {
            "population": artifact(Artifact, "population"),
            "data": artifact(Dataset, "data"),
            "test": artifact(Dataset, "test"),
        }
        self._begin = {"plan": artifact(Artifact, "plan"), "state": artifact(Model, "state")}
        self._selection = artifact(Artifact, "selection")
        self._call("prepare_data", spec, run, compiled=spec.to_json(), **self._data)
        self._call("initialize_model", spec, run, population=self._data["population"], **self._begin)
        population = Population.read(self._data["population"].path)
        select(spec.learning.cohort, spec.seed, population).write(self._selection.path)
        lineage.seal(self._selection)
        self.clients = [client.id for client in population.clients]
        self.data = Path(self._data["data"].path)
        self.state = Path(self._begin["state"].path)

    def learn(self, spec: FederatedTask, run: str, *, until: int, calibrate: bool) -> Learned:
        """Run the rounds up to `until` as `spec` has it, and evaluate what they learned."""
        after, evaluation = (
            self._artifact(Model, f"after-{run}"),
            self._artifact(Metrics, f"evaluation-{run}"),
        )
        ranges = self._artifact(Artifact, f"ranges-{run}")
        self._call(
            "run_rounds",
            spec,
            run,
            until=until,
            next_state=after,
            figures=self._artifact(Metrics, "figures"),
            selection=self._selection,
            **self._data,
            **self._begin,
        )
        self._call(
            "evaluate_model",
            spec,
            run,
            calibrate=calibrate,
            plan=self._begin["plan"],
            state=after,
            evaluation=evaluation,
            classification=self._artifact(ClassificationMetrics, "classification"),
            ranges=ranges,
            **self._data,
        )
        return Learned(*(Path(each.path) for each in (after, evaluation, ranges)))

    def _call(self, name: str, spec: FederatedTask, run: str, **given: Any) -> None:
        self._plain(f"learning/{name}")(task=spec.to_json(), run=run, **given)
