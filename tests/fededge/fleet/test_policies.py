"""Each selection policy: what it promises, over many rounds of a skewed population."""

import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fededge.documents import ClientCounts, RoundRecord, Selection
from fededge.errors import TaskError
from fededge.fleet.selection import POLICIES, Selector, candidates, drawn, policy_of
from fededge.fleet.selection.policy import Candidate, Policy
from fededge.fleet.selection.window import width, window
from fededge.task.learning import POLICIES as IN_TASKS

pytestmark = pytest.mark.environment("platform", "worker")
SIZED = sorted(POLICIES.keys() - {"poisson"})
ALL = [*sorted(POLICIES), "weighted"]


def named(name: str) -> Policy:
    return policy_of(name, {"fair": 1.0, "oort": 2.0, "geo": 1.0} if name == "weighted" else {})


def pool_of(count: int, seed: int = 0) -> list[Candidate]:
    """Clients with all facts, some of them missing."""
    chance = random.Random(seed)
    return [
        Candidate(
            id=f"c{number}",
            train=chance.randint(0, 500),
            waited=chance.randint(1, 30),
            region=chance.choice(["north", "north", "north", "south", None]),
            loss=chance.choice([None, 0.0, chance.random()]),
            speed=chance.choice([None, 10 * chance.random() + 0.1]),
        )
        for number in range(count)
    ]


def test_a_task_may_name_every_policy_and_no_other() -> None:
    assert set(IN_TASKS) == set(ALL)


@pytest.mark.parametrize("name", ALL)
@given(st.integers(0, 30), st.integers(1, 12), st.integers(0, 9), st.integers(1, 10**6))
def test_a_cohort_is_of_the_pool_and_of_the_size_whatever_the_order(
    name: str, count: int, size: int, seed: int, number: int
) -> None:
    pool = pool_of(count, seed)
    chosen = named(name).choose(pool, size, seed, number)
    assert len(set(chosen)) == len(chosen)
    assert set(chosen) <= {client.id for client in pool}
    if name != "poisson":
        assert len(chosen) == min(size, count)
    random.Random(1).shuffle(pool)
    assert sorted(named(name).choose(pool, size, seed, number)) == sorted(chosen)


@pytest.mark.parametrize("name", ALL)
def test_seed_and_round_change_the_cohort(name: str) -> None:
    pool = [replace(client, waited=3) for client in pool_of(200)]
    cohorts = [tuple(sorted(named(name).choose(pool, 10, *which))) for which in ((1, 1), (1, 2), (2, 1))]
    assert len(set(cohorts)) == 3


def test_uniform_chooses_in_a_window_of_a_large_pool_and_reaches_everybody() -> None:
    pool = [Candidate(f"c{number}", 10) for number in range(4000)]
    ids = np.array([client.id for client in pool], "S")
    asked: Counter[str] = Counter()
    for number in range(1, 201):
        chosen = POLICIES["uniform"].choose(pool, 300, 7, number)
        assert {name.encode() for name in chosen} <= set(ids[window(ids, 300, 7, number)].tolist())
        asked.update(chosen)
    assert width(300) == 1200
    assert len(asked) == 4000
    assert max(asked.values()) < 3 * 200 * 300 / 4000


def test_poisson_throws_for_each_client_on_its_own() -> None:
    pool = [Candidate(f"c{number}", 10) for number in range(40)]
    sizes = [len(POLICIES["poisson"].choose(pool, 10, 3, number)) for number in range(1, 2001)]
    mean = sum(sizes) / len(sizes)
    variance = sum((size - mean) ** 2 for size in sizes) / len(sizes)
    assert mean == pytest.approx(10, abs=0.3)
    assert variance == pytest.approx(
        40 * 0.25 * 0.75, rel=0.15
    )  # binomial: clients do not depend on each other


def waits(policy: Policy, count: int, size: int, rounds: int, seed: int) -> tuple[int, Counter[str]]:
    """The longest wait of anybody who is there all the time, and how often each was asked."""
    last = dict.fromkeys((f"c{number}" for number in range(count)), 0)
    longest, asked = 0, Counter[str]()
    for number in range(1, rounds + 1):
        pool = [Candidate(name, 10, waited=number - when) for name, when in last.items()]
        for name in policy.choose(pool, size, seed, number):
            longest = max(longest, number - last[name])
            last[name] = number
            asked[name] += 1
    return max(longest, *(rounds - when for when in last.values())), asked


@pytest.mark.parametrize(("count", "size"), [(50, 5), (47, 10), (9, 2), (5, 5)])
def test_with_fair_nobody_waits_for_more_than_three_turns(count: int, size: int) -> None:
    turn = -(-count // size)
    for seed in range(5):
        longest, _ = waits(POLICIES["fair"], count, size, 30 * turn, seed)
        assert longest <= 3 * turn


def test_fair_asks_everybody_more_evenly_than_uniform() -> None:
    _, fair = waits(POLICIES["fair"], 50, 5, 300, 1)
    _, uniform = waits(POLICIES["uniform"], 50, 5, 300, 1)
    assert max(fair.values()) - min(fair.values()) < max(uniform.values()) - min(uniform.values())


@given(st.lists(st.sampled_from(["n", "s", "e", None]), min_size=1, max_size=40), st.integers(1, 15))
def test_geo_gives_each_region_the_same_seats_as_far_as_it_has_clients(regions: list[Any], size: int) -> None:
    pool = [Candidate(f"c{n}", 10, region=region) for n, region in enumerate(regions)]
    chosen = set(POLICIES["geo"].choose(pool, size, 5, 3))
    seats = Counter(client.region for client in pool if client.id in chosen)
    clients = Counter(regions)
    most = max(seats.values())
    assert all(seats[region] == clients[region] or seats[region] >= most - 1 for region in clients)


def test_data_size_chooses_in_proportion_to_examples() -> None:
    pool = [Candidate("small", 10), Candidate("middle", 30), Candidate("large", 60), Candidate("none", 0)]
    asked = Counter(POLICIES["data_size"].choose(pool, 1, 2, number)[0] for number in range(1, 4001))
    for name, share in (("small", 0.1), ("middle", 0.3), ("large", 0.6)):
        assert asked[name] / 4000 == pytest.approx(share, abs=0.025)
    assert asked["none"] == 0


def oort(pool: Sequence[Candidate], size: int = 4) -> Counter[str]:
    """How often each client is chosen, late in a task."""
    policy = POLICIES["oort"]
    return Counter(name for seed in range(400) for name in policy.choose(pool, size, seed, 1000))


@pytest.mark.parametrize(
    "worse",
    [
        {"loss": 0.1},
        {"train": 10},
        {"speed": 1.0},
    ],
)
def test_oort_prefers_much_loss_many_examples_and_speed(worse: dict[str, Any]) -> None:
    good = Candidate("", train=100, waited=10, loss=1.0, speed=10.0)
    pool = [replace(good, id=f"good-{number}") for number in range(12)]
    pool += [replace(good, id=f"bad-{number}", **worse) for number in range(8)]
    asked = oort(pool)
    assert not [name for name in asked if name.startswith("bad")]


def test_oort_keeps_a_fifth_of_the_seats_for_clients_it_has_not_tried() -> None:
    known = [Candidate(f"known-{n}", 100, waited=5, loss=1.0, speed=10.0) for n in range(20)]
    new = [Candidate(f"new-{n}", 100, waited=5, speed=float(n + 1)) for n in range(20)]
    asked = oort([*known, *new], size=10)
    fresh = sum(times for name, times in asked.items() if name.startswith("new"))
    assert fresh / sum(asked.values()) == pytest.approx(0.2, abs=0.001)
    assert asked["new-19"] > 3 * asked["new-0"]
    early = POLICIES["oort"].choose([*known, *new], 10, 1, 1)
    assert sum(name.startswith("new") for name in early) == 9


def test_oort_comes_back_to_clients_of_whom_nothing_is_known_any_more() -> None:
    pool = [Candidate(f"c{n}", 100, waited=5, loss=1.0) for n in range(10)]
    less = Candidate("fresh", 100, waited=5, loss=0.8)
    asked = oort([*pool, less, replace(less, id="forgotten", waited=995)], size=3)
    assert asked["fresh"] == 0
    assert asked["forgotten"] > 50


def test_a_combination_gives_each_policy_its_share_of_the_seats() -> None:
    large = [Candidate(f"large-{n}", 10**6) for n in range(20)]
    late = [Candidate(f"late-{n}", 1, waited=10**6) for n in range(20)]
    policy = policy_of("weighted", {"data_size": 3.0, "fair": 1.0})
    asked = Counter(
        name.split("-")[0]
        for number in range(1, 1001)
        for name in policy.choose([*large, *late], 4, 1, number)
    )
    assert asked["large"] / sum(asked.values()) == pytest.approx(0.75, abs=0.03)


def test_unknown_policies_are_named() -> None:
    for name, weights in (("luck", {}), ("weighted", {"fair": 1.0, "luck": 1.0})):
        with pytest.raises(TaskError, match=r"unknown selection policy 'luck': use one of data_size, fair"):
            policy_of(name, weights)


def record(number: int, cohort: list[str], losses: dict[str, float]) -> RoundRecord:
    counted: dict[str, Any] = {"examples": 1.0, "loss": 1.0, "score": 0.0, "seconds": 1.0, "at": 0.0}
    return RoundRecord(round=number, cohort=cohort, reported=sorted(losses), losses=losses, **counted)


def test_what_a_policy_knows_of_simulated_clients_follows_from_the_rounds_before() -> None:
    pool = [ClientCounts(id=name, train=9, test=1) for name in "abc"]
    history = [record(1, ["a", "b"], {"a": 0.9, "b": 0.8}), record(2, ["a"], {})]
    facts = {client.id: (client.waited, client.loss) for client in candidates(pool, 4, history)}
    assert facts == {"a": (2, 0.9), "b": (3, 0.8), "c": (4, None)}


def own(choose: Callable[[Sequence[Candidate]], list[str]]) -> Any:
    class Own:
        def choose(self, pool: Sequence[Candidate], size: int, seed: int, round_number: int) -> list[str]:
            return choose(pool)

    return Own


def test_a_policy_of_ones_own_chooses_and_is_held_to_its_pool() -> None:
    pool = [ClientCounts(id=name, train=9, test=1) for name in "abc"]
    selection = Selection(policy="mine:Own", size=2, seed=0, pool=pool)

    def select(choose: Callable[[Sequence[Candidate]], list[str]]) -> list[str]:
        selector = Selector(selection, lambda: ["a", "b"], own(choose))
        return [client.id for client in selector.select(1, [])]

    assert select(lambda pool: [pool[1].id, pool[0].id]) == ["a", "b"]
    for wrong in (["a", "a"], ["c"], ["stranger"]):
        with pytest.raises(TaskError, match="different ids of its pool"):
            select(lambda pool, wrong=wrong: wrong)  # type: ignore[misc]


def test_those_who_evaluate_are_drawn_at_random_in_their_order() -> None:
    clients = [ClientCounts(id=f"c{n:02d}", train=1, test=1) for n in range(20)]
    assert drawn(clients, None, 1, 1) == drawn(clients, 20, 1, 1) == clients
    first, second = (drawn(clients, 5, 1, number) for number in (1, 2))
    assert len(first) == 5
    assert first != second
    assert [client.id for client in first] == sorted(client.id for client in first)
