"""A registry of a million clients: selecting, connecting, handing out work and reporting, on SQLite and PostgreSQL.

    .venvs/platform/bin/python -m benchmarks.registry [--clients 1000000] [--cohort 1000] [--repeats 50]

Both databases lie on this machine's disk and lose nothing that they acknowledged (SQLite: synchronous FULL; PostgreSQL:
fsync, synchronous_commit). All clients are connected, to ten gateways, and hold the dataset. A line is the median of its
repeats, one call after the other (three for the policies that look at every client); `cpu ms` is what this process
worked in it (of SQLite all of the work, of PostgreSQL its client's); `x commit` is the time over the one of a
transaction that writes one row and nothing else, in the same run; `goal` is what a line must not exceed. `draw by SQL`
is what selecting replaces: every client that may take part in random order, and the first of them. Prints a table and
writes benchmarks/results/registry.json.
"""

import argparse
import itertools
import random
import statistics
import tempfile
import time
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Table, create_engine, func, insert, select, text, update

from benchmarks.results import save, table
from fededge.fleet.functions import aggregation, blobs, model_update, monitoring, operators, selection
from fededge.fleet.registry.backup import backup
from fededge.fleet.registry.database import Registry
from fededge.fleet.registry.tables import clients, datasets, gateways, participation, sessions
from fededge.fleet.selection.policy import Candidate
from fededge.protocol import (
    CloseRequest,
    Dataset,
    Hello,
    ReportMessage,
    RoundRequest,
    SelectionRequest,
    Tenant,
    random_key,
)
from tests.postgres import Postgres, missing

TENANT, TASK, DATASET, FRAMEWORK = "hospital", "tumors", "scans", "keras"
SCHEMA, PLAN, WEIGHTS, UPDATE = (f"sha256:{letter * 64}" for letter in "abcd")
UPDATE_BYTES = 1_270_000
GATEWAYS = [f"gateway-{n}" for n in range(10)]
GOALS = {("select", "SQLite"): 100.0, ("select", "PostgreSQL"): 50.0}
"""Milliseconds."""
POLICIES = ("poisson", "fair", "geo", "data_size", "oort", "weighted")
"""Each looks at every client that may take part."""
SELECTIONS = 3
ROWS = 20_000
REGIONS = {"north": 0.6, "east": 0.25, "south": 0.1, "west": 0.04, "isles": 0.01}
ASKED = 0.1
"""Of the clients."""


def name_of(number: int) -> str:
    """Id of a client."""
    return f"device-{number:07}"


@contextmanager
def databases(folder: Path) -> Iterator[dict[str, str]]:
    """URLs of empty databases, by name."""
    urls = {"SQLite": f"sqlite:///{folder}/registry.db"}
    why = missing()
    if why is not None:
        print(f"without PostgreSQL: {why}")
        yield urls
        return
    server = Postgres({"shared_buffers": "512MB", "max_wal_size": "4GB"})
    try:
        server.execute("CREATE DATABASE registry")
        Registry.migrate(server.url("registry"))
        yield {**urls, "PostgreSQL": server.url("registry")}
    finally:
        server.close()


def fill(registry: Registry, count: int, now: float) -> None:
    """Make the tenant, and clients that are connected and hold the dataset."""
    operators.put_tenant(registry, Tenant(name=TENANT), "benchmark", now)
    for digest in (PLAN, WEIGHTS):
        blobs.stored(registry, TENANT, digest, UPDATE_BYTES, now)
    for gateway in GATEWAYS:
        monitoring.lease(registry, gateway, "http://gateway", 86_400.0, now)
    for start in range(0, count, ROWS):
        names = [name_of(number) for number in range(start, min(start + ROWS, count))]
        for into, rows in rows_of(names, now):
            registry.run(lambda connection, into=into, rows=rows: copy(connection, into, rows))  # type: ignore[misc]
    if registry.read(lambda connection: connection.dialect.name) == "postgresql":
        registry.run(lambda connection: connection.execute(text("ANALYZE")))


def facts_of(key: int) -> Candidate:
    """Facts of a client, by its random key: skewed sizes and regions; one in ten took part before."""
    chance = random.Random(key)
    region = chance.choices(list(REGIONS), list(REGIONS.values()))[0]
    train = int(min(10_000, max(10.0, chance.lognormvariate(4.0, 1.0))))
    if chance.random() > ASKED:
        return Candidate("", train, region=region)
    return Candidate(
        "", train, chance.randint(1, 100), region, chance.random(), chance.lognormvariate(2.5, 1.0)
    )


def rows_of(names: list[str], now: float) -> list[tuple[Table, list[dict[str, Any]]]]:
    """Rows of clients, by table."""
    spread = [(name, random_key(name), GATEWAYS[number % 10]) for number, name in enumerate(names)]
    told = {name: facts_of(key) for name, key, _ in spread}
    said = {"attributes": {}, "capabilities": {"processors": "4"}, "conditions": {"charging": "yes"}}
    common = {"kind": "device", "state": "active", "software": "1.0.0", "enrolled": now, "rounds": 0, **said}
    held = {"dataset": DATASET, "test": 10, "schema_digest": SCHEMA, "frameworks": " keras "}
    times = {"opened": now, "last_seen": now, "heartbeat_seconds": 30.0, "expires": now + 90.0}
    return [
        (
            clients,
            [
                {
                    "tenant": TENANT,
                    "client": name,
                    "random_key": key,
                    "public_key": name.encode().hex(),
                    "session": f"session-{name}",
                    "gateway": gateway,
                    "region": told[name].region,
                    "speed": told[name].speed,
                    **common,
                }
                for name, key, gateway in spread
            ],
        ),
        (
            datasets,
            [
                {
                    "tenant": TENANT,
                    "client": name,
                    "random_key": key,
                    "gateway": gateway,
                    "train": told[name].train,
                    **held,
                }
                for name, key, gateway in spread
            ],
        ),
        (
            sessions,
            [
                {
                    "id": f"session-{name}",
                    "tenant": TENANT,
                    "client": name,
                    "gateway": gateway,
                    "ended": False,
                    **times,
                }
                for name, _, gateway in spread
            ],
        ),
        (
            participation,
            [
                {
                    "tenant": TENANT,
                    "task": TASK,
                    "client": name,
                    "random_key": key,
                    "asked": told[name].waited,
                    "loss": told[name].loss,
                }
                for name, key, _ in spread
                if told[name].waited
            ],
        ),
    ]


def copy(connection: Connection, into: Table, rows: list[dict[str, Any]]) -> None:
    """Insert rows; in PostgreSQL by COPY."""
    if connection.dialect.name == "sqlite":
        connection.execute(insert(into), rows)
        return
    columns = list(rows[0])
    processors = [into.c[name].type.bind_processor(connection.dialect) for name in columns]
    cursor: Any = connection.connection.cursor()
    with cursor.copy(f"COPY {into.name} ({', '.join(columns)}) FROM STDIN") as target:
        for row in rows:
            values = [row[name] for name in columns]
            pairs = zip(values, processors, strict=True)
            target.write_row([process(value) if process else value for value, process in pairs])


class Measured:
    """Times of calls on one database, in milliseconds, by what was called, and how long this process worked in them."""

    def __init__(
        self, registry: Registry, url: str, count: int, cohort: int, repeats: int, now: float
    ) -> None:
        self.registry = registry
        self.url = url
        self.count = count
        self.size = cohort
        self.repeats = repeats
        self.now = now
        self.times: dict[str, list[float]] = {}
        self.worked: dict[str, list[float]] = {}
        self.cohort_kilobytes = 0.0
        self._numbers = itertools.count()

    def timed(self, what: str, call: Callable[[], Any]) -> Any:
        """What `call` returns, once its time is noted."""
        begun, worked = time.perf_counter(), time.process_time()
        result = call()
        self.times.setdefault(what, []).append(1000 * (time.perf_counter() - begun))
        self.worked.setdefault(what, []).append(1000 * (time.process_time() - worked))
        return result

    def run(self) -> None:
        """Measure everything."""
        for _ in range(self.repeats):
            self.timed("commit", self._commit)
            self.timed("select", self._select)
            self.timed("connect", self._connect)
            self.timed("due, nothing to do", lambda: self._due(GATEWAYS[0]))
        self.timed("draw by SQL", self._draw)
        for policy in POLICIES:
            for _ in range(SELECTIONS):
                self.timed(f"select, {policy}", partial(self._select, policy))
        tracemalloc.start()
        self._select()
        self.cohort_kilobytes = tracemalloc.get_traced_memory()[1] / 1000
        tracemalloc.stop()
        for _ in range(3):
            self._round()
        self.registry.run(self._leave)
        self._tidy_up()
        for _ in range(self.repeats):
            self.timed("select, 1 of 100 is there", self._select)

    def _commit(self) -> None:
        seen = update(gateways).where(gateways.c.id == GATEWAYS[0]).values(url=str(next(self._numbers)))
        self.registry.run(lambda connection: connection.execute(seen))

    def _select(self, policy: str = "uniform") -> list[str]:
        request = SelectionRequest(
            policy=policy,
            weights={"oort": 2.0, "geo": 1.0, "fair": 1.0} if policy == "weighted" else {},
            task=TASK,
            dataset=DATASET,
            framework=FRAMEWORK,
            schema_digest=SCHEMA,
            size=self.size,
            seed=1,
            number=next(self._numbers),
        )
        return selection.select(self.registry, TENANT, request, self.now).cohort

    def _connect(self) -> None:
        number = (7919 * next(self._numbers)) % self.count
        hello = Hello(
            tenant=TENANT,
            client=name_of(number),
            signature="",
            software="1.0.1",
            frameworks=[FRAMEWORK],
            datasets=[Dataset(name=DATASET, train=101, test=10, schema_digest=SCHEMA)],
        )
        monitoring.connect(self.registry, GATEWAYS[number % 10], hello, 30.0, self.now)

    def _due(self, gateway: str) -> list[model_update.Due]:
        return model_update.due(self.registry, gateway, self.now, self.size)

    def _draw(self) -> None:
        eligible = select(datasets.c.client).where(datasets.c.tenant == TENANT, datasets.c.dataset == DATASET)
        draw = eligible.order_by(func.random()).limit(self.size)
        self.registry.read(lambda connection: connection.execute(draw).all())

    def _round(self) -> None:
        """Open a round, hand it out, and report on all of it."""
        cohort, round = self._select(), f"round-{next(self._numbers)}"
        request = RoundRequest(
            task=TASK,
            kind="train",
            number=1,
            dataset=DATASET,
            order="signed" * 200,
            plan=PLAN,
            weights=WEIGHTS,
            cohort=cohort,
            seconds=3600.0,
            update_bytes=UPDATE_BYTES,
        )
        self.timed(
            "open a round", lambda: model_update.open_round(self.registry, TENANT, round, request, self.now)
        )
        due: list[model_update.Due] = []
        for gateway in GATEWAYS:
            due += self.timed("due, a tenth of a cohort", partial(self._due, gateway))
        for each in due:
            who = (self.registry, TENANT, each.client)
            blobs.stored(self.registry, TENANT, UPDATE, UPDATE_BYTES, self.now, each.client)
            self.timed("accept", partial(model_update.accept, *who, each.assignment, self.now))
            message = ReportMessage(assignment=each.assignment, update=UPDATE, seconds=10.0)
            self.timed("report", partial(aggregation.report, *who, message, self.now))
        self.timed("read 1,000 reports", lambda: aggregation.reports(self.registry, TENANT, round, 0))
        committed = CloseRequest(outcome="committed")
        self.timed(
            "close a round", lambda: aggregation.close(self.registry, TENANT, round, committed, self.now)
        )

    def _leave(self, connection: Connection) -> None:
        """99 of 100 clients go."""
        gone = update(datasets).where(datasets.c.random_key % 100 != 0).values(gateway=None)
        connection.execute(gone)

    def _tidy_up(self) -> None:
        """What the databases do by themselves after a while."""
        engine = create_engine(self.url, isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            sqlite = engine.dialect.name == "sqlite"
            connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)" if sqlite else "VACUUM ANALYZE")
        engine.dispose()


def main() -> None:
    """Measure, print and write the result."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--clients", type=int, default=1_000_000, help="in the registry (default: 1000000)")
    parser.add_argument("--cohort", type=int, default=1000, help="clients of a round (default: 1000)")
    parser.add_argument("--repeats", type=int, default=50, help="of each call (default: 50)")
    options = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as folder, databases(Path(folder)) as urls:
        for name, url in urls.items():
            registry = Registry.open(url)
            now = time.time()
            begun = time.perf_counter()
            fill(registry, options.clients, now)
            print(f"{name}: {options.clients:,} clients in {time.perf_counter() - begun:.0f} s", flush=True)
            measured = Measured(registry, url, options.clients, options.cohort, options.repeats, now)
            measured.run()
            measured.timed("back it up", partial(backup, url, Path(folder) / f"{name}.zip"))
            registry.close()
            commit = statistics.median(measured.times["commit"])
            for what, times in measured.times.items():
                middle = statistics.median(times)
                goal = GOALS.get((what, name))
                rows.append(
                    {
                        "database": name,
                        "call": what,
                        "times": len(times),
                        "median ms": f"{middle:.1f}",
                        "p99 ms": f"{sorted(times)[int(0.99 * (len(times) - 1))]:.1f}",
                        "cpu ms": f"{statistics.median(measured.worked[what]):.1f}",
                        "x commit": f"{middle / commit:.1f}",
                        "goal ms": "" if goal is None else f"{goal:g}",
                        "met": "" if goal is None else "yes" if middle <= goal else "NO",
                    }
                )
            print(
                f"{name}: selecting takes {measured.cohort_kilobytes:,.0f} kB of memory at most", flush=True
            )
    print(table(rows))
    print(save("registry", rows))


if __name__ == "__main__":
    main()
