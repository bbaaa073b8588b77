"""The runner: a child process that executes plans, bound to one plan and one client's data, within limits.

It speaks as fededge.plan_runner does: one JSON request a line on its standard input, one JSON answer a line.
It stays a while for the next request with the same setting. It sees copies of what it needs in a folder of its own,
and what it leaves there is untrusted. It ends with its owner, however that ends.
"""

import asyncio
import hashlib
import json
import os
import shutil
import stat
import tempfile
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from fededge import storage
from fededge.device import isolation
from fededge.device.policy_keys import Limits
from fededge.errors import SiteError, StorageError

LARGEST_ANSWER = 1 << 20
WATCH_SECONDS = 0.25
CHILDREN_SECONDS = 1.0
"""Between two searches for what a child itself started."""
IDLE_SECONDS = 600.0
"""After which a child without work is ended, for the memory that it holds."""
INHERITED = (
    "CUDA_VISIBLE_DEVICES",
    "LANG",
    "LC_ALL",
    "LD_LIBRARY_PATH",
    "OPENBLAS_CORETYPE",
    "PATH",
    "PYTHONPATH",
    "PYTHONUTF8",
    "TZ",
)
"""Variables that it gets; no other, so that no secret of the site is among them."""


@dataclass(frozen=True)
class Setting:
    """What a runner is started for.

    Attributes:
        plan, data: folders of the plan, and of the client (with train/ and test/).
        hidden: folders that it does not see in isolation, but for its plan, its data and its own.
        limits: that the policy sets.
        signer: PEM of the public key that a user's own code in the plan must be signed by.
    """

    plan: Path
    data: Path
    hidden: tuple[Path, ...]
    limits: Limits
    signer: bytes


@dataclass(frozen=True)
class Answered:
    """What came of a request, none of it trusted: the runner's `answer`, and the digest of the `update` that it left."""

    answer: dict[str, Any]
    update: str | None


class RunnerFailed(SiteError):
    """The runner went beyond a limit, ended, or gave no answer."""


class Runner:
    """Asks one child process at a time.

    Args:
        command: that starts a runner; `--plan` and `--data` are added.
        folder: of its own, made where it is missing; what is in it is removed.
        isolated: whether it runs in isolation.
    """

    def __init__(self, command: Sequence[str], folder: Path, isolated: bool) -> None:
        folder = folder.resolve()
        self._command, self._isolated = list(command), isolated
        self._folder, self._log = folder / "files", folder / "runner.log"
        self._turn = asyncio.Lock()
        self._process: Process | None = None
        self._setting: Setting | None = None
        self._rest: asyncio.Task[None] | None = None

    async def ask(
        self, setting: Setting, request: Mapping[str, Any], weights: Path, update: Path
    ) -> Answered:
        """Have a request worked on, in its turn.

        Args:
            setting: another one than before starts another child.
            request: "do" and what goes with it; `weights` and `update` are added.
            weights: the file that it works from.
            update: the file that gets what it leaves, if it leaves any.

        Raises:
            RunnerFailed: it went beyond a limit, ended, or gave no answer.
            SiteError: what it left is larger than the policy lets out.
            StorageError: a file cannot be copied.
        """
        async with self._turn:
            self._stop_resting()
            done = False
            try:
                process = await self._started(setting)
                await asyncio.to_thread(self._lay_out, weights)
                files = {"weights": str(self._folder / "weights"), "update": str(self._folder / "update")}
                answer = await self._answer(process, {**request, **files}, setting.limits)
                digest = await asyncio.to_thread(self._take_in, update, setting.limits.upload_bytes)
                done = True
            finally:
                if not done:
                    await self.close()
            self._rest = asyncio.create_task(self._end_idle())
            return Answered(answer, digest)

    async def close(self) -> None:
        """Kill the child, and those that it started."""
        self._stop_resting()
        process, self._process = self._process, None
        if process is not None:
            await end_all(process)

    async def _end_idle(self) -> None:
        await asyncio.sleep(IDLE_SECONDS)
        self._rest = None
        async with self._turn:
            await self.close()

    def _stop_resting(self) -> None:
        if self._rest is not None:
            self._rest.cancel()
            self._rest = None

    async def _started(self, setting: Setting) -> Process:
        if self._process is not None and self._process.returncode is None and self._setting == setting:
            return self._process
        await self.close()
        try:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder.mkdir(parents=True, mode=0o700)
            (self._folder / "signer.pub.pem").write_bytes(setting.signer)
            largest = max(
                [setting.limits.upload_bytes, *(f.stat().st_size for f in setting.data.rglob("*.npy"))]
            )
            log = self._log.open("wb")
        except OSError as error:
            raise StorageError(f"cannot prepare {self._folder}: {error.strerror}. Free space") from error
        with log:
            self._process = await asyncio.create_subprocess_exec(
                *isolation.wrapped(
                    [*self._command, "--plan", str(setting.plan), "--data", str(setting.data)],
                    self._folder,
                    isolated=self._isolated,
                    readable=[setting.plan, setting.data],
                    hidden=setting.hidden,
                    cpus=setting.limits.cpus,
                    file_bytes=largest,
                ),
                stdin=PIPE,
                stdout=PIPE,
                stderr=log,
                env=environment(self._folder),
                limit=LARGEST_ANSWER,
                start_new_session=True,
            )
        self._setting = setting
        return self._process

    def _lay_out(self, weights: Path) -> None:
        try:
            for name in ("update", "weights"):
                (self._folder / name).unlink(missing_ok=True)
            try:
                os.link(weights, self._folder / "weights")
            except OSError:  # not on this file system
                shutil.copyfile(weights, self._folder / "weights")
        except OSError as error:
            raise StorageError(
                f"cannot copy {weights} for the runner: {error.strerror}. Free space"
            ) from error

    def _take_in(self, update: Path, limit: int) -> str | None:
        """Copy the update that the runner left, if any, to its place: whole, bounded, and out of the runner's reach.

        Returns:
            its digest.
        """
        left = self._folder / "update"
        try:
            if not os.path.lexists(left):
                return None
            descriptor = os.open(left, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
            with open(descriptor, "rb", buffering=0) as source:
                found = os.fstat(descriptor)
                if not stat.S_ISREG(found.st_mode) or found.st_size > limit:
                    raise SiteError(
                        f"the update has {found.st_size:,} bytes where the policy lets {limit:,} out (upload_bytes)"
                    )
                handle, temporary = tempfile.mkstemp(dir=update.parent, prefix=".update-")
                hasher, room, left_over = (
                    hashlib.sha256(),
                    memoryview(bytearray(storage.CHUNK)),
                    found.st_size,
                )
                with open(handle, "wb") as target:
                    while left_over and (length := source.readinto(room[:left_over])):
                        hasher.update(room[:length])
                        target.write(room[:length])
                        left_over -= length
                    target.flush()
                    os.fsync(handle)
            os.replace(temporary, update)
            return f"sha256:{hasher.hexdigest()}"
        except OSError as error:
            raise StorageError(f"cannot keep the update {update}: {error.strerror}. Free space") from error

    async def _answer(self, process: Process, request: Mapping[str, Any], limits: Limits) -> dict[str, Any]:
        asked = asyncio.create_task(self._exchange(process, request))
        watched = asyncio.create_task(watch(process.pid, limits))
        try:
            done, _ = await asyncio.wait(
                {asked, watched}, timeout=limits.seconds, return_when=asyncio.FIRST_COMPLETED
            )
        finally:
            unfinished = [task for task in (asked, watched) if task.cancel()]
            await asyncio.gather(*unfinished, return_exceptions=True)
        if asked in done:
            return asked.result()
        late = f"the work took more than the {limits.seconds:,.0f} s that the policy allows"
        raise RunnerFailed(watched.result() if watched in done else late)

    async def _exchange(self, process: Process, request: Mapping[str, Any]) -> dict[str, Any]:
        assert process.stdin
        assert process.stdout
        try:
            process.stdin.write(json.dumps(request).encode() + b"\n")
            await process.stdin.drain()
            line = await process.stdout.readline()
            answer = json.loads(line) if line.endswith(b"\n") else None
        except (ConnectionError, ValueError, RecursionError):  # no process, no JSON, or an endless line
            answer = None
        if not isinstance(answer, dict):
            raise RunnerFailed(
                f"the runner ended, or gave no answer: {self._log.name} at the site tells more"
            )
        return answer


def environment(folder: Path) -> dict[str, str]:
    """The variables of a child that works in `folder`."""
    own = {
        **dict.fromkeys(("HOME", "TMPDIR", "FEDEDGE_HOME", "MPLCONFIGDIR"), str(folder)),
        "FEDEDGE_SIGNING_KEY_FILE": str(folder / "signer.pem"),
        "TF_CPP_MIN_LOG_LEVEL": "3",
    }
    return {name: os.environ[name] for name in INHERITED if name in os.environ} | own


async def end_all(process: Process) -> None:
    """Kill a child, and those that it started."""
    for each in _with_children(process.pid):
        with suppress(psutil.NoSuchProcess):
            each.kill()
    await process.wait()


async def watch(pid: int, limits: Limits) -> str:
    """Return what limit was passed, once one is, by the process `pid` and those that it started."""
    began, searched = time.time(), time.monotonic()
    watched: list[psutil.Process] = []
    with suppress(psutil.NoSuchProcess):
        watched = [psutil.Process(pid)]
    before: dict[psutil.Process, float] = {}
    while True:
        memory, seconds = 0, 0.0
        for each in watched:
            with suppress(psutil.NoSuchProcess):
                taken = sum(each.cpu_times()[:2])
                seconds += taken - before.setdefault(each, taken if each.create_time() < began else 0.0)
                memory += each.memory_info().rss
        if memory > limits.memory_bytes:
            return f"the work took {memory:,} bytes of memory where the policy allows {limits.memory_bytes:,}"
        if limits.cpu_seconds is not None and seconds > limits.cpu_seconds:
            return f"the work took more than the {limits.cpu_seconds:,.0f} s of processor time that the policy allows"
        await asyncio.sleep(WATCH_SECONDS)
        if time.monotonic() - searched >= CHILDREN_SECONDS:
            watched, searched = _with_children(pid), time.monotonic()


def _with_children(pid: int) -> list[psutil.Process]:
    """A process and those that it started, which are searched for among all of the machine."""
    with suppress(psutil.NoSuchProcess):
        first = psutil.Process(pid)
        return [first, *first.children(recursive=True)]
    return []
