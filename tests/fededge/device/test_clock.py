"""Time that went by, whatever the wall clock says, and waiting times that spread."""

from dataclasses import replace

import pytest

from fededge.device.clock import Clock
from fededge.device.pace import Pace

pytestmark = pytest.mark.environment("edge")


def test_within_a_boot_the_wall_clock_is_not_asked() -> None:
    wall = [1_000_000.0]
    clock = Clock(lambda: wall[0])
    before = clock.now()
    for jump in (3600.0, -7200.0, 1e9):
        wall[0] += jump
        assert 0 <= clock.at_least(before) <= clock.about(before) < 60


def test_across_boots_what_is_certain_is_told_from_what_is_believed() -> None:
    wall = [1_000_000.0]
    clock = Clock(lambda: wall[0])
    earlier = replace(clock.now(), boot="another")
    wall[0] += 86_400
    since_boot = clock.now().ticks
    assert since_boot <= clock.at_least(earlier) < since_boot + 60
    assert clock.about(earlier) == pytest.approx(max(86_400, clock.now().ticks), abs=60)
    wall[0] -= 10 * 86_400  # the clock was set back: it was before this boot all the same
    assert since_boot <= clock.about(earlier) < since_boot + 60


def test_waiting_times_grow_to_a_bound_and_begin_anew() -> None:
    def most(pace: Pace) -> list[float]:
        """The longest of many waiting times, by their place."""
        rows = []
        for _ in range(300):
            pace.reset()
            rows.append([pace.next() for _ in range(8)])
        return [max(column) for column in zip(*rows, strict=True)]

    longest = most(Pace(1.0, 20.0))
    for found, bound in zip(longest, [1, 2, 4, 8, 16, 20, 20, 20], strict=True):
        assert 0.8 * bound < found <= bound
    pace = Pace(1.0, 20.0)
    assert all(0 <= pace.next() <= 20 for _ in range(5000))
