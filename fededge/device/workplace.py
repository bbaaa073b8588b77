"""All that a client works with: its folder, who it is, its policy, what it remembers, and its runner.

<folder>/identity.json, key.pem   who it is (fededge.device.identity)
<folder>/store.db                 what it must not forget (fededge.device.store)
<folder>/journal.jsonl            what left it (fededge.device.journal)
<folder>/plans/                   unpacked plans (fededge.device.plans)
<folder>/work/<assignment>/       plan.zip, weights, update
<folder>/runner/                  files and log of the child process
"""

import shutil
import ssl
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from filelock import FileLock, Timeout

from fededge import settings
from fededge.device import facts, isolation
from fededge.device.child import Runner
from fededge.device.clock import Clock
from fededge.device.identity import KEY, Identity, identity_in
from fededge.device.journal import Journal
from fededge.device.line import Line
from fededge.device.monitor import MachineMonitor, Monitor
from fededge.device.plans import Plans
from fededge.device.policy import Loaded, PolicyFile
from fededge.device.store import Store
from fededge.device.transfers import Transfers
from fededge.errors import SiteError, StorageError
from fededge.protocol import Dataset, Kind, Object
from fededge.signing import SigningKey


@dataclass
class Whereabouts:
    """`region`: where the client is, as the gateway said when it let it in last, or when it was enrolled."""

    region: str | None


@dataclass(frozen=True)
class Workplace:
    """See above.

    Attributes:
        tls: how to prove the gateway's certificate.
        frameworks: whose plans its runner executes.
        isolated: whether that runs in isolation.
        told: what the gateway was told of each dataset.
    """

    folder: Path
    identity: Identity
    key: SigningKey
    policy: PolicyFile
    store: Store
    journal: Journal
    plans: Plans
    runner: Runner
    tls: ssl.SSLContext
    transfers: Transfers
    line: Line
    clock: Clock
    monitor: Monitor
    whereabouts: Whereabouts
    frameworks: list[str]
    isolated: bool
    told: dict[str, Dataset] = field(default_factory=dict)

    def told_of(self, dataset: str, kind: Kind) -> int | None:
        """How many examples for work of a kind the gateway was told of; a coordinator takes nothing that is of more."""
        held = self.told.get(dataset)
        return None if held is None else held.test if kind == "evaluate" else held.train

    def work_folder(self, assignment: str) -> Path:
        """Where the files of an assignment lie."""
        return self.folder / "work" / assignment

    async def fetched(self, wanted: Object, folder: Path) -> Path:
        """The file in `folder`, named by its digest, that gets the object `wanted` unless it is there.

        Raises:
            GatewayError, IntegrityError, StorageError: see fededge.device.fetching.fetch.
            SiteError: the policy has a mistake, or its URL leads elsewhere than it may.
        """
        target = folder / wanted.digest.removeprefix("sha256:")
        url = self.identity.address.object(wanted.url, self.policy.current().policy.hosts)
        await self.transfers.fetch(url, wanted, target)
        return target

    def hidden(self, policy: Loaded, data: Path) -> tuple[Path, ...]:
        """What the runner does not see in isolation: keys, journals, and other data than `data`."""
        others = [folder for folder in policy.folders.values() if folder != data]
        return tuple(folder.resolve() for folder in (settings.home(), self.folder, *others))


@contextmanager
def workplace(
    folder: Path, policy: Path, runner: Sequence[str], clock: Clock, monitor: Monitor | None = None
) -> Iterator[Workplace]:
    """The workplace in `folder`, for this process alone.

    Args:
        folder: of an enrolled client.
        policy: the site's policy file.
        runner: command that executes plans.
        clock: of this machine.
        monitor: tells what conditions are over; None: this machine's.

    Raises:
        SiteError: the client is not enrolled, its policy is wrong, another process works there, or there is no runner.
        StorageError: a file cannot be read or written.
    """
    folder = folder.absolute()
    identity = identity_in(folder)
    rules = PolicyFile(policy)
    lock = FileLock(folder / "lock", thread_local=False)
    try:
        lock.acquire(blocking=False)
    except Timeout as error:
        raise SiteError(f"another client runs in {folder}: stop it, or name another folder") from error
    except OSError as error:
        raise StorageError(f"cannot use {folder}: {error.strerror}. Check its permissions") from error
    with lock:
        isolated = isolation.mistake() is None
        tls = identity.tls
        store = Store(folder / "store.db")
        place = Workplace(
            folder=folder,
            identity=identity,
            key=SigningKey.load(folder / KEY),
            policy=rules,
            store=store,
            journal=Journal(folder / "journal.jsonl", clock),
            plans=Plans(folder / "plans"),
            runner=Runner(runner, folder / "runner", isolated),
            tls=tls,
            transfers=Transfers(tls),
            line=Line(),
            clock=clock,
            monitor=MachineMonitor(folder, rules, clock) if monitor is None else monitor,
            whereabouts=Whereabouts(identity.region),
            frameworks=facts.frameworks(runner),
            isolated=isolated,
        )
        _remove_leftovers(place)
        try:
            yield place
        finally:
            store.close()


def _remove_leftovers(place: Workplace) -> None:
    """Remove the files of assignments that are done."""
    held = {held.assignment.id for held in place.store.held()}
    work = place.folder / "work"
    for folder in work.iterdir() if work.is_dir() else ():
        if folder.name not in held:
            shutil.rmtree(folder, ignore_errors=True)
