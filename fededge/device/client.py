"""The client: keeps a connection to its gateway, and works on what its policy allows.

             time over           open             welcome
    waiting ----------> connecting ----> proving ---------> ready
      ^  ^                  | fails         | refused          | cut, silent, bye, facts changed
      |  +------------------+               |                  |
      +-------------------------------------+------------------+

Each assignment is worked on beside that (fededge.device.work), whether or not there is a connection. All waiting is by
clocks that nobody sets.
"""

import asyncio
import base64
import logging
import math
from enum import StrEnum
from typing import Any

from fededge import __version__
from fededge.device import eligible, facts
from fededge.device.assignments import Assignments
from fededge.device.connection import Connection, TurnedAway, connected
from fededge.device.holdings import Holdings
from fededge.device.pace import Pace
from fededge.device.releases import Follower
from fededge.device.serving import Models
from fededge.device.work import WORDS
from fededge.device.workplace import Workplace
from fededge.errors import FedEdgeError, GatewayError, ProtocolError, SiteError, StorageError, shown
from fededge.protocol import (
    Assignment,
    Bye,
    Cancel,
    Challenge,
    GatewayMessage,
    Heartbeat,
    Hello,
    Received,
    Refused,
    Releases,
    UploadPlace,
    Welcome,
    agreed,
    connection_bytes,
)

log = logging.getLogger("fededge.site")
PROVING_SECONDS = 60.0
HEARTBEATS = (1.0, 3600.0)
"""Bounds in seconds of what a gateway may ask for."""
SILENT = 2.5
"""Heartbeats without any word, after which the gateway is gone."""
LONGEST_WAIT = 86_400.0
STEADY_SECONDS = 60.0
"""A connection that lasted as long was a good one."""


class State(StrEnum):
    """Where the client is."""

    waiting = "waiting"
    connecting = "connecting"
    proving = "proving"
    ready = "ready"


class Client:
    """One client in its workplace.

    Args:
        place: where it works.
        pace: of its tries to connect.
        refresh_seconds: no sooner than after so long is a connection made anew to tell that data grew or are gone.
        program: `agent` or `site`, where the launcher started it, and starts what it may update itself to.
    """

    def __init__(
        self,
        place: Workplace,
        pace: Pace | None = None,
        refresh_seconds: float = 300.0,
        program: str | None = None,
    ) -> None:
        self._place, self._pace = place, pace or Pace()
        self._holdings, self._look = Holdings(place, refresh_seconds), asyncio.Event()
        self._ending, self._leaving = asyncio.Event(), asyncio.Event()
        self._assignments = Assignments(place, self._leaving.set)
        serving = place.policy.current().policy.serving
        self._models = Models(serving.port if serving else None)
        self._follower = Follower(place, self._models, program, self.end)
        self._conditions: dict[str, str] = {}
        self.state = State.waiting

    @property
    def switched(self) -> bool:
        """Whether another program is to run from now on."""
        return self._follower.updater.switched

    def end(self) -> None:
        """Say good-bye and stop; what is under way goes on at the next start."""
        self._ending.set()
        self._leaving.set()

    def look(self) -> None:
        """Look at the data at once: they may have changed."""
        self._look.set()

    def refuse(self, task: str, release: str, error: FedEdgeError) -> None:
        """Go back from a release, by its name, that failed as others answered with it, and tell the gateway."""
        self._follower.refuse(task, release, error)

    async def run(self) -> None:
        """Connect, again and again, and work, until `end`.

        Raises:
            SiteError: the gateway does not take this client any more: a person has to act.
        """
        self._assignments.resume()
        self._follower.restore()
        least = 0.0
        try:
            async with self._models.serving():
                while not self._ending.is_set():
                    self._enter(State.waiting)
                    await _until(self._ending, least + self._pace.next())
                    least = 0.0 if self._ending.is_set() else await self._attend()
        finally:
            await self._assignments.close()
            await self._follower.close()
            await self._place.runner.close()
            await self._place.transfers.close()

    async def _attend(self) -> float:
        """One connection, from its beginning to its end; seconds that the gateway wants to be left alone."""
        self._leaving.clear()
        if self._ending.is_set():
            return 0.0
        self._enter(State.connecting)
        identity, now = self._place.identity, asyncio.get_running_loop().time
        began = math.inf
        try:
            async with connected(identity.address.socket, self._place.tls, self._place.journal) as connection:
                self._enter(State.proving)
                async with asyncio.timeout(PROVING_SECONDS):
                    answer = await self._prove(connection)
                if isinstance(answer, Refused):
                    return self._refused(answer)
                self._welcomed(answer)
                began = now()
                return await self._serve(connection, answer)
        except TurnedAway as error:
            log.warning("%s", error)
            return min(error.retry_seconds, LONGEST_WAIT)
        except (GatewayError, ProtocolError, StorageError) as error:
            log.warning("%s", error)
        except TimeoutError:
            log.warning("the gateway is silent")
        finally:
            self._place.line.disconnect()
            if now() - began > STEADY_SECONDS:
                self._pace.reset()
        return 0.0

    async def _prove(self, connection: Connection) -> Welcome | Refused:
        """Answer the challenge; what the gateway says to it."""
        challenge = await connection.receive()
        if isinstance(challenge, Refused):
            return challenge
        if not isinstance(challenge, Challenge):
            raise ProtocolError(
                f"the gateway begins with {challenge.type} instead of a challenge", "OUT_OF_ORDER"
            )
        identity = self._place.identity
        nonce = _decoded(challenge.nonce)
        data = connection_bytes(nonce, challenge.gateway, identity.tenant, identity.client)
        await connection.send(self._hello(self._place.key.proof(data)))
        answer = await connection.receive()
        if not isinstance(answer, Welcome | Refused):
            raise ProtocolError(f"the gateway answers a hello with {answer.type}", "OUT_OF_ORDER")
        return answer

    def _hello(self, signature: str) -> Hello:
        place = self._place
        datasets = self._holdings.tell()
        self._conditions = self._told()
        return Hello(
            tenant=place.identity.tenant,
            client=place.identity.client,
            signature=signature,
            resume=place.store.session(),
            working=self._assignments.named,
            software=__version__,
            frameworks=place.frameworks,
            capabilities=facts.capabilities(place.isolated),
            conditions=self._conditions,
            datasets=datasets,
        )

    def _told(self) -> dict[str, str]:
        return eligible.told(self._place, self._assignments.busy, self._holdings.told)

    def _refused(self, answer: Refused) -> float:
        text = f"the gateway refuses this site ({answer.reason}): {shown(answer.message, WORDS)}"
        if answer.retry_seconds is None:
            raise SiteError(f"{text}. Ask its operator")
        log.warning("%s", text)
        return min(answer.retry_seconds, LONGEST_WAIT)

    def _welcomed(self, welcome: Welcome) -> None:
        agreed(welcome.version, welcome.version)
        self._place.store.set_session(welcome.session)
        if welcome.region is not None:
            self._place.whereabouts.region = welcome.region
        self._enter(State.ready)

    async def _serve(self, connection: Connection, welcome: Welcome) -> float:
        """Take what the gateway sends until one side leaves; seconds that the gateway wants to be left alone."""
        self._place.line.connect(connection)
        beat = min(max(welcome.heartbeat_seconds, HEARTBEATS[0]), HEARTBEATS[1])
        listening = asyncio.create_task(self._listen(connection, beat))
        beating = asyncio.create_task(self._beat(connection, beat))
        following = asyncio.create_task(self._follower.attend(connection, welcome.version))
        leaving = asyncio.create_task(self._leaving.wait())
        tasks: list[asyncio.Task[Any]] = [listening, beating, following, leaving]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in (beating, following):
                if task.done():
                    task.result()
            if listening.done():
                return listening.result()
            await connection.send(Bye(reason="ENDING" if self._ending.is_set() else "CHANGED"))
            return 0.0
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _listen(self, connection: Connection, beat: float) -> float:
        while True:
            async with asyncio.timeout(SILENT * beat):
                message = await connection.receive()
            if isinstance(message, Bye):
                log.info("the gateway closes: %s", message.reason)
                return min(message.retry_seconds, LONGEST_WAIT)
            await self._take(connection, message)

    async def _beat(self, connection: Connection, beat: float) -> None:
        """Tell that this client is there, until what it said of its data is so no longer."""
        while True:
            await _until(self._look, beat)
            self._look.clear()
            conditions = self._told()
            await connection.send(
                Heartbeat(conditions=conditions if conditions != self._conditions else None)
            )
            self._conditions = conditions
            if self._holdings.changed():
                log.info("the data or the policy changed: telling the gateway")
                return

    async def _take(self, connection: Connection, message: GatewayMessage) -> None:
        match message:
            case Heartbeat():
                pass
            case Assignment():
                await self._assignments.take(connection, message)
            case Releases():
                self._follower.take(message)
            case Received(of="report") | UploadPlace():
                self._place.line.answer(message)
            case Received(of="accept", outcome="late" | "refused"):
                self._assignments.drop(message.assignment, message.outcome)
            case Received():
                pass
            case Cancel():
                self._assignments.drop(message.assignment, "canceled")
            case Refused():
                log.warning("the gateway refuses (%s): %s", message.reason, shown(message.message, WORDS))
                self._place.line.refuse(message.assignment)
            case _:
                raise ProtocolError(f"the gateway says {message.type} out of order", "OUT_OF_ORDER")

    def _enter(self, state: State) -> None:
        if state != self.state:
            log.debug("%s -> %s", self.state, state)
            if state is State.ready:
                log.info("connected to %s as %s", self._place.identity.gateway, self._place.identity.client)
            self.state = state


async def _until(event: asyncio.Event, seconds: float) -> None:
    """Wait for `event`, no longer than `seconds`."""
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return


def _decoded(nonce: str) -> bytes:
    try:
        return base64.b64decode(nonce, validate=True)
    except ValueError as error:
        raise ProtocolError("the gateway's challenge is no base64", "MALFORMED") from error
