"""The chargers of a trial fleet's devices: what a program of each device's maker would write, again and again."""

import json
import threading
from pathlib import Path

from fededge import storage

FILE = "charger.json"
SECONDS = 3.0
"""From one writing to the next."""


class Chargers:
    """Tells each device whether it charges, in its folder's FILE, from `start` to `stop`."""

    def __init__(self) -> None:
        self._charging: dict[Path, bool] = {}
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def set(self, folder: Path, charging: bool) -> None:
        """Plug the charger of the device in `folder` in, or pull it out."""
        self._charging[folder] = charging
        _write(folder, charging)

    def start(self) -> None:
        """Begin to write."""
        self._thread.start()

    def stop(self) -> None:
        """Write no more."""
        self._ending.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        while not self._ending.wait(SECONDS):
            for folder, charging in list(self._charging.items()):
                _write(folder, charging)


def _write(folder: Path, charging: bool) -> None:
    storage.write(str(folder / FILE), json.dumps({"charging": charging}).encode())
