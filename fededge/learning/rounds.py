"""The round loop: a state in, the next state out, with a checkpoint after every round.

A checkpoint is written whole, before the round is reported to anybody. So a run that is killed at any
moment and started again goes on after its last committed round.
"""

import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from fededge.documents import RoundRecord, Score
from fededge.errors import DivergedError, RoundError
from fededge.learning.checkpoints import Checkpoints
from fededge.learning.interfaces import Engine, Selector
from fededge.learning.state import State
from fededge.task import Prices
from fededge.weights import Weights


def run_rounds(
    engine: Engine,
    selector: Selector,
    state: State,
    until: int,
    checkpoints: Checkpoints,
    *,
    score: Callable[[Weights], Score] | None = None,
    prices: Prices | None = None,
    on_round: Callable[[RoundRecord], None] = lambda record: None,
    on_passed_over: Callable[[str], None] = lambda line: None,
) -> State:
    """Run the rounds after `state` up to round `until`, on from the last checkpoint that came from `state`.

    Args:
        engine: runs a round, entered already.
        selector: asked for a round's cohort when that round begins.
        state: where to start.
        until: number of the last round.
        checkpoints: of this run.
        score: evaluates a round's weights on held-out examples, for the round's record.
        prices: by which the record tells what the round cost.
        on_round: told of each committed round, in order; after a restart told again of those that
            were committed before.
        on_passed_over: told in one line of each checkpoint that is not good.

    Raises:
        DivergedError: a round's weights are not finite; the rounds before it are kept.
        RoundError: nobody is there to select, or `until` lies before the state.
    """
    first = state.round
    if until < first:
        raise RoundError(
            f"the state is of round {first}, which is after round {until}: give an earlier state"
        )
    saved = checkpoints.newest(first, until, on_passed_over)
    if saved is not None:
        if (saved.task, saved.history[:first]) == (state.task, state.history):
            state = saved
        else:
            on_passed_over(f"checkpoint of round {saved.round} passed over: it did not come from this state")
    if not state.server:
        state = replace(state, server=engine.initialize())
    for record in state.history[first:]:
        on_round(record)
    for number in range(state.round + 1, until + 1):
        state = _next(engine, selector, state, number, score, prices)
        checkpoints.save(state)
        if number - 2 > first:
            checkpoints.forget(number - 2)
        on_round(state.history[-1])
    return state


def line(record: RoundRecord, total: int, metric: str) -> str:
    """A committed round of `total` in one line for people; its scores are in `metric`."""
    held_out = f", held out {record.held_out.score:.4f}" if record.held_out else ""
    return (
        f"round {record.round}/{total}: {len(record.reported)} of {len(record.cohort)} clients, loss "
        f"{record.loss:.4f}, {metric} {record.score:.4f}{held_out}, {record.seconds:.1f} s"
    )


def _next(
    engine: Engine,
    selector: Selector,
    state: State,
    number: int,
    score: Callable[[Weights], Score] | None,
    prices: Prices | None,
) -> State:
    started = time.time()
    cohort = selector.select(number, state.history)
    if not cohort:
        raise RoundError(f"round {number} has no clients: nobody is there. Start clients, then run again")
    result = engine.next(state.weights, state.server, number, cohort)
    if not all(np.isfinite(value).all() for value in result.weights.values()):
        raise DivergedError(
            f"round {number} made weights that are NaN or infinite: lower learning.client.learning_rate or "
            "learning.server.learning_rate"
        )
    ended = time.time()
    held_out = score(result.weights) if score else None
    usage, coordinator_seconds = result.usage, time.time() - started
    transferred = usage.bytes_sent + usage.bytes_received
    record = RoundRecord(
        round=number,
        cohort=[client.id for client in cohort],
        reported=result.reported,
        failed=result.failed,
        examples=result.examples,
        loss=result.loss,
        score=result.score,
        losses=result.losses,
        spare=result.spare,
        seconds=ended - started,
        at=ended,
        bytes_sent=usage.bytes_sent,
        bytes_received=usage.bytes_received,
        client_seconds=usage.client_seconds,
        coordinator_seconds=coordinator_seconds,
        cost=prices.cost(transferred, usage.client_seconds, coordinator_seconds) if prices else None,
        held_out=held_out,
    )
    history = [*state.history, record]
    return State(state.task, number, result.weights, result.server, history)
