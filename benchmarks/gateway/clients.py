"""Thousands of clients in one process, which do what the benchmark says: a line of JSON in, one out."""

import asyncio
import base64
import gc
import hashlib
import json
import random
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

import uvloop
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from fededge import storage
from fededge.protocol import (
    SUBPROTOCOL,
    Assignment,
    Challenge,
    Refused,
    UploadPlace,
    connection_bytes,
    from_gateway,
)

TOGETHER = 50
"""Connections that are opened at a time."""
HEARTBEAT_SECONDS = 30.0
SENDERS = 16
"""Uploads at a time."""
HELD = {"name": "digits", "train": 100, "test": 10, "schema_digest": storage.digest(b"schema")}


def name_of(number: int) -> str:
    """The id of a client."""
    return f"client-{number:05}"


def key_of(number: int) -> Ed25519PrivateKey:
    """Its key, which benchmark and client make alike."""
    return Ed25519PrivateKey.from_private_bytes(hashlib.sha256(name_of(number).encode()).digest())


def update_of(number: int, turn: int, size: int) -> bytes:
    """An update of its own."""
    return hashlib.sha256(f"{name_of(number)} {turn}".encode()).digest() + bytes(size - 32)


class Client:
    """One client."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.socket: ClientConnection | None = None
        self.answers: asyncio.Queue[Any] = asyncio.Queue()
        self.heard: asyncio.Future[None] | None = None
        self.beats: list[float] = []
        self.turned_away: list[float] = []
        self.welcome_seconds = 0.0
        self.assignment: tuple[float, Assignment] | None = None
        self.tasks: list[asyncio.Task[None]] = []

    async def open(self, url: str, bare: bool, beat: float = HEARTBEAT_SECONDS) -> None:
        """Connect, and be welcome; whoever is told to come back later does so."""
        begun = time.monotonic()
        while (retry := await self._connect(url, bare)) > 0:
            self.turned_away.append(retry)
            await asyncio.sleep(retry)
            begun = time.monotonic()
        self.welcome_seconds = time.monotonic() - begun
        self.tasks.append(asyncio.create_task(self._listen()))
        if not bare:
            self.tasks.append(asyncio.create_task(self._beat(beat)))

    async def _connect(self, url: str, bare: bool) -> float:
        """Connect once; 0.0 where it is welcome, else after how many seconds to come again."""
        address = f"127.0.0.{2 + self.number % 200}"
        subprotocols: Any = [SUBPROTOCOL]
        try:
            self.socket = await connect(
                f"ws{url.removeprefix('http')}/v1/connect",
                subprotocols=subprotocols,
                compression=None,
                ping_interval=None,
                open_timeout=60,
                proxy=None,
                local_addr=(address, 0),
            )
        except InvalidStatus as refused:
            if refused.response.status_code != 503:
                raise
            return float(refused.response.headers["retry-after"])
        return 0.0 if bare else await self._prove()

    async def _prove(self) -> float:
        """Say who this is; 0.0 once it is welcome, else after how many seconds to come again."""
        assert self.socket is not None
        challenge = from_gateway(await self.socket.recv())
        assert isinstance(challenge, Challenge)
        told = connection_bytes(
            base64.b64decode(challenge.nonce), challenge.gateway, "default", name_of(self.number)
        )
        hello = {
            "type": "hello",
            "tenant": "default",
            "client": name_of(self.number),
            "signature": base64.b64encode(key_of(self.number).sign(told)).decode(),
            "frameworks": ["keras"],
            "datasets": [HELD],
        }
        await self.socket.send(json.dumps(hello))
        answer = from_gateway(await self.socket.recv())
        if isinstance(answer, Refused):
            assert answer.reason == "OVERLOADED", answer
            return answer.retry_seconds or 1.0
        assert answer.type == "welcome", answer
        return 0.0

    async def _listen(self) -> None:
        assert self.socket is not None
        with suppress(ConnectionClosed):
            async for text in self.socket:
                if '"heartbeat"' in str(text):
                    if self.heard is not None and not self.heard.done():
                        self.heard.set_result(None)
                    continue
                message = from_gateway(text)
                if isinstance(message, Assignment):
                    self.assignment = (time.monotonic(), message)
                    await self.say({"type": "accept", "assignment": message.id})
                else:
                    await self.answers.put(message)

    async def say(self, message: dict[str, Any]) -> None:
        assert self.socket is not None
        await self.socket.send(json.dumps(message))

    async def _beat(self, seconds: float) -> None:
        """Send heartbeats, and keep how many seconds each took to be answered."""
        await asyncio.sleep(random.uniform(0, seconds))
        while True:
            self.heard = asyncio.get_running_loop().create_future()
            begun = time.perf_counter()
            await self.say({"type": "heartbeat"})
            await self.heard
            self.beats.append(time.perf_counter() - begun)
            await asyncio.sleep(seconds)

    async def hand_in(self, sender: "Sender", update: bytes, digest: str) -> None:
        """Upload an update, and report it."""
        assert self.assignment is not None
        told = {"assignment": self.assignment[1].id}
        await self.say({"type": "upload", "digest": digest, "bytes": len(update), **told})
        place = await self.answer("place")
        assert isinstance(place, UploadPlace)
        await sender.put(f"/{place.url.lstrip('/')}", update)
        await self.say({"type": "report", "update": digest, "seconds": 1.0, **told})
        while (received := await self.answer("received")).of != "report":
            pass
        assert received.outcome == "kept", received
        self.assignment = None

    def vanish(self) -> None:
        """Be gone without a word."""
        for task in self.tasks:
            task.cancel()
        if self.socket is not None:
            self.socket.transport.abort()

    async def answer(self, kind: str) -> Any:
        """The next answer of a kind."""
        while (message := await self.answers.get()).type != kind:
            pass
        return message


class Sender:
    """A connection of HTTP that PUTs."""

    def __init__(self, url: str) -> None:
        self._parts = urlsplit(url)
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def put(self, path: str, body: bytes) -> None:
        if self._streams is None:
            self._streams = await asyncio.open_connection(self._parts.hostname, self._parts.port)
        reader, writer = self._streams
        head = f"PUT {path} HTTP/1.1\r\nhost: {self._parts.netloc}\r\ncontent-length: {len(body)}\r\n\r\n"
        writer.write(head.encode())
        writer.write(body)
        await writer.drain()
        answer = (await reader.readuntil(b"\r\n\r\n")).lower()
        assert answer.startswith(b"http/1.1 201"), answer
        length = next(line for line in answer.split(b"\r\n") if line.startswith(b"content-length:"))
        await reader.readexactly(int(length.partition(b":")[2]))

    def close(self) -> None:
        """End it."""
        if self._streams is not None:
            self._streams[1].close()


class Clients:
    """All clients of this process."""

    def __init__(self) -> None:
        self._clients: list[Client] = []
        self._url = ""

    async def connect(self, url: str, numbers: list[int], bare: bool, beat: float = HEARTBEAT_SECONDS) -> Any:
        """Open connections of the clients of these numbers, first and last."""
        self._url = url
        self._clients = [Client(number) for number in range(*numbers)]
        turns = asyncio.Semaphore(TOGETHER)

        async def one(client: Client) -> None:
            async with turns:
                await client.open(url, bare, beat)

        begun = time.monotonic()
        await asyncio.gather(*map(one, self._clients))
        gc.collect()
        gc.freeze()
        return time.monotonic() - begun

    async def beats(self, seconds: float) -> list[float]:
        """How long each heartbeat of the next seconds took to be answered."""
        for client in self._clients:
            client.beats.clear()
        await asyncio.sleep(seconds)
        return [beat for client in self._clients for beat in client.beats]

    async def storm(
        self, url: str, numbers: list[int], seconds: float, patience: float
    ) -> dict[str, list[float]]:
        """Connect all of these clients within `seconds`, each at its moment, whatever becomes of the others.

        Returns:
            Seconds that the welcome took of each that was in within `patience` seconds, and those after which one that
            was sent away was to come again.
        """
        arrivals = [Client(number) for number in range(*numbers)]

        async def arrive(place: int, client: Client) -> None:
            await asyncio.sleep(seconds * place / len(arrivals))
            await client.open(url, False)

        tasks = [asyncio.create_task(arrive(place, client)) for place, client in enumerate(arrivals)]
        _, left = await asyncio.wait(tasks, timeout=patience)
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)
        self._clients += arrivals
        return {
            "welcome": [client.welcome_seconds for client in arrivals if client.welcome_seconds],
            "turned_away": [retry for client in arrivals for retry in client.turned_away],
        }

    async def leave(self, count: int) -> int:
        """Let the first `count` clients go."""
        for client in self._clients[:count]:
            client.vanish()
        del self._clients[:count]
        return count

    async def assigned(self, count: int) -> list[float]:
        """When each of `count` assignments came, on the clock of time.monotonic."""
        while len(found := [c.assignment[0] for c in self._clients if c.assignment]) < count:
            await asyncio.sleep(0.02)
        return found

    async def report(self, turn: int, size: int) -> list[float]:
        """Clients with an assignment upload and report; begin and end on the clock of time.monotonic."""
        working = [client for client in self._clients if client.assignment]
        updates = [(client, update_of(client.number, turn, size)) for client in working]
        digests = {client.number: storage.digest(update) for client, update in updates}
        begun = time.monotonic()

        async def one(sender: Sender, client: Client, update: bytes) -> None:
            await client.hand_in(sender, update, digests[client.number])

        await self._send(self._url, updates, one)
        return [begun, time.monotonic()]

    async def put(self, url: str, numbers: list[int], turn: int, size: int) -> list[float]:
        """The same bodies to a bare server; begin and end."""
        updates = [(Client(number), update_of(number, turn, size)) for number in range(*numbers)]
        begun = time.monotonic()

        async def one(sender: Sender, client: Client, update: bytes) -> None:
            await sender.put(f"/put/{name_of(client.number)}", update)

        await self._send(url, updates, one)
        return [begun, time.monotonic()]

    async def _send(
        self,
        url: str,
        updates: list[tuple[Client, bytes]],
        one: Callable[[Sender, Client, bytes], Awaitable[None]],
    ) -> None:
        left = iter(updates)

        async def sender() -> None:
            connection = Sender(url)
            for client, update in left:
                await one(connection, client, update)

        await asyncio.gather(*(sender() for _ in range(SENDERS)))

    async def close(self) -> None:
        """Leave."""
        for client in self._clients:
            client.vanish()


async def main() -> None:
    """Do what each line says."""
    clients = Clients()
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        command = json.loads(line)
        result = await getattr(clients, command.pop("do"))(**command)
        print(json.dumps(result), flush=True)


if __name__ == "__main__":
    uvloop.run(main())
