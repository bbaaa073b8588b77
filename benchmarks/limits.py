"""Processes under a limit of processor time, as a container of a serverless platform is: by cgroup, version 1 or 2.

Where this user may make no cgroup, processes get one core and no smaller share of it; `how` says which it was.
"""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

PERIOD = 100_000  # microseconds, Kubernetes' own
TREES = {"/sys/fs/cgroup/cpu": "cpu.cfs_quota_us", "/sys/fs/cgroup": "cpu.max"}
"""Where cgroups are made, and the file that limits one, of version 1 and 2."""


class CpuLimit:
    """At most `cpus` processors for what is started `inside` it; use it with `with`, and end those before it ends."""

    def __init__(self, cpus: float) -> None:
        self._cpus = cpus
        self._group: Path | None = None
        self.how = "one core, its share not limited"

    def __enter__(self) -> Self:
        for tree, limit in TREES.items():
            group = Path(tree) / f"fededge-{os.getpid()}"
            quota = int(self._cpus * PERIOD)
            try:
                if not any(Path(tree).glob("cgroup.procs")):
                    continue
                group.mkdir()
                self._group = group
                (group / limit).write_text(str(quota) if "quota" in limit else f"{quota} {PERIOD}")
                self.how = f"{self._cpus:g} CPU by cgroup"
                break
            except OSError:
                self._remove()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._remove()

    @contextlib.contextmanager
    def inside(self) -> Iterator[None]:
        """This process is limited while the block lasts; processes that it starts there stay limited."""
        if self._group is None:
            before = os.sched_getaffinity(0)
            os.sched_setaffinity(0, {min(before)})
            try:
                yield
            finally:
                os.sched_setaffinity(0, before)
            return
        own = self._own()
        (self._group / "cgroup.procs").write_text(str(os.getpid()))
        try:
            yield
        finally:
            (own / "cgroup.procs").write_text(str(os.getpid()))

    def _own(self) -> Path:
        """The cgroup that this process is in now."""
        assert self._group is not None
        tree = self._group.parent
        wanted = "cpu" if tree.name == "cpu" else ""
        for line in Path("/proc/self/cgroup").read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            if wanted in controllers.split(","):
                return tree / path.lstrip("/")
        return tree

    def _remove(self) -> None:
        if self._group is not None:
            with contextlib.suppress(OSError):
                self._group.rmdir()
            self._group = None
