"""A gateway under load, against bare uvicorn and Starlette in the same run.

    .venvs/platform/bin/python -m benchmarks.gateway [--clients 10000] [--cohort 1000]

Clients in processes of their own keep WebSockets to one gateway on SQLite. `kB a connection` is the growth of the
server's resident memory; the baseline echoes messages and knows nobody. Heartbeats come every 30 seconds from each
client; seconds are those that a client waits for the answer. `an assignment` is from the request that opens a round
until the last client of its cohort has its assignment. `reports` are updates of 1.27 MB, uploaded, reported and answered
as kept, with the cohort alone connected; the baseline streams the same bodies to synced files with a digest, in turn, and
medians of three are told. Prints a table and writes benchmarks/results/gateway.json.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from cryptography.hazmat.primitives import serialization
from sqlalchemy import insert

from benchmarks.gateway.clients import key_of, name_of
from benchmarks.results import save, table
from fededge import storage
from fededge.fleet.functions import operators
from fededge.fleet.registry.database import Registry, chunks
from fededge.fleet.registry.tables import clients as clients_table
from fededge.protocol import random_key

ROOT = Path(__file__).resolve().parents[2]
PROCESSES = 2
UPDATE_BYTES = 1_270_000
TURNS = 3
SETTLE = 3.0


class Workers:
    """The processes of clients."""

    def __init__(self, processes: list[subprocess.Popen[str]]) -> None:
        self._processes = processes

    def do(self, commands: list[dict[str, Any]]) -> list[Any]:
        """What each process answers to its command."""
        for process, command in zip(self._processes, commands, strict=True):
            assert process.stdin is not None
            process.stdin.write(json.dumps(command) + "\n")
            process.stdin.flush()
        return [self._answer(process) for process in self._processes]

    def all(self, **command: Any) -> list[Any]:
        """The same command to each."""
        return self.do([command] * len(self._processes))

    def _answer(self, process: subprocess.Popen[str]) -> Any:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line, "a process of clients ended"
        return json.loads(line)


@contextmanager
def started(module: str, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """A process of this benchmark."""
    command = [sys.executable, "-m", f"benchmarks.gateway.{module}", *arguments]
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


@contextmanager
def server(kind: str, folder: Path, *arguments: str) -> Iterator[tuple[str, int]]:
    """URL and process id of a server."""
    with started("servers", kind, str(folder), *arguments) as process:
        assert process.stdout is not None
        yield json.loads(process.stdout.readline())["url"], process.pid


@contextmanager
def workers() -> Iterator[Workers]:
    """Fresh processes of clients."""
    with started("clients") as first, started("clients") as second:
        yield Workers([first, second])


def shares(count: int) -> list[list[int]]:
    """Which clients each process plays."""
    step = count // PROCESSES
    return [[number * step, (number + 1) * step] for number in range(PROCESSES)]


def resident(pid: int) -> float:
    """kB of a process's memory."""
    text = Path(f"/proc/{pid}/status").read_text()
    return float(text.partition("VmRSS:")[2].split()[0])


def connected(group: Workers, url: str, pid: int, count: int, bare: bool) -> tuple[float, float]:
    """kB a connection and seconds, of `count` clients that connect."""
    before = resident(pid)
    begun = time.monotonic()
    group.do([{"do": "connect", "url": url, "numbers": numbers, "bare": bare} for numbers in shares(count)])
    seconds = time.monotonic() - begun
    time.sleep(SETTLE)
    return (resident(pid) - before) / count, seconds


def enrolled(folder: Path, count: int) -> str:
    """A registry with `count` clients in `folder`; the token of an administrator."""
    registry = Registry.open(f"sqlite:///{folder}/registry.db")
    made = operators.first_admin(registry, time.time())
    assert made is not None
    raw = (serialization.Encoding.Raw, serialization.PublicFormat.Raw)
    rows = [
        {
            "tenant": "default",
            "client": name_of(number),
            "random_key": random_key(name_of(number)),
            "kind": "device",
            "state": "active",
            "public_key": key_of(number).public_key().public_bytes(*raw).hex(),
            "attributes": {},
            "capabilities": {},
            "conditions": {},
            "software": "",
            "enrolled": time.time(),
        }
        for number in range(count)
    ]
    for some in chunks(rows):
        registry.run(lambda connection, some=some: connection.execute(insert(clients_table), some))  # type: ignore[misc]
    registry.close()
    return made.token


def opened(
    http: httpx.Client,
    name: str,
    cohort: list[str],
    update_bytes: int = UPDATE_BYTES,
    seconds: float = 3600.0,
) -> float:
    """Open a round; when its request was sent, on the clock of time.monotonic."""
    digests = []
    for data in (b"a plan", b"weights"):
        digests.append(storage.digest(data))
        offer = {"digest": digests[-1], "bytes": len(data)}
        place = http.post("/v1/blobs", json=offer).raise_for_status().json()
        if "url" in place:
            http.put(place["url"], content=data).raise_for_status()
    request = {
        "task": "digits",
        "kind": "train",
        "number": 1,
        "dataset": "digits",
        "order": "an order " * 200,
        "plan": digests[0],
        "weights": digests[1],
        "cohort": cohort,
        "seconds": seconds,
        "update_bytes": update_bytes,
    }
    begun = time.monotonic()
    http.put(f"/v1/rounds/{name}", json=request).raise_for_status()
    return begun


class Rows:
    """The table, each row printed as it comes."""

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []

    def add(self, what: str, value: float, bare: float | None = None) -> None:
        """A row; `bare`: what the baseline has."""
        ratio = "" if bare is None else round(value / bare, 2)
        shown = "" if bare is None else round(bare, 4)
        self.rows.append({"what": what, "gateway": round(value, 4), "bare": shown, "ratio": ratio})
        print(self.rows[-1], flush=True)


def connections(rows: Rows, count: int, cohort: int, folder: Path) -> None:
    """Many clients that are connected, and an assignment to some of them."""
    with server("bare", new(folder, "echo")) as (url, pid), workers() as group:
        bare_kb, bare_connect = connected(group, url, pid, count, bare=True)
    own = new(folder, "many")
    token = enrolled(own, count)
    with server("gateway", own) as (url, pid), workers() as group:
        kb, connect = connected(group, url, pid, count, bare=False)
        rows.add("kB a connection", kb, bare_kb)
        rows.add(f"seconds for {count:,} to connect", connect, bare_connect)
        times = np.array([seconds for part in group.all(do="beats", seconds=60.0) for seconds in part])
        rows.add("heartbeat p50, ms", 1000 * float(np.quantile(times, 0.5)))
        rows.add("heartbeat p99, ms", 1000 * float(np.quantile(times, 0.99)))
        with operator(url, token) as http:
            begun = opened(http, "round", asked(count, cohort))
            last = max(max(part) for part in group.all(do="assigned", count=cohort // PROCESSES))
        rows.add(f"an assignment at {cohort:,}, seconds", last - begun)
        rows.add("MB of the gateway", resident(pid) / 1000)


def reports(rows: Rows, cohort: int, folder: Path) -> None:
    """Rounds in which each client uploads and reports, in turn with uploads to the bare server."""
    own = new(folder, "few")
    token = enrolled(own, cohort)
    own_times, bare_times = [], []
    with (
        server("bare", new(folder, "files")) as (bare, _),
        server("gateway", own) as (url, pid),
        workers() as group,
        operator(url, token) as http,
    ):
        connected(group, url, pid, cohort, bare=False)
        for turn in range(TURNS):
            bodies = {"turn": turn, "size": UPDATE_BYTES}
            commands = [
                {"do": "put", "url": bare, "numbers": numbers, **bodies} for numbers in shares(cohort)
            ]
            bare_times.append(span(group.do(commands)))
            opened(http, f"round-{turn}", asked(cohort, cohort))
            group.all(do="assigned", count=cohort // PROCESSES)
            own_times.append(span(group.all(do="report", **bodies)))
            kept = http.get(f"/v1/rounds/round-{turn}").raise_for_status().json()["reported"]
            assert kept == cohort, kept
    seconds, bare_seconds = statistics.median(own_times), statistics.median(bare_times)
    rows.add(f"{cohort:,} reports, seconds", seconds, bare_seconds)
    rows.add("reports a second", cohort / seconds, cohort / bare_seconds)


def new(folder: Path, name: str) -> Path:
    """An empty folder."""
    made = folder / name
    made.mkdir()
    return made


def asked(count: int, cohort: int) -> list[str]:
    """A cohort, half of it of each process."""
    return [name_of(first + number) for first, _ in shares(count) for number in range(cohort // PROCESSES)]


@contextmanager
def operator(url: str, token: str) -> Iterator[httpx.Client]:
    """An operator's client."""
    headers = {"authorization": f"Bearer {token}"}
    with httpx.Client(base_url=url, headers=headers, trust_env=False, timeout=60) as http:
        yield http


def span(parts: list[list[float]]) -> float:
    """From the first begin to the last end."""
    return max(end for _, end in parts) - min(begin for begin, _ in parts)


def main() -> None:
    """Measure, print and write the result."""
    parser = argparse.ArgumentParser(description="Measure a gateway under load.")
    parser.add_argument("--clients", type=int, default=10_000, help="that are connected (default: 10000)")
    parser.add_argument("--cohort", type=int, default=1000, help="of the round (default: 1000)")
    options = parser.parse_args()
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    with tempfile.TemporaryDirectory(prefix="fededge-benchmark-") as name:
        found = Rows()
        connections(found, options.clients, options.cohort, Path(name))
        reports(found, options.cohort, Path(name))
    print(f"{os.cpu_count()} processors, load {os.getloadavg()[0]:.1f}")
    print(table(found.rows))
    print(save("gateway", found.rows))


if __name__ == "__main__":
    main()
