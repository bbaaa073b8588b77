"""A site for tests: enrolled at a stand-in gateway, with data, a policy and a runner of the tests."""

import asyncio
import os
import sys
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import yaml

from fededge import examples
from fededge.device.client import Client
from fededge.device.clock import Clock
from fededge.device.enrollment import enroll
from fededge.device.monitor import Monitor
from fededge.device.pace import Pace
from fededge.device.workplace import workplace
from fededge.documents import Feature, Label, Schema
from tests.stand_in_gateway import KEY, TOKEN, StandInGateway

T = TypeVar("T")
ROOT = Path(__file__).resolve().parents[1]
RUNNER = [sys.executable, str(ROOT / "tests" / "stand_in_runner.py")]
SCHEMA = Schema(
    features=[Feature(name="a", dtype="float32", shape=[3])], label=Label(kind="class", classes=2)
)
SECONDS = 100.0
WHOLE = ("datasets", "hosts", "conditions", "releases", "serving", "poll_seconds", "program")
"""Keys of a policy beside its rules."""


def in_loop(scenario: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run a test that is a coroutine."""

    async def bounded() -> T:
        async with asyncio.timeout(SECONDS):
            return await scenario()

    return asyncio.run(bounded())


class EnrolledSite:
    """One in `root`/site, whose policy and data lie beside it."""

    def __init__(self, root: Path, runner: list[str] | None = None) -> None:
        self.root, self.folder = root, root / "site"
        self.policy_file, self.runner = root / "policy.yaml", runner or RUNNER
        self.data = root / "data"
        self.write_data(40)
        (root / "coordinator.pub.pem").write_bytes(KEY.public.pem)
        self.write_policy()

    def write_data(self, count: int, part: str = "train") -> None:
        x = np.arange(count * 3, dtype=np.float32).reshape(count, 3)
        examples.write(self.data / part, x, np.arange(count) % 2, SCHEMA)

    def write_policy(self, **changes: Any) -> None:
        """The policy; `changes` in its only rule, or those of WHOLE beside it."""
        whole = {name: changes.pop(name) for name in WHOLE if name in changes}
        rule = {
            "name": "ada",
            "tasks": ["wear*"],
            "owners": ["ada"],
            "signers": ["coordinator.pub.pem"],
            "datasets": ["steps"],
            "kinds": ["train", "evaluate", "ranges"],
        }
        policy = {"datasets": {"steps": "data"}, "rules": [rule | changes]} | whole
        replacement = self.policy_file.with_suffix(".new")
        replacement.write_text(yaml.safe_dump(policy))
        os.replace(replacement, self.policy_file)

    async def enroll(self, gateway: StandInGateway, **options: Any) -> None:
        await asyncio.to_thread(enroll, self.folder, gateway.url, TOKEN, **options)

    @asynccontextmanager
    async def client(
        self,
        gateway: StandInGateway,
        wall: Callable[[], float] = time.time,
        refresh_seconds: float = 300.0,
        monitor: Monitor | None = None,
        program: str | None = None,
    ) -> AsyncIterator[Client]:
        """The client, in this process, enrolled where it is not, and not yet running."""
        await self.enroll(gateway)
        with workplace(self.folder, self.policy_file, self.runner, Clock(wall), monitor) as place:
            yield Client(place, Pace(0.01, 0.1), refresh_seconds, program)

    @asynccontextmanager
    async def running(self, gateway: StandInGateway, **options: Any) -> AsyncIterator[Client]:
        """As `client`, running."""
        async with self.client(gateway, **options) as client:
            running = asyncio.create_task(client.run())
            try:
                yield client
            finally:
                client.end()
                await running

    @asynccontextmanager
    async def process(self, gateway: StandInGateway) -> AsyncIterator[Process]:
        """The client, in a process of its own, enrolled where it is not; killed at the end of the block."""
        await self.enroll(gateway)
        program = "import sys\nfrom fededge.device.site import main\nsys.exit(main(sys.argv[2:], eval(sys.argv[1])))"
        arguments = ["run", "--folder", str(self.folder), "--policy", str(self.policy_file)]
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", program, repr(self.runner), *arguments),
            stderr=PIPE,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        try:
            yield process
        finally:
            if process.returncode is None:
                process.kill()
            await process.communicate()
