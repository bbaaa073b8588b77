"""Peak memory of processes: the largest sum of their proportional set sizes (each shared page counts once)."""

import os
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Self

MARK = "FEDEDGE_BENCHMARK"
"""Variable by whose value the processes that are measured are found."""
POLL = 0.2


class Peak:
    """Watches the processes that are started with `variables` while the block lasts; `megabytes` is their peak."""

    def __init__(self) -> None:
        value = f"{os.getpid()}-{time.monotonic_ns()}"
        self.variables = {MARK: value}
        self.megabytes = 0.0
        self._mark = f"{MARK}={value}".encode()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._over.wait(POLL):
            self.megabytes = max(self.megabytes, _proportional_set_size(self._mark) / 1000)


def _proportional_set_size(mark: bytes) -> int:
    """kB of memory of all processes that have `mark` among their variables."""
    total = 0
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if mark in (folder / "environ").read_bytes().split(b"\0"):
                lines = (folder / "smaps_rollup").read_text().splitlines()
                total += sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
        except OSError:
            continue  # it ended meanwhile, or is not ours
    return total
