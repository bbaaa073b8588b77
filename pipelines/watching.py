"""Watching a run on Kubeflow: its steps as they start and end, and its rounds, in the lines that a local run shows."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from fededge.errors import KubeflowError, TrackingError
from fededge.tracking.run import TrackedRun
from pipelines.cluster_runs import ClusterRun
from pipelines.kubeflow import Kubeflow
from pipelines.pods import Pods

POLL = 5.0
PATIENCE = 300.0
"""Seconds for which Kubeflow may not answer before watching ends."""


@dataclass
class Watch:
    """What was said of a run so far.

    Args:
        kubeflow: where it runs.
        run: its id.
        say: gets a line for each step that starts or ends, for each round, and for what a pod waits for.
        pods: asked for what they wait for; None where no cluster is configured.
    """

    kubeflow: Kubeflow
    run: str
    say: Callable[[str], None]
    pods: Pods | None = None
    _waiting: set[str] = field(default_factory=set)
    _steps: dict[str, str] = field(default_factory=dict)
    _round: int = 0
    _untracked: str = ""

    def wait(self, poll: float = POLL, patience: float = PATIENCE) -> ClusterRun:
        """The run, once it has ended.

        Args:
            poll: seconds between two looks.
            patience: seconds for which Kubeflow may not answer.

        Raises:
            KubeflowError: there is no such run, or Kubeflow has not answered for so long.
        """
        answered = time.monotonic()
        while True:
            try:
                found = self.kubeflow.get(self.run)
                answered = time.monotonic()
            except KubeflowError:
                if time.monotonic() - answered > patience or not self._steps:
                    raise
            else:
                for line in self._news(found):
                    self.say(line)
                if found.ending:
                    return found
            time.sleep(poll)

    def _news(self, run: ClusterRun) -> Iterator[str]:
        for step in run.steps:
            before, now = self._steps.get(step.name), step.state if step.ended else "RUNNING"
            self._steps[step.name] = now
            if before is None:
                yield f"{step.name} started"
            if step.ended and before != now:
                yield f"{step.name} {_word(now)} after {step.seconds:.1f} s"
        yield from self._rounds(run)
        yield from self._waits(run)

    def _waits(self, run: ClusterRun) -> Iterator[str]:
        """What pods wait for and was not told yet."""
        if self.pods is None or run.ending:
            return
        try:
            found = set(self.pods.waiting(self.run))
        except KubeflowError as error:
            found = {f"pods are not looked at: {error}"}
        yield from (f"waiting: {words}" for words in sorted(found - self._waiting))
        self._waiting |= found

    def _rounds(self, run: ClusterRun) -> Iterator[str]:
        """The rounds that MLflow has and that were not told yet."""
        if "run-rounds" not in self._steps:
            return
        try:
            tracked = TrackedRun.find(self.run)
            metric = tracked.metric
            names = ("train/loss", f"train/{metric}", "round/seconds")
            losses, trained, seconds = (dict(tracked.points(name)) for name in names)
            scores = dict(tracked.held_out)
        except TrackingError as error:
            if str(error) != self._untracked:
                self._untracked = str(error)
                yield f"rounds are not shown: {error}"
            return
        total = tracked.parameters.get("learning.rounds", "?")
        for number in sorted(n for n in losses if n > self._round):
            held_out = f", held out {scores[number]:.4f}" if number in scores else ""
            yield (
                f"run-rounds: round {number}/{total}: loss {losses[number]:.4f}, {metric} "
                f"{trained.get(number, 0.0):.4f}{held_out}, {seconds.get(number, 0.0):.1f} s"
            )
            self._round = number


def _word(state: str) -> str:
    return {"SUCCEEDED": "finished", "SKIPPED": "was skipped", "CACHED": "was reused"}.get(
        state, state.lower()
    )
