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
    """Watches the processes that are started with `variables` while the block lasts.

    Attributes:
        megabytes: their peak; `own`: without files that are mapped, which the system takes back when it needs room.
        alone: with the files that the largest process maps, as if no other process of the machine shared them.
    """

    def __init__(self) -> None:
        value = f"{os.getpid()}-{time.monotonic_ns()}"
        self.variables = {MARK: value}
        self.megabytes = self.own = self.alone = 0.0
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
            sizes = [_sizes(folder) for folder in Path("/proc").glob("[0-9]*") if self._marked(folder)]
            found = [size for size in sizes if size]
            own = sum(size["Pss_Anon"] for size in found) / 1000
            mapped = max((size["Rss"] - size["Anonymous"] for size in found), default=0) / 1000
            self.megabytes = max(self.megabytes, sum(size["Pss"] for size in found) / 1000)
            self.own = max(self.own, own)
            self.alone = max(self.alone, own + mapped)

    def _marked(self, folder: Path) -> bool:
        try:
            return self._mark in (folder / "environ").read_bytes().split(b"\0")
        except OSError:
            return False  # it ended meanwhile, or is not ours


def _sizes(folder: Path) -> dict[str, int]:
    """kB by name of a process's smaps_rollup; empty where it ended meanwhile."""
    try:
        lines = (folder / "smaps_rollup").read_text().splitlines()[1:]
    except OSError:
        return {}
    return {name: int(rest.split()[0]) for name, _, rest in (line.partition(":") for line in lines)}
