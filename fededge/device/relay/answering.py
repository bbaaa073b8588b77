"""Answers requests of sensors with the current model, in a thread of its own, so that readings never wait for it."""

import json
import logging
import queue
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

from fededge import named
from fededge.device.relay.intake import Request
from fededge.device.relay.model import CurrentModel, Refused
from fededge.device.relay.payload import Reason
from fededge.device.relay.reader import STORE, Reader
from fededge.device.relay.schema import schema_of
from fededge.device.relay.settings import Group
from fededge.errors import FedEdgeError, StorageError

log = logging.getLogger("fededge.relay")
WAITING = 256
"""Requests."""
WAKE_SECONDS = 0.5
Send = Callable[[str, bytes, bytes | None], None]


class Answering:
    """Answers requests of `groups`.

    Args:
        beside: to which paths in the relay's file are relative.
        folder: of the relay, with the readings, of which windows are made, and the releases.
        send: topic, payload and correlation data of an answer.

    Attributes:
        refused: told the task, the name and the fault of a release that answers no longer.
    """

    def __init__(self, groups: Iterable[Group], beside: Path, folder: Path, send: Send) -> None:
        self._store, self._send = folder / STORE, send
        self._waiting: queue.Queue[Request] = queue.Queue(WAITING)
        self._groups = {group.name: group for group in groups if group.inference}
        self._schemas = {name: schema_of(group) for name, group in self._groups.items()}
        self.refused: Refused = lambda task, release, error: None
        self._models = {
            name: CurrentModel(group.inference, beside, folder, self._schemas[name], self._refuse)
            for name, group in self._groups.items()
            if group.inference
        }

    def ask(self, request: Request) -> bool:
        """Take a request; False where too many wait already."""
        try:
            self._waiting.put_nowait(request)
        except queue.Full:
            return False
        return True

    def run(self, ending: threading.Event) -> None:
        """Answer until `ending`."""
        reader = Reader(self._store)
        try:
            while not ending.is_set():
                try:
                    request = self._waiting.get(timeout=WAKE_SECONDS)
                except queue.Empty:
                    for model in self._models.values():
                        model.rest()
                    continue
                answer = json.dumps(self._answer(request, reader), separators=(",", ":"))
                self._send(request.topic, answer.encode(), request.correlation)
        finally:
            reader.close()
            for model in self._models.values():
                model.close()

    def _refuse(self, task: str, release: str, error: FedEdgeError) -> None:
        self.refused(task, release, error)

    def _answer(self, request: Request, reader: Reader) -> dict[str, Any]:
        if request.value is None:
            return {"error": request.reason}
        schema, model = self._schemas[request.group], self._models[request.group]
        values = [request.value]
        if (window := self._groups[request.group].dataset.window) > 1:
            try:
                before = reader.newest(request.group, request.sensor, window - 1)
            except StorageError as error:
                log.error("%s", error)
                before = []
            if len(before) < window - 1:
                return {"error": Reason.early}
            values = [*(reading.value for reading in reversed(before)), request.value]
        x = np.frombuffer(b"".join(values), "<f4").reshape(1, *schema.shape).astype(np.float32)
        outputs = model.predict(x)
        if outputs is None:
            return {"error": Reason.model}
        return {"release": model.release, **named.answers(outputs, x, schema)[0]}
