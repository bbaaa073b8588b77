import asyncio
from pathlib import Path

import pytest

from fededge.fleet.functions import operators
from fededge.fleet.gateway import auth
from fededge.fleet.gateway.database import Database
from fededge.fleet.gateway.observing import Metrics
from fededge.fleet.gateway.overload import Load
from fededge.fleet.gateway.settings import GatewaySettings
from fededge.fleet.registry.database import Registry
from fededge.protocol import OperatorRequest
from tests.registries import NOW, TENANT, make_tenant


def test_that_a_token_is_used_is_noted_once_a_minute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    registry = Registry.open(f"sqlite:///{tmp_path}/registry.db")
    make_tenant(registry)
    made = operators.make(registry, TENANT, OperatorRequest(name="ci", scope="operator"), "admin", NOW)
    noted = []

    async def run() -> None:
        database = Database(registry, 2, Load(GatewaySettings()), Metrics())
        callers = auth.Authentication(database, None, None)
        for seconds in (1.0, 30.0, 60.9, 61.0):
            monkeypatch.setattr("fededge.fleet.gateway.auth.time.time", lambda at=NOW + seconds: at)
            actor = await callers.actor({"authorization": f"Bearer {made.token}"})
            assert (actor.tenant, actor.name, actor.scope) == (TENANT, "ci", "operator")
            noted.append(operators.listing(registry, TENANT).items[0].last_used)
        await database.close()

    asyncio.run(run())
    assert noted == [NOW + 1.0, NOW + 1.0, NOW + 1.0, NOW + 61.0]
