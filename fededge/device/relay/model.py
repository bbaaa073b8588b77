"""The model that answers sensors: the release that a device's agent runs, whichever that is now."""

import logging
import os
from pathlib import Path

import numpy as np

from fededge.device.installation import Installation
from fededge.device.relay.settings import Inference
from fededge.documents import Schema
from fededge.errors import FedEdgeError, ReleaseError
from fededge.inference import LoadedModel, load_model
from fededge.signing import TrustedKey

log = logging.getLogger("fededge.relay")


class CurrentModel:
    """The model of the release in a device's folder.

    Args:
        rule: which.
        beside: the folder to which the paths that it names are relative.
        folder: of the relay, below which lie the releases that it follows itself.
        schema: of the examples that it has to answer.

    Attributes:
        release: name of the one that answers; None where there is none that can.

    Raises:
        IntegrityError, StorageError: the trusted key cannot be read.
    """

    def __init__(self, rule: Inference, beside: Path, folder: Path, schema: Schema) -> None:
        self._schema = schema
        own = folder / "releases" / rule.task
        device = own if rule.folder is None else beside / rule.folder
        self._pointer = device / "running.json"
        trusted = TrustedKey.load(beside / rule.trusted_key)
        self._installation = Installation(device, rule.task, rule.device_class, trusted, reading=True)
        self._seen: tuple[int, int] | None = None
        self._model: LoadedModel | None = None
        self.release: str | None = None

    def predict(self, x: np.ndarray) -> np.ndarray | None:
        """Outputs for `x` float32 [n, *shape]; None where there is no model that can answer."""
        self._follow()
        if self._model is None:
            return None
        try:
            outputs = self._model.predict(x)
        except FedEdgeError as error:
            log.error("release %s does not answer: %s", self.release, error)
            return None
        return outputs if np.isfinite(outputs).all() else None

    def _follow(self) -> None:
        """Take the release that is current now. One that cannot be used leaves the last one that could."""
        seen = self._state()
        if seen == self._seen or seen is None:
            return
        self._seen = seen
        try:
            for name in self._installation.names()[:1]:
                installed = self._installation.open(name)
                model = load_model(installed.model, installed.variant.kind)
                wanted = (self._schema.shape, self._schema.outputs)
                if (tuple(model.input_shape), model.classes) != wanted:
                    raise ReleaseError(
                        f"it takes {list(model.input_shape)} and gives {model.classes} outputs, where the relay's file "
                        f"says {list(wanted[0])} and {wanted[1]}"
                    )
                self._model, self.release = model, name
                log.info("release %s answers", name)
        except FedEdgeError as error:
            log.error("the release that is current does not answer: %s", error)

    def _state(self) -> tuple[int, int] | None:
        try:
            found = os.stat(self._pointer)
        except OSError:
            return None
        return found.st_mtime_ns, found.st_ino
