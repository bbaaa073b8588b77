"""A trial fleet gathers: its clients start a few at a time and connect, and its devices later follow a release."""

import os
import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from fededge.errors import GatewayError
from pipelines.trial.programs import START

if TYPE_CHECKING:
    from pipelines.trial.fleet import TrialFleet

AT_ONCE = 4 * (os.cpu_count() or 1)
"""Clients that start at a time: with more of them each takes longer, and none is there sooner."""
LOOK_SECONDS = 0.2
UPDATE_SECONDS = 60.0
"""That the next device may take to follow a release."""


def connect(fleet: "TrialFleet", names: Sequence[str], slow: int) -> None:
    """Start the clients `names`, and wait until the gateway has a session of each.

    Args:
        fleet: whose gateway runs.
        names: in the order in which they start.
        slow: how many of them, the first ones, work several times slower than they could.

    Raises:
        GatewayError: one ended, or for START seconds no further one connected.
    """
    waiting, starting = list(enumerate(names)), set[str]()
    with fleet.gateway_client() as gateway:

        def advanced() -> bool:
            while waiting and len(starting) < AT_ONCE:
                number, name = waiting.pop(0)
                fleet.start(name, slow=number < slow)
                starting.add(name)
            there = starting & {client.client for client in gateway.clients(connected=True)}
            starting.difference_update(there)
            _need_running(fleet)
            return bool(there)

        if not _until(lambda: not waiting and not starting, advanced, START):
            raise GatewayError(
                f"{', '.join(sorted(starting))} did not connect within {START:g} s. See {fleet.log(min(starting))}"
            )


def followers(fleet: "TrialFleet") -> str:
    """How many devices run the release, once all do, or no further one does for UPDATE_SECONDS; "" without devices."""
    following = {name for name, plan in fleet.plans.items() if plan.device_class}
    running = set[str]()
    with fleet.gateway_client() as gateway:

        def advanced() -> bool:
            before = len(running)
            running.update(
                each.client for each in gateway.clients() if each.running and each.client in following
            )
            return len(running) > before

        _until(lambda: running == following, advanced, UPDATE_SECONDS)
    return f"{len(running)} of {len(following)} devices run the release" if following else ""


def _until(done: Callable[[], bool], advanced: Callable[[], bool], seconds: float) -> bool:
    """Whether it is done; False once nothing advanced for `seconds`."""
    pause, idle = threading.Event(), 0.0
    while not done():
        if advanced():
            idle = 0.0
            continue
        if idle > seconds:
            return False
        pause.wait(LOOK_SECONDS)
        idle += LOOK_SECONDS
    return True


def _need_running(fleet: "TrialFleet") -> None:
    for name, client in fleet.clients.items():
        if client.process.poll() is not None:
            words = fleet.log(name).read_text(errors="replace").strip().splitlines()[-1:]
            raise GatewayError(
                f"{client.plan.program} {name} ended: {''.join(words)[:500]}. See {fleet.log(name)}"
            )
