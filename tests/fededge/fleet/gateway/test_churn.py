"""Clients that come and go: what a gateway holds does not grow with how many there were (ten minutes of it:
benchmarks.gateway.churn).
"""

import statistics
from pathlib import Path

import pytest
import uvloop

from benchmarks.gateway import churn
from benchmarks.gateway.__main__ import enrolled, server

SECONDS = 20.0
CLIENTS = 60
MOST_KB = 12_000
"""More than SQLite's caches still take by then, and less than what a kilobyte lost at each message would be."""


@pytest.mark.slow
def test_memory_and_descriptors_do_not_grow_with_clients_that_come_and_go(tmp_path: Path) -> None:
    token = enrolled(tmp_path, CLIENTS)
    with server("gateway", tmp_path) as (url, pid):
        empty = churn.Churn()
        empty.sample(pid)
        found = uvloop.run(churn.run(url, pid, token, CLIENTS, SECONDS))
    assert found.connects > 5 * CLIENTS
    assert found.vanished > CLIENTS
    assert found.updates > CLIENTS
    early, late = found.memory[2:5], found.memory[-4:]
    assert statistics.median(late) - statistics.median(early) < MOST_KB
    assert found.descriptors[-1] <= empty.descriptors[0] + 40  # connections to the registry stay open
