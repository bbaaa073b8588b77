"""The registry, called from the event loop: in threads, and many small writes in one transaction.

A transaction that is durable costs a write to disk. So what arrives while one is under way waits and goes into the next
together (group commit: DeWitt et al. 1984, Implementation Techniques for Main Memory Database Systems, section 5); each
caller has its answer once that one is durable. A call that is refused undoes its own part alone.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Concatenate, ParamSpec, TypeVar, cast

from sqlalchemy import Connection

from fededge.errors import FedEdgeError, RegistryError
from fededge.fleet.gateway.observing import Metrics
from fededge.fleet.gateway.overload import Load
from fededge.fleet.registry.database import Registry

MOST_TOGETHER = 200
P = ParamSpec("P")
Result = TypeVar("Result")


class Part:
    """A transaction that is part of another one: it looks like a registry to a function that writes to one."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def run(self, work: Callable[[Connection], Result], durable: bool = True) -> Result:
        """See Registry; what is part of another transaction is as durable as that one."""
        return work(self._connection)

    read = run


@dataclass(frozen=True, eq=False)
class _Write:
    function: Callable[..., Any]
    arguments: tuple[Any, ...]
    done: asyncio.Future[Any]

    def whole(self, connection: Connection) -> Any:
        """What the function returns as all of a transaction."""
        return self.function(Part(connection), *self.arguments)

    def part(self, connection: Connection) -> Any:
        """What the function returns as a part of a transaction, or the mistake that it raises."""
        try:
            with connection.begin_nested():
                return self.whole(connection)
        except RegistryError:
            raise
        except FedEdgeError as error:
            return error


class Database:
    """The registry of a gateway.

    Args:
        registry: that is called.
        threads: that call it at a time.
        load: is told how many calls wait.
        metrics: of how long they take.
    """

    def __init__(self, registry: Registry, threads: int, load: Load, metrics: Metrics) -> None:
        self._registry = registry
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="registry")
        self._load = load
        self._metrics = metrics
        self._writes: deque[_Write] = deque()
        self._writer: asyncio.Task[None] | None = None

    async def call(
        self, function: Callable[Concatenate[Registry, P], Result], *arguments: P.args, **named: P.kwargs
    ) -> Result:
        """What `function` returns for the registry and `arguments`, in a thread."""
        with self._counted(function):
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(
                self._threads, lambda: function(self._registry, *arguments, **named)
            )

    async def look(
        self, function: Callable[Concatenate[Registry, P], Result], *arguments: P.args, **named: P.kwargs
    ) -> Result:
        """As `call`, for a read of a few rows by their keys: an embedded one has them before a thread begins."""
        if not self._registry.embedded:
            return await self.call(function, *arguments, **named)
        with self._counted(function):
            return function(self._registry, *arguments, **named)

    async def together(
        self, function: Callable[Concatenate[Registry, P], Result], *arguments: P.args, **_: P.kwargs
    ) -> Result:
        """As `call`, for a small write: all of it is one transaction, or shares one with others."""
        with self._counted(function):
            done = asyncio.get_running_loop().create_future()
            self._writes.append(_Write(function, arguments, done))
            if self._writer is None:
                self._writer = asyncio.create_task(self._write())
            return cast(Result, await done)

    async def close(self) -> None:
        """End the threads and the connections, once the calls under way are done."""
        if self._writer is not None:
            await self._writer
        await asyncio.to_thread(self._threads.shutdown)
        self._registry.close()

    async def _write(self) -> None:
        while self._writes:
            taken = [self._writes.popleft() for _ in range(min(len(self._writes), MOST_TOGETHER))]
            self._metrics.batch.observe(len(taken))
            # Most are not refused: so the first try undoes all where one is, and the next each by itself.
            if not await self._commit(taken, _Write.whole) and not await self._commit(taken, _Write.part):
                for write in taken:
                    await self._commit([write], _Write.whole, last=True)
        self._writer = None

    async def _commit(
        self, writes: list[_Write], carry_out: Callable[[_Write, Connection], Any], last: bool = False
    ) -> bool:
        """Carry out `writes` in one transaction; False where one of them broke it, unless this is the last try."""

        def work(connection: Connection) -> list[Any]:
            return [carry_out(write, connection) for write in writes]

        ended = asyncio.get_running_loop().run_in_executor(self._threads, self._registry.run, work)
        await asyncio.wait([ended])
        error = ended.exception()
        if error is None:
            for write, result in zip(writes, ended.result(), strict=True):
                _answer(write.done, result)
        elif last or isinstance(error, RegistryError):
            for write in writes:
                _answer(write.done, error)
        else:
            return False
        return True

    def _counted(self, function: Callable[..., Any]) -> "_Counted":
        return _Counted(self._load, self._metrics, function.__name__)


class _Counted:
    """A call of the registry, while the block lasts."""

    def __init__(self, load: Load, metrics: Metrics, name: str) -> None:
        self._load = load
        self._metrics = metrics
        self._name = name
        self._begun = 0.0

    def __enter__(self) -> None:
        self._begun = time.perf_counter()
        self._load.pending += 1

    def __exit__(self, *_: object) -> None:
        self._load.pending -= 1
        self._metrics.registry_seconds.labels(self._name).observe(time.perf_counter() - self._begun)


def _answer(done: asyncio.Future[Any], outcome: Any) -> None:
    if done.done():
        return  # its caller was canceled; what was written stays
    if isinstance(outcome, BaseException):
        done.set_exception(outcome)
    else:
        done.set_result(outcome)
