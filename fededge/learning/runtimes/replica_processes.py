"""Replicas as processes of this machine: what stands for a cluster's workers on a laptop."""

import os
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from fededge.learning.runtimes.replica import ReplicaProgram
from fededge.processes import ended_with_parent

LIVES = 5
"""How often a replica is started, before it is given up: one that ends at once would do so for ever."""


class ReplicaProcesses:
    """The replicas of `program`; see `fededge.learning.runtimes.jobs.Replicas`."""

    def __init__(self, program: ReplicaProgram) -> None:
        self._program = program
        self._shards = ""
        self._processes: dict[int, subprocess.Popen[bytes]] = {}
        self._lives: Counter[int] = Counter()
        self._folder = tempfile.TemporaryDirectory(prefix="fededge-replicas-")

    def start(self, shards: str) -> None:
        """See Replicas."""
        self._shards = shards
        for index in range(self._program.replicas):
            self._start(index)

    def lost(self) -> Mapping[int, str]:
        """See Replicas; a replica that ended is started again."""
        given_up = {}
        for index, process in list(self._processes.items()):
            if process.poll() is None:
                continue
            if self._lives[index] < LIVES:
                self._start(index)
            else:
                words = self._log(index).read_text(errors="replace").split()[-40:]
                given_up[index] = f"replica {index} ended {LIVES} times: {' '.join(words) or 'no words'}"
        return given_up

    def state(self) -> str:
        """See Replicas."""
        alive = sum(process.poll() is None for process in self._processes.values())
        return f"{alive} of {self._program.replicas} processes run"

    def close(self) -> None:
        """See Replicas."""
        for process in self._processes.values():
            process.kill()
        for process in self._processes.values():
            process.wait()
        self._processes.clear()
        self._folder.cleanup()

    def _start(self, index: int) -> None:
        self._lives[index] += 1
        with self._log(index).open("ab") as log:
            self._processes[index] = subprocess.Popen(
                ended_with_parent([sys.executable, *self._program.arguments(self._shards, index)]),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"},
            )

    def _log(self, index: int) -> Path:
        return Path(self._folder.name) / f"{index}.log"
