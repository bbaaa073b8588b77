"""The model that answers sensors: the release that a device's agent runs, whichever that is now.

It answers in a process of its own (fededge.device.model_process). One that hangs, crashes or is damaged answers no
longer, and the release before it does, if that is there still.
"""

import json
import logging
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np

from fededge import storage
from fededge.device import isolation
from fededge.device.installation import Installation, Installed
from fededge.device.model_process import Answering, ModelProcess
from fededge.device.policy_keys import Limits
from fededge.device.relay.settings import Inference
from fededge.documents import Schema
from fededge.errors import FedEdgeError, IntegrityError, ReleaseError
from fededge.signing import TrustedKey

log = logging.getLogger("fededge.relay")
Refused = Callable[[str, str, FedEdgeError], None]
LIMITS = Limits(memory_bytes=512 << 20, seconds=20.0)
"""Of the process of a model, and of an answer."""


class CurrentModel:
    """The model of the release in a device's folder.

    Args:
        rule: which.
        beside: the folder to which the paths that it names are relative.
        folder: of the relay, below which lie the releases that it follows itself.
        schema: of the examples that it has to answer.
        refused: told the task, the name and the fault of a release that answers no longer.

    Attributes:
        release: name of the one that answers; None where there is none that can.

    Raises:
        IntegrityError, StorageError: the trusted key cannot be read.
    """

    def __init__(self, rule: Inference, beside: Path, folder: Path, schema: Schema, refused: Refused) -> None:
        self._schema, self._folder = schema, folder
        self._task, self._tell = rule.task, refused
        own = folder / "releases" / rule.task
        device = own if rule.folder is None else beside / rule.folder
        self._pointer = device / "running.json"
        trusted = TrustedKey.load(beside / rule.trusted_key)
        self._installation = Installation(device, rule.task, rule.device_class, trusted, reading=True)
        self._seen: tuple[int, int, int] | None = None
        self._process: ModelProcess | None = None
        self._refused: set[str] = set()
        self.release: str | None = None

    def predict(self, x: np.ndarray) -> np.ndarray | None:
        """Outputs for `x` float32 [n, *shape]; None where there is no model that can answer."""
        request = json.dumps({"data": {"ndarray": x.tolist()}}).encode()
        while True:
            self._follow()
            if self._process is None or self.release is None:
                return None
            try:
                status, body = self._process.ask(request)
            except (IntegrityError, ReleaseError) as error:
                log.error("release %s answers no longer: %s", self.release, error)
                release, self._seen = self.release, None
                self._refused.add(release)
                self.close()
                self._tell(self._task, release, error)
                continue
            except FedEdgeError as error:
                log.error("release %s does not answer: %s", self.release, error)
                return None
            return self._outputs(status, body, len(x))

    def rest(self) -> None:
        """End the process if nobody asked it for a while."""
        if self._process is not None:
            self._process.rest()

    def close(self) -> None:
        """Let no model answer until the next request."""
        process, self._process, self.release = self._process, None, None
        if process is not None:
            process.close()

    def _outputs(self, status: int, body: bytes, count: int) -> np.ndarray | None:
        try:
            content = json.loads(body)
            if status == 200:
                return np.array(content["data"]["ndarray"], np.float32).reshape(count, self._schema.outputs)
            log.error("release %s does not answer: %s", self.release, content["status"]["info"])
        except (KeyError, TypeError, ValueError, RecursionError):
            log.error("release %s gives an answer that is none", self.release)
        return None

    def _follow(self) -> None:
        """Take the release that is current now. One that cannot be used leaves the last one that could."""
        seen = storage.state_of(self._pointer)
        if seen == self._seen or seen is None:
            return
        self._seen = seen
        try:
            for name in [name for name in self._installation.names() if name not in self._refused][:1]:
                self._take(self._installation.open(name))
                log.info("release %s answers", name)
        except FedEdgeError as error:
            log.error("the release that is current does not answer: %s", error)

    def _take(self, release: Installed) -> None:
        found = (tuple(release.manifest.shape), release.manifest.classes)
        wanted = (self._schema.shape, self._schema.outputs)
        if found != wanted:
            raise ReleaseError(
                f"it takes {list(found[0])} and gives {found[1]} outputs, where the relay's file says {list(wanted[0])} "
                f"and {wanted[1]}"
            )
        told = Answering(
            read=lambda: self._installation.open(release.name).model,
            kind=release.variant.kind,
            tags={},
            folder=self._folder / "answering",
            limits=LIMITS,
            hidden=lambda: [self._folder.resolve()],
            isolated=_isolated(),
        )
        self.close()
        self._process, self.release = ModelProcess(told), release.name


@cache
def _isolated() -> bool:
    return isolation.mistake() is None
