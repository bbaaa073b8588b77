"""Stragglers: 100 clients of which 30 % are five times slower, waited for and not.

    .venvs/platform/bin/python -m benchmarks.gateway.stragglers [--clients 100] [--rounds 8]

A gateway, and 100 clients of FedEdge's in a process of their own: they connect, obey signed orders, fetch, upload and
report as sites do, but train in place, a softmax regression on points around ten centers with labels skewed from client
to client, and take as long as they are told: two seconds, or five times that. A round has 40 seats:

- `all`: 40 clients are asked at random, and all of them are waited for;
- `over-selection`: 60 are asked, and the first 40 count;
- `deadline`: 40 are asked, and those count that report within 5 seconds.

Told are the wall time of a round (median), the accuracy on held-out points after all rounds, and the one that each way
had reached when the fastest was done. Prints a table and writes benchmarks/results/stragglers.json.
"""

import argparse
import asyncio
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.results import save, table
from fededge import storage
from fededge.device.child import Answered, Runner, Setting
from fededge.device.client import Client
from fededge.device.clock import Clock
from fededge.device.pace import Pace
from fededge.device.workplace import workplace
from fededge.fleet.registry.database import Registry
from tests.gateway_client import Operator
from tests.gateway_process import Gateway, token
from tests.light_fleet import RUNNER, LightFleet

FAST_SECONDS, SLOWER, SLOW_SHARE = 2.0, 5.0, 0.3
SEATS, ASKED, DEADLINE = 40, 60, 5.0
WAYS: dict[str, tuple[int, dict[str, Any]]] = {
    "all": (SEATS, {}),
    "over-selection": (ASKED, {"goal": SEATS}),
    "deadline": (SEATS, {"seconds": DEADLINE}),
}
CENTERS = np.random.default_rng(0).normal(size=(10, 32))
EXAMPLES, RATE = 60, 0.003


def points(seed: int, count: int, odds: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Noisy points around the centers, and whose they are."""
    chance = np.random.default_rng(seed)
    y = chance.choice(10, size=count, p=odds)
    return CENTERS[y] + chance.normal(scale=2.5, size=(count, 32)), y


HELD_OUT = points(1, 4000)


def learned(weights: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The weights (33 x 10, the last row is the bias) after one pass."""
    weights = weights.copy()
    for start in range(0, len(y), 10):
        rows = np.c_[x[start : start + 10], np.ones(len(x[start : start + 10]))]
        odds = np.exp(rows @ weights - (rows @ weights).max(axis=1, keepdims=True))
        shares = odds / odds.sum(axis=1, keepdims=True)
        shares[np.arange(len(rows)), y[start : start + 10]] -= 1
        weights -= RATE * rows.T @ shares
    return weights


def accuracy(weights: np.ndarray) -> float:
    """On what is held out."""
    x, y = HELD_OUT
    return float(((x @ weights[:-1] + weights[-1]).argmax(axis=1) == y).mean())


class InPlace(Runner):
    """Trains in this process, and takes its time."""

    def __init__(self, number: int, seconds: float) -> None:
        odds = np.random.default_rng(number).dirichlet(np.full(10, 0.3))
        self._data, self._seconds = points(100 + number, EXAMPLES, odds), seconds

    async def ask(
        self, setting: Setting, request: Mapping[str, Any], weights: Path, update: Path
    ) -> Answered:
        """See Runner."""
        before = np.frombuffer(weights.read_bytes()).reshape(33, 10)
        after = learned(before, *self._data).tobytes()
        update.write_bytes(after)
        await asyncio.sleep(self._seconds)
        return Answered({}, storage.digest(after))

    async def close(self) -> None:
        """See Runner."""


async def work(folders: Sequence[Path]) -> None:
    """The clients in these folders, of which the first are slow."""
    with ExitStack() as stack:
        clients = []
        for number, folder in enumerate(folders):
            slow = number < SLOW_SHARE * len(folders)
            here = workplace(folder / "site", folder / "policy.yaml", RUNNER, Clock())
            runner = InPlace(number, FAST_SECONDS * (SLOWER if slow else 1.0))
            clients.append(Client(replace(stack.enter_context(here), runner=runner), Pace(0.1, 1.0)))
        await asyncio.gather(*(client.run() for client in clients))


@dataclass
class Learned:
    """What one way came to: seconds of each round, and when which accuracy was reached."""

    seconds: list[float]
    reached: list[tuple[float, float]]

    def at(self, seconds: float) -> float:
        """The accuracy after so many seconds."""
        return max((found for at, found in self.reached if at <= seconds), default=0.1)


def learn(way: str, rounds: int, names: list[str], fleet: LightFleet, admin: Operator) -> Learned:
    """All rounds of one way."""
    asked, changes = WAYS[way]
    chance, weights = random.Random(7), np.zeros((33, 10))
    found, begun = Learned([], []), time.monotonic()
    for number in range(1, rounds + 1):
        name, started = f"{way}-{number}", time.monotonic()
        cohort = sorted(chance.sample(names, asked))
        fleet.open(name, number, cohort, weights.nbytes, weights=weights.tobytes(), **changes)
        updates, after, more = [], 0, True
        while more:
            query = {"after": after, "wait": 20}
            told = admin("GET", f"/v1/rounds/{name}/reports", params=query)
            more = told["open"] or bool(told["items"])
            for item in told["items"]:
                after = item["ordinal"]
                if item.get("update"):
                    data = admin.http.get(item["url"]).content
                    updates.append(np.frombuffer(data).reshape(33, 10))
        weights = np.mean(updates, axis=0) if updates else weights
        fleet.committed(name)
        found.seconds.append(time.monotonic() - started)
        found.reached.append((time.monotonic() - begun, accuracy(weights)))
    return found


def main() -> None:
    """Measure, print and write the result; with folders, be their clients."""
    parser = argparse.ArgumentParser(description="Learn with clients of which some are slow.")
    parser.add_argument("--clients", type=int, default=100, help="default: 100")
    parser.add_argument("--rounds", type=int, default=8, help="of each way (default: 8)")
    parser.add_argument("folders", type=Path, nargs="*", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.folders:
        asyncio.run(work(options.folders))
        return
    names = [f"client-{number:03}" for number in range(options.clients)]
    with tempfile.TemporaryDirectory(prefix="fededge-benchmark-") as text, ExitStack() as stack:
        folder = Path(text)
        gateway = stack.enter_context(Gateway.start(folder, poll_seconds=0.25))
        registry = Registry.open(f"sqlite:///{folder}/registry.db")
        admin = Operator(gateway.url, token(registry))
        registry.close()
        fleet = stack.enter_context(LightFleet(folder / "sites", gateway.url, admin))
        fleet.enroll(names)
        fleet.start(names, [sys.executable, "-m", "benchmarks.gateway.stragglers"])
        fleet.wait_for(names)
        learned_by = {way: learn(way, options.rounds, names, fleet, admin) for way in WAYS}
        admin.close()
    shortest = min(sum(found.seconds) for found in learned_by.values())
    whole = statistics.median(learned_by["all"].seconds)
    rows = [
        {
            "way": way,
            "a round, s": round(statistics.median(found.seconds), 2),
            "against all": round(statistics.median(found.seconds) / whole, 2),
            "accuracy": round(found.reached[-1][1], 3),
            f"accuracy after {shortest:.0f} s": round(found.at(shortest), 3),
        }
        for way, found in learned_by.items()
    ]
    print(table(rows))
    print(save("stragglers", rows))


if __name__ == "__main__":
    main()
