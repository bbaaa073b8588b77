"""Shares of examples by speed and deadline, held against giving everybody all of them."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fededge.fleet.allocation import FEWEST, ROOM, shares
from fededge.fleet.selection.policy import Candidate

pytestmark = pytest.mark.environment("platform", "worker")


def test_a_slow_client_learns_from_as_many_examples_as_it_can_in_time() -> None:
    slow = Candidate("slow", train=1000, speed=5.0)
    fast = Candidate("fast", train=1000, speed=50.0)
    assert shares([slow, fast], 100.0) == {"slow": pytest.approx(5.0 * 100 * ROOM / 1000)}


def test_a_client_that_was_never_measured_is_taken_for_as_slow_as_the_slowest() -> None:
    slow = Candidate("slow", train=10, speed=5.0)
    fast = Candidate("fast", train=1000, speed=50.0)
    new = Candidate("new", train=1000)
    assert shares([slow, fast, new], 100.0) == {"new": pytest.approx(5.0 * 100 * ROOM / 1000)}
    assert shares([new], 100.0) == {}


def test_a_share_is_worth_its_transfer() -> None:
    hopeless = Candidate("hopeless", train=1000, speed=0.001)
    few = Candidate("few", train=FEWEST, speed=0.001)
    empty = Candidate("empty", train=0, speed=0.001)
    assert shares([hopeless, few, empty], 60.0) == {"hopeless": FEWEST / 1000}


@given(
    st.integers(0, 10**6),
    st.floats(1e-3, 1e6) | st.none(),
    st.floats(1.0, 10**6),
)
def test_a_share_is_what_fits_and_never_less_than_can_be_helped(
    train: int, speed: float | None, deadline: float
) -> None:
    share = shares([Candidate("c", train, speed=speed)], deadline).get("c", 1.0)
    assert 0 < share <= 1
    if speed is None or train <= FEWEST:
        assert share == 1
    elif share < 1:
        assert share * train >= FEWEST * 0.999
        assert share * train / speed <= max(ROOM * deadline, FEWEST / speed) * 1.001
        assert share * train / speed >= ROOM * deadline * 0.999 or share * train <= FEWEST * 1.001


def test_more_clients_and_examples_are_learned_from_than_by_a_fixed_allocation() -> None:
    chance, deadline = random.Random(4), 60.0
    fleet = [
        Candidate(f"c{n}", chance.randint(50, 5000), speed=chance.lognormvariate(3, 1.5)) for n in range(200)
    ]
    allocated = shares(fleet, deadline)

    def in_time(share_of: dict[str, float]) -> tuple[int, float]:
        """Clients that report before the deadline, and examples that they learned from; a day is up to 30 % slow."""
        reported, learned = 0, 0.0
        for client in fleet:
            assert client.speed
            examples = share_of.get(client.id, 1.0) * client.train
            if examples / client.speed * chance.uniform(0.9, 1.3) <= deadline:
                reported, learned = reported + 1, learned + examples
        return reported, learned

    fixed, by_deadline = in_time({}), in_time(allocated)
    assert by_deadline[0] > 1.5 * fixed[0]
    assert by_deadline[1] > 1.2 * fixed[1]
    assert by_deadline[0] > 0.95 * len(fleet)
