import asyncio
import time

import pytest

from fededge.fleet.gateway.limits import Buckets, address_of
from fededge.fleet.gateway.overload import Load
from fededge.fleet.gateway.settings import GatewaySettings, Rate


def test_a_bucket_gives_its_burst_at_once_and_its_rate_from_then_on() -> None:
    buckets = Buckets(Rate(per_second=2, burst=3))
    assert [buckets.take("a", 10.0) for _ in range(4)] == [0.0, 0.0, 0.0, 0.5]
    assert buckets.take("b", 10.0) == 0.0
    assert buckets.take("a", 10.25) == 0.25
    assert buckets.take("a", 10.5) == 0.0
    assert buckets.take("a", 10.5) == 0.5
    assert [buckets.take("a", 1000.0) for _ in range(4)] == [0.0, 0.0, 0.0, 0.5]


def test_the_one_that_was_idle_for_longest_is_forgotten_first() -> None:
    buckets = Buckets(Rate(per_second=0.001, burst=1), callers=2)
    for caller in ("a", "b", "a", "c"):
        buckets.take(caller, 0.0)
    assert buckets.take("a", 0.0) > 0
    assert buckets.take("b", 0.0) == 0.0


@pytest.mark.parametrize(
    ("host", "known"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::9", "2001:db8:1:2::/64"),
        ("not an address", "unknown"),
    ],
)
def test_an_address_is_known_by_its_household(host: str, known: str) -> None:
    assert address_of((host, 1)) == known
    assert address_of(None) == "unknown"


def test_the_more_are_turned_away_the_wider_they_come_back() -> None:
    load = Load(GatewaySettings(heartbeat_seconds=30.0, connects_per_second=10.0, connections=5))
    at_once = [load.turn_away() for _ in range(20)]
    assert all(1 <= seconds <= 2 + 20 / 10 for seconds in at_once)
    load.connections, load.turned_away = 5, 0.0
    few = [load.turn_away() for _ in range(20)]
    assert all(15 <= seconds <= 30 + 20 / 10 for seconds in few)
    many = [load.turn_away() for _ in range(5000)]
    late = many[-500:]
    assert max(late) > 400
    assert min(late) < 100
    assert all(0 <= load.spread(1000) <= 100 for _ in range(100))


def test_too_much_of_anything_is_a_reason_to_take_no_more() -> None:
    load = Load(GatewaySettings(connections=5, welcomes=3, pending=7, lag_seconds=1.0))
    assert load.full() is None
    for name, value, why in (
        ("connections", 5, (True, False, False)),
        ("welcoming", 3, (True, True, False)),
        ("pending", 8, (True, True, True)),
        ("lag", 1.5, (True, True, True)),
    ):
        setattr(load, name, value)
        assert (load.full() is not None, load.crowded() is not None, load.behind() is not None) == why
        setattr(load, name, 0)


def test_clients_are_let_in_so_many_at_a_time() -> None:
    load = Load(GatewaySettings(welcomes=2))
    with load.one_more(), load.one_more():
        assert load.crowded() == "2 clients wait to be let in"
    assert load.crowded() is None


def test_an_event_loop_that_is_held_up_is_seen_and_forgotten() -> None:
    load = Load(GatewaySettings())

    async def hold_up() -> None:
        watching = asyncio.create_task(load.watch())
        await asyncio.sleep(0.05)
        time.sleep(0.6)
        while load.lag < 0.3:
            await asyncio.sleep(0)
        while load.lag > 0.1:
            await asyncio.sleep(0.05)
        watching.cancel()

    asyncio.run(hold_up())
