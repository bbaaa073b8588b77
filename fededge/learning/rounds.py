"""The round loop: a state and cohorts in, the next state out, with a checkpoint after every round.

A checkpoint is written whole, before the round is reported to anybody. So a run that is killed at any
moment and started again goes on after its last committed round.
"""

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from fededge import storage
from fededge.errors import DivergedError, RoundError
from fededge.learning.engines import Engine
from fededge.learning.state import State, load
from fededge.task import FederatedTask

Record = dict[str, Any]


def run_rounds(
    task: FederatedTask,
    engine: Engine,
    state: State,
    cohorts: dict[int, list[str]],
    checkpoint: str,
    on_round: Callable[[Record], None],
) -> State:
    """Run the rounds that `cohorts` names, on from `state` or from a checkpoint that came from it.

    Args:
        task: the task that `state` belongs to.
        engine: runs a round.
        state: where to start.
        cohorts: client ids by round number, from `state.round` + 1 on without gaps.
        checkpoint: URL of this step's checkpoint.
        on_round: told of each committed round, in order; after a restart told again of those that
            this step had committed before.

    Raises:
        DivergedError: a round's weights are not finite; the rounds before it are kept.
        RoundError: the state belongs to another task, or the rounds do not follow on it.
    """
    if state.task != task.digest:
        raise RoundError(f"the state belongs to task {state.task}, not {task.digest}: initialize a new model")
    numbers = sorted(cohorts)
    if numbers != list(range(state.round + 1, state.round + 1 + len(numbers))):
        raise RoundError(
            f"rounds {numbers} do not follow on round {state.round}: select cohorts for the next ones"
        )
    origin = storage.digest(state.to_bytes())
    state = _resume(state, origin, checkpoint, cohorts)
    if not state.server:
        state = replace(state, server=engine.initialize())
    for record in state.history:
        if record["round"] in cohorts:
            on_round(record)
    for number in [number for number in numbers if number > state.round]:
        started = time.time()
        outcome = engine.next(state.weights, state.server, number, cohorts[number])
        if not all(np.isfinite(value).all() for value in outcome.weights.values()):
            raise DivergedError(
                f"round {number} made weights that are NaN or infinite: lower learning.client.learning_rate or "
                "learning.server.learning_rate"
            )
        record = {
            "round": number,
            "cohort": sorted(cohorts[number]),
            "reported": outcome.reported,
            "failed": outcome.failed,
            "examples": outcome.examples,
            "loss": outcome.loss,
            "accuracy": outcome.accuracy,
            "seconds": time.time() - started,
            "at": time.time(),
        }
        state = State(
            task=state.task,
            round=number,
            weights=outcome.weights,
            server=outcome.server,
            history=[*state.history, record],
            origin=origin,
        )
        state.save(checkpoint)
        on_round(record)
    return state


def _resume(state: State, origin: str, checkpoint: str, cohorts: dict[int, list[str]]) -> State:
    """The state in `checkpoint`, if it came from `state` by some of the rounds in `cohorts`."""
    if storage.exists(checkpoint):
        saved = load(checkpoint)
        done = {record["round"]: record["cohort"] for record in saved.history[len(state.history) :]}
        if saved.origin == origin and all(
            sorted(cohorts.get(number, [])) == cohort for number, cohort in done.items()
        ):
            return saved
    return state
