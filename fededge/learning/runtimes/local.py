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
from types import TracebackType
from typing import Any, Self

from fededge import storage
from fededge.client_reports import EvaluationReport, RangesReport, TrainingReport, Usage
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
        self._working: dict[Future[dict[str, Any]], str] = {}
        self._usage = Usage()
        self._folder = tempfile.TemporaryDirectory(prefix="fededge-sites-")

    def __enter__(self) -> Self:
        """See ClientRuntime."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End all site processes."""
        for site in self._sites.values():
            site.end()
        self._sites.clear()
        self._folder.cleanup()

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
        self._usage = Usage()
        for client, answer in self._ask(requests, weights, deadline_seconds):
            failure = answer.get("error")
            if not failure:
                self._usage = self._usage.plus(received=files[client].stat().st_size)
            yield TrainingReport(client, None if failure else files[client], failure)

    def enough(self) -> Usage:
        """See ClientRuntime."""
        self._abandon()
        return self._usage

    def evaluate(
        self, weights: Weights, round_number: int, clients: Sequence[str], deadline_seconds: float
    ) -> Iterator[EvaluationReport]:
        """See ClientRuntime."""
        requests = {client: {"do": "evaluate"} for client in clients}
        for client, answer in self._ask(requests, weights, deadline_seconds):
            yield EvaluationReport(client, answer.get("counts"), answer.get("error"))

    def ranges(
        self, weights: Weights, round_number: int, clients: Sequence[str], deadline_seconds: float
    ) -> Iterator[RangesReport]:
        """See ClientRuntime."""
        requests = {client: {"do": "ranges"} for client in clients}
        for client, answer in self._ask(requests, weights, deadline_seconds):
            yield RangesReport(client, answer.get("ranges"), answer.get("error"))

    def command(self, client: str) -> list[str]:
        """The program that is a client's site process, without its arguments; see fededge.plan_runner."""
        return [sys.executable, "-m", "fededge.learning.runtimes.site"]

    def _ask(
        self, requests: Mapping[str, dict[str, Any]], weights: Weights, deadline_seconds: float
    ) -> Iterator[tuple[str, dict[str, Any]]]:
        """Each client's answer as it comes; at most ALIVE_AT_ONCE work at the same time."""
        end = time.monotonic() + deadline_seconds
        path = Path(self._folder.name) / "weights"
        data = to_bytes(weights)
        storage.write(str(path), data, durable=False)
        waiting = list(requests)
        working = self._working
        threads = ThreadPoolExecutor(ALIVE_AT_ONCE)
        try:
            while waiting or working:
                while waiting and len(working) < ALIVE_AT_ONCE:
                    client = waiting.pop(0)
                    site = self._site(client, working.values())
                    working[threads.submit(site.ask, requests[client] | {"weights": str(path)})] = client
                    self._usage = self._usage.plus(sent=len(data))
                done, _ = wait(working, max(0.0, end - time.monotonic()), FIRST_COMPLETED)
                for future in done:
                    client = working.pop(future)
                    if not self._sites[client].alive:
                        self._sites.pop(client).end()
                    answer = future.result()
                    self._usage = self._usage.plus(seconds=answer.pop("seconds"))
                    yield client, answer
                if not done:
                    break
            late = [*working.values(), *waiting]
            self._abandon()
            for client in late:
                yield client, {"error": f"no report within {deadline_seconds:g} s"}
        finally:
            self._abandon()
            threads.shutdown()

    def _abandon(self) -> None:
        """End the sites that are still at work."""
        for client in self._working.values():
            self._sites.pop(client).end()
        self._working.clear()

    def _site(self, client: str, busy: Collection[str]) -> "_Site":
        if client not in self._sites:
            for idle in [name for name in self._sites if name not in busy]:
                if len(self._sites) < ALIVE_AT_ONCE:
                    break
                self._sites.pop(idle).end()
            log = Path(self._folder.name) / f"{client}.log"
            arguments = ["--plan", str(self._plan), "--data", str(self._clients / client)]
            self._sites[client] = _Site([*self.command(client), *arguments], log)
        return self._sites[client]


class _Site:
    """One site process; `ask` is called from one thread at a time."""

    def __init__(self, command: Sequence[str], log: Path) -> None:
        self._log = log
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
        """Send one request and wait for its answer, with the `seconds` it took; a process that ends gives an error."""
        begun = time.monotonic()
        answer = self._answer(request)
        return {**answer, "seconds": time.monotonic() - begun}

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

    def _answer(self, request: dict[str, Any]) -> dict[str, Any]:
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
