import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import insert, select

from fededge.errors import GatewayError, RegistryError
from fededge.fleet.gateway.database import Database
from fededge.fleet.gateway.observing import Metrics
from fededge.fleet.gateway.overload import Load
from fededge.fleet.gateway.settings import GatewaySettings
from fededge.fleet.registry.database import Registry
from fededge.fleet.registry.tables import tenants


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Registry]:
    opened = Registry.open(f"sqlite:///{tmp_path}/registry.db")
    yield opened
    opened.close()


def keep(registry: Registry, name: str) -> str:
    registry.run(lambda connection: connection.execute(insert(tenants), {"name": name}))
    return name


def refuse(registry: Registry, name: str) -> str:
    """Write, and then refuse."""
    keep(registry, name)
    raise GatewayError(f"not {name}", "NO", 400)


def break_down(registry: Registry, name: str) -> str:
    keep(registry, name)
    raise ZeroDivisionError(name)


def kept(registry: Registry) -> list[str]:
    query = select(tenants.c.name).order_by(tenants.c.name)
    return list(registry.read(lambda connection: connection.execute(query).scalars().all()))


def together(registry: Registry, writes: list[tuple[Any, str]]) -> tuple[list[Any], float]:
    """What each write came to, and how many transactions they took."""
    metrics = Metrics()

    async def run() -> list[Any]:
        database = Database(registry, 4, Load(GatewaySettings()), metrics)
        calls = [database.together(function, name) for function, name in writes]
        return await asyncio.gather(*calls, return_exceptions=True)

    results = asyncio.run(run())
    batches = metrics.registry.get_sample_value("fededge_batch_calls_count")
    assert batches is not None
    return results, batches


def test_writes_that_arrive_together_share_a_transaction(registry: Registry) -> None:
    names = [f"t{number:03}" for number in range(100)]
    results, batches = together(registry, [(keep, name) for name in names])
    assert results == names == kept(registry)
    assert batches <= 2


def test_a_write_that_is_refused_undoes_its_own_part_alone(registry: Registry) -> None:
    results, _ = together(registry, [(keep, "a"), (keep, "b"), (refuse, "c"), (keep, "d")])
    assert results[:2] + results[3:] == ["a", "b", "d"]
    assert str(results[2]) == "not c"
    assert kept(registry) == ["a", "b", "d"]


def test_a_write_that_breaks_down_does_not_break_the_others(registry: Registry) -> None:
    results, _ = together(registry, [(keep, "a"), (keep, "b"), (break_down, "c"), (keep, "d")])
    assert results[:2] + results[3:] == ["a", "b", "d"]
    assert isinstance(results[2], ZeroDivisionError)
    assert kept(registry) == ["a", "b", "d"]


def test_a_caller_that_went_away_harms_nobody(registry: Registry) -> None:
    async def run() -> list[Any]:
        database = Database(registry, 4, Load(GatewaySettings()), Metrics())
        calls = [asyncio.create_task(database.together(keep, name)) for name in ("a", "b", "c")]
        await asyncio.sleep(0)
        calls[1].cancel()
        return await asyncio.gather(*calls, return_exceptions=True)

    results = asyncio.run(run())
    assert (results[0], results[2]) == ("a", "c")
    assert {"a", "c"} <= set(kept(registry))


def test_a_registry_that_fails_fails_all_that_waited(tmp_path: Path) -> None:
    registry = Registry.open(f"sqlite:///{tmp_path}/registry.db", patience=0.0)

    def lose(given: Registry, name: str) -> str:
        raise RegistryError("the registry is away")

    results, _ = together(registry, [(keep, "a"), (keep, "b"), (lose, "c"), (keep, "d")])
    assert [str(result) for result in results[1:]] == ["the registry is away"] * 3
    registry.close()


def test_calls_that_wait_are_counted(registry: Registry) -> None:
    load = Load(GatewaySettings())

    async def run() -> int:
        database = Database(registry, 1, load, Metrics())
        calls = [asyncio.create_task(database.call(keep, name)) for name in ("a", "b", "c")]
        await asyncio.sleep(0)
        waiting = load.pending
        await asyncio.gather(*calls)
        return waiting

    assert asyncio.run(run()) == 3
    assert load.pending == 0
