"""Clients that connect, work, vanish and come back: the gateway's memory and descriptors do not grow.

    .venvs/platform/bin/python -m benchmarks.gateway.churn [--minutes 10] [--clients 200]

Each client stays for a few seconds, hands in an update where it has an assignment, and vanishes, in half of the cases
without a word; then it comes back. A round for a tenth of them opens every second and ends with its deadline of five.
Memory and descriptors are told at the end of each tenth of the time, and, last, once everybody is gone.
"""

import argparse
import asyncio
import random
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import uvloop
from websockets.exceptions import WebSocketException

from benchmarks.gateway.__main__ import enrolled, opened, operator, resident, server
from benchmarks.gateway.clients import Client, Sender, name_of, update_of
from benchmarks.results import save, table
from fededge import storage

STAY_SECONDS = 4.0
ROUND_SECONDS = 5.0
UPDATE_BYTES = 50_000
SAMPLES = 10


@dataclass
class Churn:
    """What happened, and what the gateway's process held: kB of memory and descriptors, sample by sample."""

    connects: int = 0
    updates: int = 0
    vanished: int = 0
    memory: list[float] = field(default_factory=list)
    descriptors: list[int] = field(default_factory=list)

    def sample(self, pid: int) -> None:
        """Look at the gateway."""
        self.memory.append(resident(pid))
        self.descriptors.append(len(list(Path(f"/proc/{pid}/fd").iterdir())))


async def come_and_go(found: Churn, url: str, number: int, until: float) -> None:
    """One client, until it is time."""
    chance = random.Random(number)
    turn = 0
    while time.monotonic() < until:
        client, sender = Client(number), Sender(url)
        try:
            async with asyncio.timeout(60):
                await client.open(url, bare=False)
                found.connects += 1
                await asyncio.sleep(chance.uniform(0, STAY_SECONDS))
                if client.assignment is not None:
                    turn += 1
                    update = update_of(number, turn, UPDATE_BYTES)
                    with suppress(AssertionError, TimeoutError):  # the round may be over
                        async with asyncio.timeout(ROUND_SECONDS):
                            await client.hand_in(sender, update, storage.digest(update))
                            found.updates += 1
                if chance.random() < 0.5:
                    await client.say({"type": "bye", "reason": "ENDING"})
                else:
                    found.vanished += 1
        except (OSError, WebSocketException, TimeoutError):
            await asyncio.sleep(chance.random())
        finally:
            client.vanish()
            sender.close()


async def open_rounds(http: httpx.Client, count: int, until: float) -> None:
    """A round every second for a tenth of the clients."""
    number = 0
    while time.monotonic() < until:
        number += 1
        cohort = [name_of(each) for each in random.sample(range(count), max(1, count // 10))]
        await asyncio.to_thread(opened, http, f"round-{number}", cohort, UPDATE_BYTES, ROUND_SECONDS)
        await asyncio.sleep(1.0)


async def run(url: str, pid: int, token: str, count: int, seconds: float) -> Churn:
    """Churn at a gateway for so many seconds."""
    found, until = Churn(), time.monotonic() + seconds

    async def look() -> None:
        for _ in range(SAMPLES):
            await asyncio.sleep(seconds / SAMPLES)
            found.sample(pid)

    with operator(url, token) as http:
        tasks = [come_and_go(found, url, number, until) for number in range(count)]
        await asyncio.gather(*tasks, open_rounds(http, count, until), look())
        connected = {"connected": True}
        while (await asyncio.to_thread(http.get, "/v1/clients", params=connected)).json()["items"]:
            await asyncio.sleep(0.2)
    found.sample(pid)
    return found


def main() -> None:
    """Churn, print and write the result."""
    parser = argparse.ArgumentParser(description="Let clients come and go.")
    parser.add_argument("--minutes", type=float, default=10.0, help="default: 10")
    parser.add_argument("--clients", type=int, default=200, help="default: 200")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="fededge-benchmark-") as name:
        token = enrolled(Path(name), options.clients)
        with server("gateway", Path(name)) as (url, pid):
            found = uvloop.run(run(url, pid, token, options.clients, 60 * options.minutes))
    rows = [
        {"sample": number, "MB": round(kb / 1000, 1), "descriptors": held}
        for number, (kb, held) in enumerate(zip(found.memory, found.descriptors, strict=True), 1)
    ]
    print(f"{found.connects:,} connects, {found.vanished:,} vanished, {found.updates:,} updates")
    print(table(rows))
    print(save("churn", rows))


if __name__ == "__main__":
    main()
