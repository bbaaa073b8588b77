"""A relay: collects from sensors over MQTT, learns for them and answers them.

`fededge relay --help` tells its commands; docs/guides/relay.md is the guide.
"""

import asyncio
import json
import logging
import signal
import sys
import threading
import time
from asyncio import Future
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from fededge import settings
from fededge.device.client import Client
from fededge.device.clock import Clock
from fededge.device.monitor import MachineMonitor
from fededge.device.policy import PolicyFile
from fededge.device.relay.answering import Answering
from fededge.device.relay.collector import Collector
from fededge.device.relay.connection import Connection
from fededge.device.relay.datasets import Datasets
from fededge.device.relay.file import RelayFile, load
from fededge.device.relay.intake import Intake
from fededge.device.relay.items import Limits
from fededge.device.relay.new_examples import CollectingMonitor
from fededge.device.relay.options import parser
from fededge.device.relay.reader import STORE, Reader
from fededge.device.relay.schema import schema_of
from fededge.device.relay.settings import Group
from fededge.device.relay.store import ROW_BYTES, Store
from fededge.device.workplace import workplace
from fededge.errors import FedEdgeError, RelayError, StorageError

log = logging.getLogger("fededge.relay")
Part = Callable[[threading.Event], None]


def main(arguments: Sequence[str], runner: Sequence[str]) -> int:
    """Run `fededge relay`.

    Args:
        arguments: of the command, without `fededge relay`.
        runner: command that executes plans, as fededge.plan_runner does.

    Returns:
        0 when it ended as told; 2 for a mistake that the message on standard error names.
    """
    options = parser().parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)
    logging.getLogger("httpx").setLevel(logging.WARNING)  # it tells addresses, which are as good as passwords
    try:
        if options.command == "check":
            return _check(options.file)
        folder: Path = options.folder or settings.home() / "relay"
        if options.command == "status":
            return _status(folder, options.json)
        return asyncio.run(_run(folder, options.relay or folder / "relay.yaml", options.policy, runner))
    except FedEdgeError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


async def _run(folder: Path, path: Path, policy: Path | None, runner: Sequence[str]) -> int:
    """Collect, and with a policy learn, until a signal."""
    file, ending, loop = load(path), threading.Event(), asyncio.get_running_loop()
    lock = FileLock(folder / "relay.lock", thread_local=False)
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock.acquire(blocking=False)
    except Timeout as error:
        raise RelayError(f"another relay runs in {folder}: stop it, or name another folder") from error
    except OSError as error:
        raise StorageError(f"cannot use {folder}: {error.strerror}. Check its permissions") from error
    with lock, closing(Store(folder / STORE, Clock(), _limits(file))) as store:
        filters = {filter for group in file.groups for filter in group.filters}
        connection = Connection(file.broker, path.parent, filters)
        answering = Answering(file.groups, path.parent, folder, connection.publish)
        collector = Collector(store, Intake(file.groups, store.sensors), connection, answering.ask)
        datasets = Datasets(file.groups, folder)
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, ending.set)
        connection.start()
        try:
            parts: list[Part] = [collector.run, answering.run, datasets.run]
            with ThreadPoolExecutor(len(parts) + 1) as threads:
                at_work = [loop.run_in_executor(threads, _until_end, part, ending) for part in parts]
                ended = loop.run_in_executor(threads, ending.wait)
                learning = [_learn(folder, policy, runner, datasets, answering, ended)] if policy else []
                await _all(at_work, learning, ending)
        finally:
            connection.stop()
    return 0


async def _all(
    at_work: list[Future[None]], learning: list[Coroutine[Any, Any, None]], ending: threading.Event
) -> None:
    """Wait for the end of all parts of the relay; the first that fails ends the others.

    Raises:
        FedEdgeError: what it failed for.
    """
    tasks = [*at_work, *map(asyncio.ensure_future, learning)]
    await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
    ending.set()
    for outcome in await asyncio.gather(*tasks, return_exceptions=True):
        if isinstance(outcome, BaseException):
            raise outcome


def _until_end(part: Part, ending: threading.Event) -> None:
    """Run a part of the relay; where it fails, the others end, too."""
    try:
        part(ending)
    finally:
        ending.set()


async def _learn(
    folder: Path,
    policy: Path,
    runner: Sequence[str],
    datasets: Datasets,
    answering: Answering,
    ended: Future[bool],
) -> None:
    """Take part in learning until the relay ends. A gateway that takes this client no more ends that alone."""
    clock = Clock()
    monitor = CollectingMonitor(MachineMonitor(folder, PolicyFile(policy), clock), datasets)
    with workplace(folder, policy, runner, clock, monitor) as place:
        client, loop = Client(place), asyncio.get_running_loop()

        def look() -> None:
            loop.call_soon_threadsafe(client.look)

        def refuse(task: str, release: str, error: FedEdgeError) -> None:
            loop.call_soon_threadsafe(client.refuse, task, release, error)

        datasets.changed, answering.refused = look, refuse
        running = asyncio.create_task(client.run())
        await asyncio.wait((running, ended), return_when=asyncio.FIRST_COMPLETED)
        client.end()
        try:
            await running
        except FedEdgeError as error:
            log.error("%s; readings are collected all the same", error)
    await ended


def _limits(file: RelayFile) -> dict[str, Limits]:
    return {group.name: _limit(group) for group in file.groups}


def _limit(group: Group) -> Limits:
    kept, row = group.retention, ROW_BYTES + 4 * sum(field.size for field in group.features)
    # Windows are made of stored readings, so that a reading is the same whatever window it becomes a part of.
    form = schema_of(group.model_copy(update={"dataset": group.dataset.model_copy(update={"window": 1})}))
    return Limits(form.form_digest, max(1, min(kept.readings, kept.bytes // row)), kept.seconds)


def _check(path: Path) -> int:
    file = load(path)
    print(f"broker     {file.broker.host}:{file.broker.port}, as {file.broker.client_id}")
    for group in file.groups:
        schema = schema_of(group)
        label = f"{schema.label.kind} {schema.label.name}".strip()
        print(f"group      {group.name}: {', '.join(group.sensors)}")
        for filter in sorted(group.filters):
            print(f"  listens  {filter}")
        print(
            f"  dataset  {group.dataset.name}: examples {list(schema.shape)}, label {label}, {schema.form_digest}"
        )
    return 0


def _status(folder: Path, as_json: bool) -> int:
    if not (folder / STORE).exists():
        raise RelayError(f"no relay ran in {folder} yet: `fededge relay run`")
    with closing(Reader(folder / STORE)) as reader, reader.snapshot():
        sensors = reader.sensors()
        labeled = {group: reader.labeled(group) for group in sorted({each.group for each in sensors} - {""})}
    if as_json:
        print(json.dumps({"labeled": labeled, "sensors": [vars(each) for each in sensors]}, indent=1))
        return 0
    for group, count in labeled.items():
        mine = [each for each in sensors if each.group == group and each.name]
        kept = sum(each.readings for each in mine)
        print(f"group    {group}: {len(mine):,} sensors, {kept:,} readings kept, {count:,} labeled ever")
    for each in sensors:
        seen = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(each.seen))
        refused = "".join(f"; refused {count:,} {reason}" for reason, count in each.refused.items())
        name = f"{each.group}/{each.name}" if each.name else f"{each.group or 'any'}: nobody's"
        print(f"sensor   {name}: {each.readings:,} readings, last seen {seen}{refused}")
    return 0
