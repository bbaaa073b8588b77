"""Twice the clients that a gateway may have, and twice the rate at which it takes them in.

    .venvs/platform/bin/python -m benchmarks.gateway.overload [--clients 2000] [--seconds 20]

Two loads, each on a gateway of its own with SQLite, which serves as many clients as said:

- `clients`: that is all it may have, and as many again come within the time. Then half of those that it serves leave.
- `connects`: it may have more; others come at the rate at which it takes in 100 at a time (measured first), then at
  twice that rate, for the time.

Told are heartbeats of those that it serves (one every two seconds; milliseconds), alone, under the load, and afterwards;
of those that came, how many it took in, and within how many seconds; how often one was sent away, and after how many
seconds it was to come again. Prints a table and writes benchmarks/results/overload.json.
"""

import argparse
import resource
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from benchmarks.gateway.__main__ import Workers, enrolled, new, server, started
from benchmarks.results import save, table

BEAT = 2.0
CALM = 10.0
"""Seconds for which heartbeats are looked at without other load."""


class Fleet:
    """A gateway, the clients that it serves, and others that come.

    Args:
        url: of the gateway.
        served, others: a process of clients each.
        count: that are served.
    """

    def __init__(self, url: str, served: Workers, others: Workers, count: int) -> None:
        self._url, self._served, self._others, self._next = url, served, others, count
        served.all(do="connect", url=url, numbers=[0, count], bare=False, beat=BEAT)

    def alone(self, seconds: float = CALM) -> dict[str, Any]:
        """Heartbeats of those that are served, for so long."""
        (times,) = self._served.all(do="beats", seconds=seconds)
        p50, p99 = np.quantile(np.array(times), (0.5, 0.99))
        return {"beat p50": round(1000 * float(p50), 1), "beat p99": round(1000 * float(p99), 1)}

    def while_come(
        self, count: int, seconds: float, patience: float
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Heartbeats while `count` others come within `seconds`, and what became of these within `patience` seconds."""
        numbers = [self._next, self._next + count]
        self._next += count
        storm = {"url": self._url, "numbers": numbers, "seconds": seconds, "patience": patience}
        with ThreadPoolExecutor(1) as thread:
            coming = thread.submit(self._others.all, do="storm", **storm)
            held = self.alone(seconds)
            if patience > seconds:
                self._served.all(do="leave", count=count // 2)
            (came,) = coming.result()
        return held, _told(count, came)

    def rate(self, count: int) -> float:
        """Clients that the gateway takes in a second."""
        numbers = [self._next, self._next + count]
        self._next += count
        (seconds,) = self._others.all(do="connect", url=self._url, numbers=numbers, bare=False)
        self._others.all(do="leave", count=count)
        time.sleep(1.0)
        while self._pending() > 0:  # that they left is written down, one after the other
            time.sleep(1.0)
        return count / float(seconds)

    def _pending(self) -> float:
        """Calls that wait for the gateway's registry."""
        metrics = httpx.get(f"{self._url}/metrics", trust_env=False, timeout=60).text
        return float(metrics.partition("\nfededge_pending ")[2].split()[0])


def _told(count: int, came: dict[str, Any]) -> dict[str, Any]:
    welcome, retries = came["welcome"], came["turned_away"]
    return {
        "came": count,
        "taken in": len(welcome),
        "welcome p99": round(1000 * float(np.quantile(welcome, 0.99)), 1) if welcome else "",
        "sent away": len(retries),
        "come again, s": f"{min(retries):.0f} to {max(retries):.0f}" if retries else "",
    }


@contextmanager
def fleet(folder: Path, name: str, count: int, enrolled_count: int, most: int) -> Iterator[Fleet]:
    """A gateway that may have `most` clients, and serves `count`."""
    own = new(folder, name)
    enrolled(own, enrolled_count)
    with (
        server("gateway", own, str(most)) as (url, _),
        started("clients") as served,
        started("clients") as others,
    ):
        yield Fleet(url, Workers([served]), Workers([others]), count)


def clients(folder: Path, count: int, seconds: float) -> Iterator[dict[str, Any]]:
    """Twice the clients that it may have."""
    with fleet(folder, "clients", count, 2 * count, count) as here:
        yield {"phase": "alone", **here.alone()}
        held, came = here.while_come(count, seconds, patience=4 * seconds)
        yield {"phase": "as many again come", **held, **came}
        yield {"phase": "afterwards", **here.alone()}


def connects(folder: Path, count: int, seconds: float) -> Iterator[dict[str, Any]]:
    """Twice the rate at which it takes clients in."""
    tried = 2000
    most = count + tried + round(6 * seconds * 1000)
    with fleet(folder, "connects", count, most, most) as here:
        yield {"phase": "alone", **here.alone()}
        rate = here.rate(tried)
        for times in (1, 2):
            arriving = round(times * rate * seconds)
            held, came = here.while_come(arriving, seconds, patience=seconds)
            yield {"phase": f"{times * rate:.0f} come a second", **held, **came}
        yield {"phase": "afterwards", **here.alone()}


def main() -> None:
    """Measure, print and write the result."""
    parser = argparse.ArgumentParser(description="Bring a gateway twice the load that it serves.")
    parser.add_argument("--clients", type=int, default=2000, help="that it serves (default: 2000)")
    parser.add_argument("--seconds", type=float, default=20.0, help="of each load (default: 20)")
    options = parser.parse_args()
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    rows = []
    columns = ("load", "phase", "beat p50", "beat p99", "came", "taken in", "welcome p99", "sent away")
    with tempfile.TemporaryDirectory(prefix="fededge-benchmark-") as name:
        for load in (clients, connects):
            for line in load(Path(name), options.clients, options.seconds):
                found = {"load": load.__name__, **line}
                rows.append({column: found.get(column, "") for column in (*columns, "come again, s")})
                print(rows[-1], flush=True)
    print(table(rows))
    print(save("overload", rows))


if __name__ == "__main__":
    main()
