"""What a client holds to learn from, and when a gateway has to hear of it anew.

A dataset that is new, or of a new form, is told at once; that one grew or is gone, no sooner than after a while, so that
a client whose data change all the time does not connect all the time.
"""

import asyncio
import logging
from collections.abc import Mapping
from pathlib import Path

from fededge import storage
from fededge.device import facts
from fededge.device.workplace import Workplace
from fededge.errors import SiteError
from fededge.protocol import Dataset

log = logging.getLogger("fededge.site")
Seen = dict[Path, tuple[int, int, int]]


class Holdings:
    """What the client in `place` holds.

    Args:
        place: with a policy that names the folders.
        refresh_seconds: no sooner than after so long is it told that a dataset grew or is gone.

    Attributes:
        told: what the gateway was told last.
    """

    def __init__(self, place: Workplace, refresh_seconds: float) -> None:
        self._place, self._refresh = place, refresh_seconds
        self._seen: Seen = {}
        self._at = 0.0
        self.told: list[Dataset] = []

    def tell(self) -> list[Dataset]:
        """What there is now, which the gateway is told."""
        folders = self._folders()
        self._seen, self._at = _seen(folders), asyncio.get_running_loop().time()
        self.told = facts.datasets(folders)
        self._place.told.clear()
        self._place.told.update({each.name: each for each in self.told})
        return self.told

    def changed(self) -> bool:
        """Whether the gateway has to hear now of what there is."""
        folders = self._folders()
        grown = asyncio.get_running_loop().time() - self._at >= self._refresh
        seen = _seen(folders)
        if seen == self._seen and not grown:
            return False
        self._seen = seen
        held = facts.datasets(folders)
        return held != self.told if grown else not _forms(held) <= _forms(self.told)

    def _folders(self) -> Mapping[str, Path]:
        try:
            return self._place.policy.current().folders
        except SiteError as error:
            log.error("nothing is allowed for now: %s", error)
            return {}


def _forms(datasets: list[Dataset]) -> set[tuple[str, str]]:
    return {(each.name, each.schema_digest) for each in datasets}


def _seen(folders: Mapping[str, Path]) -> Seen:
    """What changes when datasets do, and is cheap to look at."""
    files = (folder / name for folder in folders.values() for name in facts.FILES)
    return {file: state for file in files if (state := storage.state_of(file)) is not None}
