"""Makes client folders of what was collected, whole, while others read the last one.

<folder>/datasets/<name>                a link to the newest
<folder>/datasets/<name>.versions/<n>/  train/, test/ and made.json: a client folder that never changes
<folder>/conditions.json                what of them is new to who learns here: {"new_examples": N, ...}

A link is replaced in one step, and who follows it once reads one version. The last KEPT stay for who still does.
"""

import hashlib
import json
import logging
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fededge import examples, storage
from fededge.device.history import remembered
from fededge.device.relay.reader import STORE, Reader, Stored
from fededge.device.relay.schema import schema_of
from fededge.device.relay.settings import Group
from fededge.documents import Schema
from fededge.errors import StorageError

log = logging.getLogger("fededge.relay")
KEPT = 3
LOOK_SECONDS = 1.0
OWN_BYTES = 4096
ROUNDS = 100
"""Last ones, among which one that learned is looked for: its outcome is one of LEARNED."""
LEARNED = ("finished", "kept")


class Datasets:
    """The datasets of `groups` in a relay's `folder`, made from its store.

    Attributes:
        new_examples: labeled readings in them that no round learned from yet.
        changed: called once a dataset was made, in the thread that makes them.
    """

    def __init__(
        self, groups: Iterable[Group], folder: Path, now: Callable[[], float] = time.monotonic
    ) -> None:
        self._groups, self._folder, self._now = list(groups), folder, now
        self._looked = dict.fromkeys((group.name for group in self._groups), now())
        self._rounds = folder / "store.db"
        told = folder / "conditions.json"
        self.new_examples = int(_content(told)["new_examples"]) if told.exists() else 0
        self.changed: Callable[[], None] = lambda: None

    def run(self, ending: threading.Event) -> None:
        """Make what is due, until `ending`."""
        reader = Reader(self._folder / STORE)
        try:
            while not ending.wait(LOOK_SECONDS):
                try:
                    self.make_due(reader)
                except StorageError as error:
                    log.error("%s", error)
        finally:
            reader.close()

    def make_due(self, reader: Reader) -> None:
        """Make the datasets for which there is enough that is new, and tell what nobody learned from yet.

        Raises:
            StorageError: a file cannot be read or written; what was made before is there still.
        """
        made = False
        for group in self._groups:
            rule, since = group.dataset, self._now() - self._looked[group.name]
            count = reader.labeled(group.name) - self._made(group)
            soon = since >= rule.seconds_between or not self._link(group).exists()
            if (count >= rule.new_examples and soon) or (count and since >= rule.every_seconds):
                self._looked[group.name] = self._now()
                self.make(group, reader)
                made = True
        self._tell()
        if made:
            self.changed()

    def _tell(self) -> None:
        """Write down how many labeled readings are in the datasets that were not when it was learned from them."""
        made, file = sum(map(self._made, self._groups)), self._folder / "conditions.json"
        known: dict[str, Any] = _content(file) if file.exists() else {"learned": 0, "round": None}
        rounds = remembered(self._rounds, ROUNDS) if self._rounds.exists() else []
        last = next((each.round for each in rounds if each.kind == "train" and each.outcome in LEARNED), None)
        learned = known["learned"] if last == known["round"] else made
        told = {"new_examples": made - learned, "learned": learned, "round": last}
        self.new_examples = made - learned
        if told != known:
            storage.write(str(file), json.dumps(told).encode())

    def make(self, group: Group, reader: Reader) -> None:
        """Make the dataset of `group` anew, if there is an example to learn from.

        Raises:
            StorageError: a file cannot be read or written.
        """
        with reader.snapshot():
            labeled = reader.labeled(group.name)
            parts = _examples(group, reader)
        if not len(parts["train"][1]):
            return
        link = self._link(group)
        versions = link.with_name(f"{link.name}.versions")
        try:
            versions.mkdir(parents=True, exist_ok=True)
            numbers = sorted(int(each.name) for each in versions.iterdir() if each.name.isdigit())
            version = versions / str(numbers[-1] + 1 if numbers else 1)
            try:
                _write(version, parts, schema_of(group), labeled)
                _point(link, version)
            except BaseException:
                shutil.rmtree(version, ignore_errors=True)
                raise
            for number in numbers[: 1 - KEPT]:
                shutil.rmtree(versions / str(number), ignore_errors=True)
        except OSError as error:
            raise StorageError(
                f"cannot make the dataset {link}: {error}. Free space, or fix permissions"
            ) from error
        log.info(
            "dataset %s: %s training and %s test examples", link.name, *(len(y) for _, y in parts.values())
        )

    def _link(self, group: Group) -> Path:
        return self._folder / "datasets" / group.dataset.name

    def _made(self, group: Group) -> int:
        """How many labeled readings had come when the newest was made."""
        made = self._link(group) / "made.json"
        return int(_content(made)["labeled"]) if made.exists() else 0


Made = tuple[np.ndarray, np.ndarray]
"""Examples [n, window, width] with their labels [n]."""


def _examples(group: Group, reader: Reader) -> dict[str, Made]:
    """The newest examples of each sensor, in a training and a test part."""
    window, step = group.dataset.window, group.dataset.step or group.dataset.window
    width = sum(field.size for field in group.features)
    none = np.empty((0, window, width), np.float32), np.empty(0)
    parts: dict[str, list[Made]] = {"train": [none], "test": [none]}
    sensors = [each.name for each in reader.sensors() if each.group == group.name and each.name]
    most = max(1, group.dataset.most // max(1, len(sensors)))
    for sensor in sensors:
        stored = reader.newest(group.name, sensor, (most - 1) * step + window)[::-1]
        last = [n for n in range(len(stored) - 1, window - 2, -step) if stored[n].label is not None][::-1]
        values = np.frombuffer(b"".join(each.value for each in stored), "<f4").reshape(-1, width)
        x = values[np.array(last, int)[:, None] + np.arange(1 - window, 1)]
        y = np.array([stored[n].label for n in last], float)
        test = np.array([_is_test(stored[n], group.dataset.test) for n in last], bool)
        for part, mine in (("train", ~test), ("test", test)):
            parts[part].append((x[mine], y[mine]))
    return {part: _joined(made) for part, made in parts.items()}


def _joined(made: Sequence[Made]) -> Made:
    return np.concatenate([x for x, _ in made]), np.concatenate([y for _, y in made])


def _is_test(reading: Stored, share: float) -> bool:
    """Whether a reading is for testing: by its sensor and id, so always the same."""
    hashed = hashlib.sha256(f"{reading.sensor}/{reading.id}".encode()).digest()
    return int.from_bytes(hashed[:8], "big") < share * 2.0**64


def _write(version: Path, parts: Mapping[str, Made], schema: Schema, labeled: int) -> None:
    """Write a client folder, synced."""
    for part, (x, y) in parts.items():
        if len(y):
            labels = np.empty((len(y), 0)) if schema.label.kind == "none" else y
            examples.write(version / part, x.reshape(len(x), *schema.shape), labels, schema)
    storage.write(str(version / "made.json"), json.dumps({"labeled": labeled}).encode())
    _sync(version)


def _content(file: Path) -> dict[str, Any]:
    """What a file of the relay's own holds."""
    try:
        content = json.loads(storage.read(str(file), OWN_BYTES))
        if isinstance(content, dict):
            return content
    except ValueError:
        pass
    raise StorageError(f"{file} is damaged: remove {file}")


def _sync(version: Path) -> None:
    """Make a folder and all in it survive a power cut."""
    for file in version.rglob("*"):
        if file.is_file():
            with file.open("rb") as opened:
                os.fsync(opened.fileno())
        else:
            storage.sync_folder(file)
    for folder in (version, version.parent, version.parent.parent):
        storage.sync_folder(folder)


def _point(link: Path, version: Path) -> None:
    """Let `link` lead to `version` from now on."""
    aside = link.with_name(f".{link.name}.new")
    aside.unlink(missing_ok=True)
    aside.symlink_to(version.relative_to(link.parent))
    os.replace(aside, link)
    storage.sync_folder(link.parent)
