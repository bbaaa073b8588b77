"""A task whose releases are followed: which of them runs here, at the start and after one that fails.

A model that hangs, crashes or is damaged while it answers is gone back from: the release before it runs again, if it is
there still. What did harm is remembered, and neither run nor fetched again; what is damaged is fetched again.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from fededge import storage
from fededge.device.installation import Installation, Installed
from fededge.device.model_process import Answering
from fededge.device.performance import Performance
from fededge.device.policy_keys import Follows
from fededge.device.serving import Models
from fededge.device.trial import ModelRefused
from fededge.device.workplace import Workplace
from fededge.errors import FedEdgeError, ReleaseError, shown
from fededge.protocol import Following, Running
from fededge.signing import LIMIT, TrustedKey

log = logging.getLogger("fededge.site")
WORDS = 500
"""Most letters of why a release is not followed."""


@dataclass
class Followed:
    """A release that is followed.

    Attributes:
        wanted: as the policy has it; trusted: the key that it names.
        current: what is installed, without the model's bytes.
        manifest: digest of its manifest.
        known: digest of the manifest that was installed or refused last.
        running: what is told of it; `told`: what was told in this session.
    """

    wanted: Follows
    trusted: TrustedKey
    installation: Installation
    folder: Path
    running: Running
    current: Installed | None = None
    manifest: str | None = None
    known: str | None = None
    told: Running | None = None
    work: "asyncio.Task[None] | None" = None


class Operation:
    """Runs releases that are installed: lets them answer, and goes back from those that fail.

    Args:
        place: of the client.
        models: that answer.
        changed: called once another release runs than before, or none.
    """

    def __init__(self, place: Workplace, models: Models, changed: Callable[[], None]) -> None:
        self._place, self._models, self._changed = place, models, changed

    def restore(self, follows: Follows, trusted: TrustedKey) -> Followed:
        """What is installed of a task, if anything, running.

        Raises:
            ReleaseError, StorageError: its folder cannot be used.
        """
        folder = self._place.folder / "releases" / follows.task
        installation = Installation(folder, follows.task, follows.device_class, trusted)
        nothing = Running(task=follows.task, device_class=follows.device_class, status="running")
        each = Followed(follows, trusted, installation, folder, nothing)
        try:
            names = installation.names()
        except FedEdgeError as error:
            log.warning("%s", error)
            names = []
        self._run_first(each, names)
        if names and each.current and each.current.name == names[0]:
            each.known = each.manifest
        return each

    def run(self, each: Followed, release: Installed, manifest: str) -> None:
        """Let a release run, which is installed and whose manifest has this digest."""
        variant = release.variant
        told = Answering(
            read=lambda: each.installation.open(release.name).model,
            kind=variant.kind,
            tags={
                "model_version": str(release.manifest.version),
                "variant": variant.kind,
                "digest": variant.digest,
            },
            folder=each.folder / "answering",
            limits=each.wanted.limits,
            hidden=lambda: self._place.hidden(self._place.policy.current(), each.folder),
            isolated=self._place.isolated,
        )
        self._models.put(each.wanted.task, told, lambda error: self.go_back(each, release.name, error))
        each.current, each.manifest = replace(release, model=b""), manifest

    def _run_first(self, each: Followed, names: Sequence[str], floor: float = 0.0) -> None:
        """Let the first of the installed releases run that is usable and did no harm.

        Args:
            each: whose releases they are.
            names: of the releases, the newest first.
            floor: when one that did harm was issued: none that was issued before it is taken from now on.
        """
        store, follows = self._place.store, each.wanted
        for name in names:
            try:
                release = each.installation.open(name)
                times, reason = store.mishaps(release.variant.digest)
                if times:
                    floor = max(floor, release.manifest.issued)
                    raise ReleaseError(reason)
                manifest = storage.digest(
                    storage.read(str(each.folder / "releases" / name / "manifest.json"), LIMIT)
                )
                self.run(each, release, manifest)
            except FedEdgeError as error:
                log.warning("release %s of %s is not usable: %s", name, follows.task, error)
                continue
            before = store.released(follows.task, each.trusted.id)
            measured = before.running if before and before.manifest == manifest else None
            each.running = measured or report(follows, release, None)
            if measured is None:
                issued = max(floor, release.manifest.issued)
                store.installed(each.trusted.id, issued, manifest, each.running)
            log.info("runs release %s of %s", name, follows.task)
            return

    def go_back(self, each: Followed, name: str, error: FedEdgeError) -> None:
        """Let the release before `name` run, which failed."""
        failed, each.current, each.manifest = each.current, None, None
        each.running = Running(task=each.wanted.task, device_class=each.wanted.device_class, status="running")
        floor = 0.0
        try:
            if failed is not None and isinstance(error, ModelRefused):
                floor = failed.manifest.issued
                self._place.store.note_mishap(failed.variant.digest, str(error))
            else:
                each.known = None
        except FedEdgeError as mistake:
            log.error("release %s of %s: %s", name, each.wanted.task, mistake)
        try:
            names = each.installation.names()
            self._run_first(each, names[names.index(name) + 1 :] if name in names else names, floor)
            if each.work is None:
                each.installation.go_back(each.current.name if each.current else None)
        except FedEdgeError as mistake:
            log.error("going back from release %s of %s: %s", name, each.wanted.task, mistake)
        fail(each, error)
        self._changed()


def fail(each: Followed, error: FedEdgeError) -> None:
    """Tell why what was released does not run."""
    text = shown(" ".join(str(error).split()), WORDS)
    log.warning("release of %s: %s", each.wanted.task, text)
    each.running = each.running.model_copy(update={"status": "failed", "error": text})


def following(each: Followed) -> Following:
    """What is said of a release; what runs only where that was not told."""
    told, each.told = each.told, each.running
    return Following(
        task=each.wanted.task,
        device_class=each.wanted.device_class,
        manifest=each.known,
        running=None if told == each.running else each.running,
    )


def report(follows: Follows, release: Installed, performance: Performance | None) -> Running:
    """What is told of a release that runs."""
    return Running(
        task=follows.task,
        device_class=follows.device_class,
        version=release.manifest.version,
        kind=release.variant.kind,
        digest=release.variant.digest,
        status="running",
        metric=performance.metric if performance else "",
        score=performance.score if performance else None,
        latency_ms=performance.latency_ms if performance else None,
    )
