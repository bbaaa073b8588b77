"""What happens to devices: chargers are pulled out and plugged in, and devices go and come back."""

import random
import threading
from types import TracebackType
from typing import Self

from pipelines.trial.fleet import TrialFleet

SECONDS = 3.0
"""From one happening to the next."""
AWAY = 2
"""Happenings after which a device that went is back."""


class Churn:
    """Lets things happen to the agents of `fleet` while the block runs; use it with `with`.

    Args:
        fleet: that runs.
        seed: of what happens.
        seconds: from one happening to the next.
    """

    def __init__(self, fleet: TrialFleet, seed: int, seconds: float = SECONDS) -> None:
        self._fleet = fleet
        self._seconds = seconds
        self._random = random.Random(seed)
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._agents = [name for name, plan in fleet.plans.items() if plan.program == "agent"]
        self._unplugged: set[str] = set()

    def __enter__(self) -> Self:
        if self._agents:
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ending.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        away: list[tuple[int, str]] = []
        number = 0
        while not self._ending.wait(self._seconds):
            number += 1
            for due, name in list(away):
                if due <= number:
                    away.remove((due, name))
                    self._fleet.start(name)
            name = self._random.choice(self._agents)
            if name in self._unplugged:
                self._unplugged.remove(name)
                self._fleet.charge(name, True)
            elif self._random.random() < 0.6:
                self._unplugged.add(name)
                self._fleet.charge(name, False)
            elif name in self._fleet.clients:
                self._fleet.kill(name)
                away.append((number + AWAY, name))
        for _, name in away:
            self._fleet.start(name)
        for name in self._unplugged:
            self._fleet.charge(name, True)
