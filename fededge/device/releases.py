"""Following releases by way of the gateway: what is offered is proven, tried, and only then swapped in.

    asked --offered--> fetched --> tried --> staged --> swapped --> told
                          |          |
                          +----------+--> refused, told; what runs goes on running

<folder>/releases/<task>/            running.json, releases/: see fededge.device.installation
<folder>/releases/<task>/incoming/   what is being fetched, by digest, and tried

A manifest is refused as fededge.device.agent does, and one that was issued before the last that ran here, whether or not
its files are still there. A model that did harm when it was tried is remembered, and not fetched again.
"""

import asyncio
import logging
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from fededge.device.assignments import need_room
from fededge.device.connection import Connection
from fededge.device.followed import Followed, Operation, fail, following, report
from fededge.device.installation import Installed
from fededge.device.pace import Pace
from fededge.device.performance import Performance
from fededge.device.serving import Models
from fededge.device.trial import MODEL, ModelRefused, tried
from fededge.device.updating import Updater
from fededge.device.workplace import Workplace
from fededge.documents import PROGRAM, Release, check_model
from fededge.errors import FedEdgeError, GatewayError, IntegrityError, ReleaseError, StorageError
from fededge.protocol import Follow, Offer, Releases, Running
from fededge.signing import LIMIT

log = logging.getLogger("fededge.site")
LOOK_SECONDS = 60.0
"""Between polls while the policy has a mistake."""
FOLLOWS_FROM = 2
"""Version of the protocol that has releases."""


class Follower:
    """Follows the releases that the policy of the client in `place` names, and loads those that run into `models`.

    Args:
        place: where the client works.
        models: those that answer.
        program, end: see fededge.device.updating.
    """

    def __init__(
        self, place: Workplace, models: Models, program: str | None, end: Callable[[], None]
    ) -> None:
        self._place, self._models = place, models
        self._followed: dict[str, Followed] = {}
        self._wake = asyncio.Event()
        self._operation = Operation(place, models, self._wake.set)
        self._pace = Pace()
        self.updater = Updater(place, program, end, self._wake.set)

    def restore(self) -> None:
        """Run what is installed, with no word from anybody."""
        self._look()
        self.updater.restore()

    async def attend(self, connection: Connection, version: int) -> None:
        """Ask over a connection whose protocol has this version, again and again; never returns."""
        self.updater.connected()
        if version < FOLLOWS_FROM:
            await asyncio.Event().wait()
        for each in self._followed.values():
            each.told = None
        while True:
            self._wake.clear()
            self._look()
            said = [following(each) for each in self._followed.values()] + self.updater.following()
            if said:
                await connection.send(Follow(releases=said))
            last = self._place.policy.last
            seconds = last.policy.poll_seconds if last else LOOK_SECONDS
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._wake.wait()

    def take(self, message: Releases) -> None:
        """Work on what is offered, beside everything else."""
        for offer in message.offers:
            if offer.task == PROGRAM:
                self.updater.take(offer)
            each = self._followed.get(offer.task)
            if each is not None and each.work is None and offer.manifest.digest != each.known:
                each.work = asyncio.create_task(self._work(each, offer))

    def refuse(self, task: str, name: str, error: FedEdgeError) -> None:
        """Go back from the release `name` of a task, if it runs: it failed as others answered with it."""
        each = self._followed.get(task)
        if each is not None and each.current is not None and each.current.name == name:
            self._models.remove(task)
            self._operation.go_back(each, name, error)

    async def close(self) -> None:
        """Stop; what is installed stays."""
        await self.updater.close()
        for task in list(self._followed):
            await self._drop(task)

    def _look(self) -> None:
        """Follow what the policy names now."""
        try:
            wanted = self._place.policy.current().releases
        except FedEdgeError as error:
            log.error("releases stay as they are: %s", error)
            return
        for task, (follows, trusted) in wanted.items():
            each = self._followed.get(task)
            if each is not None and (each.wanted, each.trusted.id) == (follows, trusted.id):
                continue
            if each is not None and each.work is not None:
                continue  # looked at again once that is done
            if each is not None:
                each.installation.close()
                self._models.remove(task)
            try:
                self._followed[task] = self._operation.restore(follows, trusted)
            except FedEdgeError as error:
                log.error("release of %s: %s", task, error)
        for task in self._followed.keys() - wanted.keys():
            if self._followed[task].work is None:
                self._followed.pop(task).installation.close()
                self._models.remove(task)

    async def _work(self, each: Followed, offer: Offer) -> None:
        try:
            await self._settle(each, offer)
        finally:
            each.work = None
            self._wake.set()

    async def _settle(self, each: Followed, offer: Offer) -> None:
        """Install what is offered, or say why not; where that may be otherwise later, only return then."""
        try:
            each.running = await self._install(each, offer)
            self._pace.reset()
        except (GatewayError, StorageError, OSError) as error:
            named = error if isinstance(error, FedEdgeError) else _unusable(each.folder, error)
            fail(each, named)
            self._wake.set()
            await asyncio.sleep(self._pace.next())
            return
        except FedEdgeError as error:
            fail(each, error)
        each.known = offer.manifest.digest
        shutil.rmtree(each.folder / "incoming", ignore_errors=True)

    async def _install(self, each: Followed, offer: Offer) -> Running:
        """What runs once the offered release does."""
        place, follows = self._place, each.wanted
        if offer.manifest.digest == each.manifest:
            return each.running.model_copy(update={"status": "running", "error": None})
        incoming = each.folder / "incoming"
        incoming.mkdir(parents=True, exist_ok=True, mode=0o700)
        if offer.manifest.bytes > LIMIT:
            raise ReleaseError(
                f"a manifest of {offer.manifest.bytes:,} bytes is larger than {LIMIT:,}: refused"
            )
        envelope = (await place.fetched(offer.manifest, incoming)).read_bytes()
        name, manifest, variant = each.installation.verify(envelope)
        times, reason = place.store.mishaps(variant.digest)
        if times:
            raise ReleaseError(f"{reason} (it was tried here before, and is not fetched again)")
        self._need_newer(each, manifest, offer.manifest.digest)
        if offer.model is None or (offer.model.digest, offer.model.bytes) != (variant.digest, variant.bytes):
            raise IntegrityError("the gateway offers another model than the release names: refused")
        if variant.bytes > follows.limits.download_bytes:
            raise ReleaseError(
                f"the model's {variant.bytes:,} bytes are more than the {follows.limits.download_bytes:,} that the "
                "policy lets in (download_bytes)"
            )
        need_room(incoming, 3 * variant.bytes)
        fetched = await place.fetched(offer.model, incoming)
        log.info("release of %s: version %d is fetched", follows.task, manifest.version)
        performance = await self._tried(each, manifest, fetched)
        log.info("release of %s: version %d is tried", follows.task, manifest.version)
        model = fetched.read_bytes()
        check_model(variant, model)
        release = Installed(name, manifest, variant, model)
        before = each.current.name if each.current else None
        await asyncio.to_thread(each.installation.install, release, envelope, before)
        self._operation.run(each, release, offer.manifest.digest)
        running = report(follows, release, performance)
        place.store.installed(each.trusted.id, manifest.issued, offer.manifest.digest, running)
        log.info("runs release %s of %s: %s %s", name, follows.task, variant.kind, variant.digest)
        return running

    def _need_newer(self, each: Followed, manifest: Release, digest: str) -> None:
        last = self._place.store.released(each.wanted.task, each.trusted.id)
        if last is not None and last.manifest == digest:
            return  # its files are gone, or were damaged
        floors = [each.wanted.issued_after, *([last.issued] if last else [])]
        floors += [each.current.manifest.issued] if each.current else []
        if manifest.issued <= max(floors):
            raise ReleaseError(
                f"refused release {manifest.version}: it was issued no later than one that ran here, or than the policy "
                "asks for (issued_after). Release again"
            )

    async def _tried(self, each: Followed, manifest: Release, fetched: Path) -> Performance:
        place, follows = self._place, each.wanted
        variant = manifest.variant_for(follows.device_class)
        folder = each.folder / "incoming" / "trial"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(mode=0o700)
        shutil.copyfile(fetched, folder / MODEL)
        samples = None if follows.samples is None else Path(follows.samples)
        hidden = place.hidden(place.policy.current(), samples or folder)
        try:
            return await tried(folder, manifest, variant, follows.limits, samples, hidden, place.isolated)
        except ModelRefused as error:
            place.store.note_mishap(variant.digest, str(error))
            raise

    async def _drop(self, task: str) -> None:
        each = self._followed.pop(task)
        if each.work is not None:
            each.work.cancel()
            await asyncio.wait([each.work])
        each.installation.close()


def _unusable(folder: Path, error: OSError) -> StorageError:
    return StorageError(f"cannot use {folder}: {error.strerror}. Free space, or check its permissions")
