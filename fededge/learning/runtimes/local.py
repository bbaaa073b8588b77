"""Local sites: one process a client on this machine, each bound to its own data folder.

A process is started when its client is first needed, stays for the next rounds, and ends with its
owner. It learns what to do from JSON lines on its standard input and answers in the same way.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

from fededge import storage
from fededge.learning.interfaces import EvaluationReport, RangesReport, TrainingReport
from fededge.processes import ended_with_parent
from fededge.weights import Weights, to_bytes

ALIVE_AT_ONCE = 4


class LocalSites:
    """Site processes over the client folders in `clients`, all executing the plan in `plan`.

    See `fededge.learning.interfaces.ClientRuntime`.
    """

    def __init__(self, plan: Path, clients: Path) -> None:
        self._plan = plan.resolve()
        self._clients = clients.resolve()
        self._sites: dict[str, _Site] = {}
        self._folder = tempfile.TemporaryDirectory(prefix="fededge-sites-")

    def available(self) -> list[str]:
        """See ClientRuntime."""
        return sorted(folder.name for folder in self._clients.iterdir() if folder.is_dir())

    def train(
        self, weights: Weights, seed: int, round_number: int, cohort: Sequence[str], deadline_seconds: float
    ) -> Iterator[TrainingReport]:
        """See ClientRuntime."""
        files = {client: Path(self._folder.name) / f"update-{i}" for i, client in enumerate(sorted(cohort))}
        for file in files.values():
            file.unlink(missing_ok=True)
        requests = {
            client: {"do": "train", "seed": seed, "round": round_number, "update": str(file)}
            for client, file in files.items()
        }
        for client, answer in self._ask(requests, weights, deadline_seconds):
            failure = answer.get("error")
            yield TrainingReport(client, None if failure else files[client], failure)

    def evaluate(
        self, weights: Weights, clients: Sequence[str], deadline_seconds: float
    ) -> Iterator[EvaluationReport]:
        """See ClientRuntime."""
        requests = {client: {"do": "evaluate"} for client in clients}
        for client, answer in self._ask(requests, weights, deadline_seconds):
            yield EvaluationReport(client, answer.get("counts"), answer.get("error"))

    def ranges(
        self, weights: Weights, clients: Sequence[str], deadline_seconds: float
    ) -> Iterator[RangesReport]:
        """See ClientRuntime."""
        requests = {client: {"do": "ranges"} for client in clients}
        for client, answer in self._ask(requests, weights, deadline_seconds):
            yield RangesReport(client, answer.get("ranges"), answer.get("error"))

    def close(self) -> None:
        """End all site processes."""
        for site in self._sites.values():
            site.end()
        self._sites.clear()
        self._folder.cleanup()

    def _ask(
        self, requests: Mapping[str, dict[str, Any]], weights: Weights, deadline_seconds: float
    ) -> Iterator[tuple[str, dict[str, Any]]]:
        """Each client's answer as it comes; at most ALIVE_AT_ONCE work at the same time."""
        end = time.monotonic() + deadline_seconds
        path = Path(self._folder.name) / "weights"
        storage.write(str(path), to_bytes(weights))
        waiting = list(requests)
        working: dict[Future[dict[str, Any]], str] = {}
        threads = ThreadPoolExecutor(ALIVE_AT_ONCE)
        try:
            while waiting or working:
                while waiting and len(working) < ALIVE_AT_ONCE:
                    client = waiting.pop(0)
                    site = self._site(client, working.values())
                    working[threads.submit(site.ask, requests[client] | {"weights": str(path)})] = client
                done, _ = wait(working, max(0.0, end - time.monotonic()), FIRST_COMPLETED)
                for future in done:
                    client = working.pop(future)
                    if not self._sites[client].alive:
                        self._sites.pop(client).end()
                    yield client, future.result()
                if not done:
                    break
            late = [*working.values(), *waiting]
            self._abandon(working)
            for client in late:
                yield client, {"error": f"no report within {deadline_seconds:g} s"}
        finally:
            self._abandon(working)
            threads.shutdown()

    def _abandon(self, working: dict[Future[dict[str, Any]], str]) -> None:
        """End the sites that are still at work."""
        for client in working.values():
            self._sites.pop(client).end()
        working.clear()

    def _site(self, client: str, busy: Collection[str]) -> "_Site":
        if client not in self._sites:
            for idle in [name for name in self._sites if name not in busy]:
                if len(self._sites) < ALIVE_AT_ONCE:
                    break
                self._sites.pop(idle).end()
            log = Path(self._folder.name) / f"{client}.log"
            self._sites[client] = _Site(self._plan, self._clients / client, log)
        return self._sites[client]


class _Site:
    """One site process; `ask` is called from one thread at a time."""

    def __init__(self, plan: Path, data: Path, log: Path) -> None:
        self._log = log
        command = [
            sys.executable,
            "-m",
            "fededge.learning.runtimes.site",
            "--plan",
            str(plan),
            "--data",
            str(data),
        ]
        with log.open("ab") as errors:
            self._process = subprocess.Popen(
                ended_with_parent(command),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                env=os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"},
            )

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def ask(self, request: dict[str, Any]) -> dict[str, Any]:
        """Send one request and wait for its answer; a process that ends answers with an error."""
        assert self._process.stdin
        assert self._process.stdout
        try:
            self._process.stdin.write(json.dumps(request).encode() + b"\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except (OSError, ValueError):
            line = b""
        if not line:
            self._process.kill()  # its output is closed: it ended, or will never answer again
            self._process.wait()
            words = self._log.read_text(errors="replace").split()[-40:]
            return {"error": f"the site process ended: {' '.join(words) or 'no words'}"}
        answer: dict[str, Any] = json.loads(line)
        return answer

    def end(self) -> None:
        """Kill the process and close its pipes."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe
            try:
                pipe.close()
            except OSError:  # unsent bytes for a dead process
                continue
