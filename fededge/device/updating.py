"""Following releases of this very program, by way of the gateway.

    offered -> downloaded -> installed -> tried -> switched -> confirmed
                    |            |          |          |
                    +------------+----------+----------+--> refused or gone back from, told; what ran goes on

A release is proven as one of a model is: its signature by the key that the policy names, digest and size of the bundle,
and that it was issued later than what runs. The program that is switched to is started by fededge.device.launcher, and
confirmed by itself once it has a session with the gateway. A release that did not come to that is remembered, and not
fetched again.
"""

import asyncio
import logging
import shutil
from collections.abc import Callable

from fededge import __version__, storage
from fededge.device import kept_store, launcher
from fededge.device.assignments import need_room
from fededge.device.pace import Pace
from fededge.device.policy_keys import Program
from fededge.device.programs import ProgramRefused, Programs
from fededge.device.workplace import Workplace
from fededge.documents import PROGRAM, ProgramRelease
from fededge.errors import FedEdgeError, GatewayError, IntegrityError, ReleaseError, StorageError, shown
from fededge.protocol import Following, Object, Offer, Running
from fededge.signing import LIMIT, TrustedKey

log = logging.getLogger("fededge.site")
WORDS = 500
"""Most letters of why a release is not followed."""
ROOM = 6
"""How many times a bundle's size is needed to install it: the bundle, its wheels, and what they become."""


class Updater:
    """Follows the releases of the program of the client in `place`.

    Args:
        place: where it works.
        program: `agent` or `site`, as the launcher started it; None: it did not, and no release is followed.
        end: ends this program, in order.
        wake: has the gateway told at once how it is.
    """

    def __init__(
        self, place: Workplace, program: str | None, end: Callable[[], None], wake: Callable[[], None]
    ) -> None:
        self._place, self._program, self._end, self._wake = place, program, end, wake
        self._programs = Programs(place.folder)
        self._pace = Pace()
        self._known: str | None = None
        self._error: str | None = None
        self._told: tuple[str | None, str] | None = None
        self._work: asyncio.Task[None] | None = None
        self.switched = False

    def restore(self) -> None:
        """Remember what was gone back from."""
        failed = launcher.read(self._place.folder).failed
        if failed is None:
            return
        shutil.rmtree(launcher.packages(self._place.folder, failed), ignore_errors=True)
        self._error = (
            f"gone back from release {failed}: it had no session with the gateway in {launcher.STARTS} starts"
        )
        log.error("program: %s", self._error)
        try:
            self._known = storage.digest(self._programs.manifest(failed))
            if not self._place.store.mishaps(self._known)[0]:
                self._place.store.note_mishap(self._known, self._error)
        except StorageError as error:
            log.warning("program: %s", error)

    def connected(self) -> None:
        """There is a session with the gateway: this program came up."""
        self._told = None
        if self._program is None or self.switched:
            return
        folder, name, found = self._place.folder, launcher.running(), self._wanted()
        launcher.confirm(folder)
        if found is not None and name is not None:
            self._note_current(name, *found)
        if self._work is None:
            state = launcher.read(folder)
            self._programs.prune({state.current, state.previous, state.failed})

    def following(self) -> list[Following]:
        """What is said of it to the gateway; what runs only where that was not told in this session."""
        found = self._wanted()
        if found is None:
            return []
        told = (self._error, found[0].device_class)
        running = None if told == self._told else self._running(found[0])
        self._told = told
        return [
            Following(task=PROGRAM, device_class=found[0].device_class, manifest=self._known, running=running)
        ]

    def take(self, offer: Offer) -> None:
        """Work on what is offered, beside everything else; a release without this class is nothing to work on."""
        if (
            offer.model is None
            or offer.manifest.digest == self._known
            or self._work is not None
            or self.switched
        ):
            return
        self._work = asyncio.create_task(self._settle(offer, offer.model))

    async def close(self) -> None:
        """Stop; what is installed stays."""
        if self._work is not None:
            self._work.cancel()
            await asyncio.wait([self._work])

    def _wanted(self) -> tuple[Program, TrustedKey] | None:
        last = self._place.policy.last
        return None if last is None or self._program is None else last.program

    def _running(self, wanted: Program) -> Running:
        return Running(
            task=PROGRAM,
            device_class=wanted.device_class,
            kind=__version__,
            status="running" if self._error is None else "failed",
            error=self._error,
        )

    def _note_current(self, name: str, wanted: Program, trusted: TrustedKey) -> None:
        """From now on no release is taken that was issued earlier than the one that runs."""
        try:
            envelope = self._programs.manifest(name)
            issued = ProgramRelease.opened(envelope, trusted).issued
            digest = storage.digest(envelope)
            last = self._place.store.released(PROGRAM, trusted.id)
            if last is None or last.manifest != digest:
                self._place.store.installed(trusted.id, issued, digest, self._running(wanted))
                log.info("program: release %s is confirmed", name)
            self._known = self._known or digest
        except FedEdgeError as error:
            log.warning("program: %s", error)

    async def _settle(self, offer: Offer, bundle: Object) -> None:
        """Switch to what is offered, or say why not; where that may be otherwise later, only return then."""
        try:
            await self._update(offer.manifest, bundle)
        except (GatewayError, StorageError, OSError) as error:
            self._failed(str(error))
            await asyncio.sleep(self._pace.next())
        except FedEdgeError as error:
            self._failed(str(error))
            self._known = offer.manifest.digest
            if isinstance(error, ProgramRefused):
                self._place.store.note_mishap(offer.manifest.digest, str(error))
            shutil.rmtree(self._programs.incoming, ignore_errors=True)
        finally:
            self._work = None
            self._wake()

    def _failed(self, error: str) -> None:
        self._error = shown(" ".join(error.split()), WORDS)
        log.warning("program: %s", self._error)
        self._wake()

    async def _update(self, manifest: Object, offered: Object) -> None:
        found, place = self._wanted(), self._place
        if found is None:
            return
        wanted, trusted = found
        times, reason = place.store.mishaps(manifest.digest)
        if times:
            raise ReleaseError(f"{reason} (it is not fetched again: release anew)")
        if manifest.bytes > LIMIT:
            raise ReleaseError(f"a manifest of {manifest.bytes:,} bytes is larger than {LIMIT:,}: refused")
        incoming = self._programs.incoming
        incoming.mkdir(parents=True, exist_ok=True, mode=0o700)
        envelope = (await place.fetched(manifest, incoming)).read_bytes()
        release = ProgramRelease.opened(envelope, trusted)
        self._need_newer(release, wanted, trusted)
        bundle = release.bundle_for(wanted.device_class)
        if (offered.digest, offered.bytes) != (bundle.digest, bundle.bytes):
            raise IntegrityError("the gateway offers another bundle than the release names: refused")
        if bundle.bytes > wanted.download_bytes:
            raise ReleaseError(
                f"the bundle's {bundle.bytes:,} bytes are more than the {wanted.download_bytes:,} that the policy lets "
                "in (program.download_bytes)"
            )
        name = f"{release.version}-{manifest.digest.removeprefix('sha256:')[:16]}"
        if not self._programs.has(name):
            need_room(incoming, ROOM * bundle.bytes)
            file = await place.fetched(offered, incoming)
            log.info("program: release %s is downloaded", name)
            await self._programs.install(name, envelope, file)
        log.info("program: release %s is installed", name)
        await self._programs.try_out(name, release.version, str(self._program), place.policy.path)
        log.info("program: release %s is tried", name)
        await asyncio.to_thread(kept_store.keep, place.folder)
        state = launcher.State(
            current=name, previous=launcher.running(), confirmed=False, seconds=wanted.confirm_seconds
        )
        launcher.write(place.folder, state)
        log.info("program: release %s is switched to", name)
        self.switched = True
        self._end()

    def _need_newer(self, release: ProgramRelease, wanted: Program, trusted: TrustedKey) -> None:
        last = self._place.store.released(PROGRAM, trusted.id)
        if release.issued <= max(wanted.issued_after, last.issued if last else 0.0):
            raise ReleaseError(
                f"refused program {release.version}: it was issued no later than one that ran here, or than the policy "
                "asks for (program.issued_after). Release again"
            )
