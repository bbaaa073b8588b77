"""How much time went by, also across restarts, whatever somebody sets the clock to."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

BOOT = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True)
class Moment:
    """When something was.

    Attributes:
        boot: id of the boot of the machine.
        ticks: seconds since that boot, sleep counted: nobody sets them.
        wall: seconds since the epoch, as the machine believed.
    """

    boot: str
    ticks: float
    wall: float


class Clock:
    """This machine's time.

    Args:
        wall: the clock that people and time servers set.
    """

    def __init__(self, wall: Callable[[], float] = time.time) -> None:
        self._wall = wall
        self._boot = BOOT.read_text().strip()

    def now(self) -> Moment:
        """The moment that is."""
        return Moment(self._boot, time.clock_gettime(time.CLOCK_BOOTTIME), self._wall())

    def at_least(self, since: Moment) -> float:
        """Seconds that certainly went by: before another boot, those since this one."""
        now = self.now()
        return now.ticks - since.ticks if now.boot == since.boot else now.ticks

    def about(self, since: Moment) -> float:
        """Seconds that went by as far as can be known: only across boots the wall clock is asked."""
        now = self.now()
        return now.ticks - since.ticks if now.boot == since.boot else max(now.ticks, now.wall - since.wall)
