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
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

from fededge import storage
from fededge.learning.runtimes import Counts, Reports
from fededge.processes import owned
from fededge.weights import Weights, to_bytes

ALIVE_AT_ONCE = 4


class LocalSites:
    """Site processes over the client folders in `clients`, all executing the plan in `plan`."""

    def __init__(self, plan: Path, clients: Path) -> None:
        self._plan = plan.resolve()
        self._clients = clients.resolve()
        self._sites: dict[str, _Site] = {}
        self._folder = tempfile.TemporaryDirectory(prefix="fededge-sites-")

    def train(
        self, task_seed: int, round_number: int, weights: Weights, cohort: list[str], deadline_seconds: float
    ) -> Reports:
        """See Runtime."""
        files = {client: Path(self._folder.name) / f"update-{i}" for i, client in enumerate(cohort)}
        for file in files.values():
            file.unlink(missing_ok=True)
        requests = {
            client: {"do": "train", "seed": task_seed, "round": round_number, "update": str(file)}
            for client, file in files.items()
        }
        answers = self._ask(requests, weights, deadline_seconds)
        failed = {client: answer["error"] for client, answer in answers.items() if "error" in answer}
        return Reports({c: f for c, f in files.items() if c not in failed}, failed)

    def evaluate(self, weights: Weights, clients: list[str], deadline_seconds: float) -> Counts:
        """See Runtime."""
        answers = self._ask({client: {"do": "evaluate"} for client in clients}, weights, deadline_seconds)
        return Counts(
            {client: answer["counts"] for client, answer in answers.items() if "counts" in answer},
            {client: answer["error"] for client, answer in answers.items() if "error" in answer},
        )

    def close(self) -> None:
        """End all site processes."""
        for site in self._sites.values():
            site.end()
        self._sites.clear()
        self._folder.cleanup()

    def _ask(
        self, requests: dict[str, dict[str, Any]], weights: Weights, deadline_seconds: float
    ) -> dict[str, dict[str, Any]]:
        end = time.monotonic() + deadline_seconds
        path = Path(self._folder.name) / "weights"
        storage.write(str(path), to_bytes(weights))
        answers: dict[str, dict[str, Any]] = {}
        clients = list(requests)
        with ThreadPoolExecutor(ALIVE_AT_ONCE) as threads:
            for start in range(0, len(clients), ALIVE_AT_ONCE):
                wave = clients[start : start + ALIVE_AT_ONCE]
                self._make_room(wave)
                waiting: dict[Future[dict[str, Any]], str] = {}
                for client in wave:
                    site = self._site(client)
                    request = requests[client] | {"weights": str(path)}
                    waiting[threads.submit(site.ask, request)] = client
                wait(waiting, timeout=max(0.0, end - time.monotonic()))
                for future, client in waiting.items():
                    if not future.done():
                        self._sites.pop(client).end()
                        answers[client] = {"error": f"no report within {deadline_seconds:g} s"}
                        continue
                    answers[client] = future.result()
                    if not self._sites[client].alive:
                        self._sites.pop(client).end()
        return answers

    def _make_room(self, wave: list[str]) -> None:
        for client in [name for name in self._sites if name not in wave]:
            if len(self._sites.keys() | set(wave)) <= ALIVE_AT_ONCE:
                return
            self._sites.pop(client).end()

    def _site(self, client: str) -> "_Site":
        if client not in self._sites:
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
                owned(command),
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
