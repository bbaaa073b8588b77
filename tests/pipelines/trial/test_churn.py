"""What happens to the devices of a trial fleet."""

import threading
from collections import Counter

import pytest

from pipelines.trial.churn import Churn
from pipelines.trial.clients import plans

pytestmark = pytest.mark.environment("platform")


class Fleet:
    """Notes what is done to its devices."""

    def __init__(self) -> None:
        self.plans = {
            plan.name: plan
            for plan in plans(["a", "b", "c", "d"], 2, True, ["lamp", "lock"], ["north", "south"])
        }
        self.clients = dict(self.plans)
        self.charging: dict[str, bool] = {}
        self.done: Counter[str] = Counter()
        self.enough = threading.Event()

    def start(self, name: str) -> None:
        assert name not in self.clients
        self.clients[name] = self.plans[name]
        self._note("start")

    def kill(self, name: str) -> None:
        del self.clients[name]
        self._note("kill")

    def charge(self, name: str, charging: bool) -> None:
        self.charging[name] = charging
        self._note(f"charge {charging}")

    def _note(self, what: str) -> None:
        self.done[what] += 1
        if min(self.done[each] for each in ("start", "kill", "charge True", "charge False")) >= 3:
            self.enough.set()


def test_devices_go_and_come_back_and_in_the_end_all_are_there_and_charge() -> None:
    fleet = Fleet()
    with Churn(fleet, seed=0, seconds=0.001):  # type: ignore[arg-type]
        assert fleet.enough.wait(60)
    assert set(fleet.clients) == {"a", "b", "c", "d"}
    assert set(fleet.charging) == {"c", "d"}
    assert all(fleet.charging.values())


def test_classes_and_regions_are_dealt_out_in_turn() -> None:
    dealt = plans(["a", "b", "c", "d", "e"], 3, True, ["lamp", "lock"], ["north", "south"])
    assert [(plan.program, plan.device_class, plan.region) for plan in dealt] == [
        ("site", None, "north"),
        ("relay", None, "south"),
        ("agent", "lamp", "north"),
        ("agent", "lock", "south"),
        ("agent", "lamp", "north"),
    ]
