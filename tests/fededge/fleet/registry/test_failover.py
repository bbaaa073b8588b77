"""A primary that dies in the middle of work: its standby takes over, and nothing that was acknowledged is lost."""

import itertools
import threading
import time
from collections.abc import Iterator

import pytest

from fededge.fleet.functions import aggregation, blobs, enrollment, model_update
from fededge.fleet.registry import audit
from fededge.fleet.registry.database import Registry
from fededge.protocol import ReportMessage
from tests.postgres import LIMIT, Postgres, missing
from tests.registries import (
    GATEWAY,
    NOW,
    TENANT,
    UPDATE,
    UPDATE_BYTES,
    connect,
    enroll,
    make_fleet,
    open_round,
)

pytestmark = pytest.mark.slow
DURABLE = {"fsync": "on", "synchronous_commit": "on", "wal_level": "replica"}
THREADS = 4


@pytest.fixture
def primary() -> Iterator[Postgres]:
    why = missing()
    if why is not None:
        pytest.skip(why)
    server = Postgres(DURABLE)
    yield server
    server.close()


@pytest.fixture
def standby(primary: Postgres) -> Iterator[Postgres]:
    """Follows the primary, whose commits wait for it from now on."""
    primary.execute("CREATE DATABASE registry")
    server = Postgres(DURABLE, standby_of=primary)
    primary.execute("ALTER SYSTEM SET synchronous_standby_names = 'standby'")
    primary.execute("SELECT pg_reload_conf()")
    until = time.monotonic() + LIMIT
    while primary.execute("SELECT sync_state FROM pg_stat_replication") != [("sync",)]:
        assert time.monotonic() < until, "the standby does not follow"
        time.sleep(0.05)
    yield server
    server.close()


def test_nothing_acknowledged_is_lost_when_the_primary_is_killed_and_its_standby_promoted(
    primary: Postgres, standby: Postgres
) -> None:
    hosts = f"host=127.0.0.1:{primary.port}&host=127.0.0.1:{standby.port}"
    url = f"postgresql://fededge@/registry?{hosts}&target_session_attrs=read-write"
    Registry.migrate(url)
    registry = Registry.open(url)
    make_fleet(registry, [])
    acknowledged: list[tuple[str, str]] = []
    numbers = itertools.count()
    some, over = threading.Event(), threading.Event()
    failures: list[BaseException] = []

    def work() -> None:
        """Enroll clients, one after the other, and have each report on a round of its own."""
        try:
            while not over.is_set():
                client = f"client-{next(numbers)}"
                enroll(registry, client)
                blobs.stored(registry, TENANT, UPDATE, UPDATE_BYTES, NOW, client)
                acknowledged.append(("enrolled", client))
                connect(registry, client)
                open_round(registry, [client], f"round-{client}")
                acknowledged.append(("opened", client))
                assignment = aggregation.queue(registry, TENANT, f"round-{client}").items[0].assignment
                message = ReportMessage(assignment=assignment, update=UPDATE)
                answer = aggregation.report(registry, TENANT, client, message, NOW).answer
                assert answer.outcome == "kept"
                acknowledged.append(("reported", client))
                if len(acknowledged) > 60:
                    some.set()
        except BaseException as error:  # noqa: BLE001 (the test looks at it)
            failures.append(error)
            some.set()

    threads = [threading.Thread(target=work) for _ in range(THREADS)]
    for thread in threads:
        thread.start()
    assert some.wait(120)
    primary.kill()
    before = len(acknowledged)
    standby.promote()
    some.clear()
    while len(acknowledged) < before + 60 and not failures:
        some.wait(1)
        some.clear()
    over.set()
    for thread in threads:
        thread.join()
    assert failures == []
    assert len(acknowledged) >= before + 60
    for what, client in acknowledged:
        assert enrollment.info(registry, TENANT, client, NOW).state == "active"
        if what == "opened":
            assert aggregation.status(registry, TENANT, f"round-{client}").cohort == [client]
        if what == "reported":
            (report,) = aggregation.reports(registry, TENANT, f"round-{client}", 0).items
            assert (report.ordinal, report.client, report.update) == (1, client, UPDATE)
    assert audit.verify(registry) is None
    assert model_update.cancels(registry, GATEWAY, NOW) == []
    registry.close()
