"""A runner: a process that executes a plan on one client's own folder, and hands in updates as files.

    python -m PROGRAM --plan PLAN --data CLIENT_FOLDER
    python -m PROGRAM --frameworks

It reads one JSON request a line from standard input and answers with one JSON line. It reads only its own folder, the
plan and the weights it is pointed to, and all it hands out is the update file or the counts of an evaluation. The second
form prints a JSON list of the frameworks whose plans it executes.
"""

import argparse
import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from fededge import storage
from fededge.clients import Client
from fededge.documents import Plan
from fededge.errors import FedEdgeError
from fededge.npy_header import rows
from fededge.processes import ended_by_exception
from fededge.seeds import seed_for
from fededge.subset import subset, wanted
from fededge.update import UpdateFormat
from fededge.weights import Weights, from_bytes

ONE_THREAD = dict.fromkeys(("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "OMP_NUM_THREADS"), "1")
"""Read by frameworks when they are imported: clients share a machine, and one thread adds up in one order."""

Opener = Callable[[Path, Path], Client]
"""The folders of a plan and of a client to the client."""


def serve(program: str, open_client: Opener, frameworks: Callable[[], list[str]]) -> None:
    """Serve requests until standard input ends, or SIGTERM comes, which process 1 of a container would ignore.

    Args:
        program: name of the module, for people.
        open_client: opens the client that works.
        frameworks: tells whose plans it can execute.
    """
    parser = argparse.ArgumentParser(prog=program, description=__doc__)
    parser.add_argument("--plan", type=Path, help="folder of the exported plan")
    parser.add_argument("--data", type=Path, help="this client's own folder")
    parser.add_argument(
        "--frameworks", action="store_true", help="print whose plans can be executed here, and end"
    )
    arguments = parser.parse_args()
    if arguments.frameworks:
        print(json.dumps(frameworks()))
        return
    if arguments.plan is None or arguments.data is None:
        parser.error("give --plan and --data")

    os.environ.update(ONE_THREAD)
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # libraries that print must not break the protocol

    with ended_by_exception():
        runner = PlanRunner(arguments.plan, arguments.data, open_client)
        for line in sys.stdin:
            print(json.dumps(runner.answer(json.loads(line))), file=answers, flush=True)


class PlanRunner:
    """Answers requests; the plan is loaded at the first one, so that its failure is an answer too."""

    def __init__(self, plan: Path, data: Path, open_client: Opener) -> None:
        self._plan = plan
        self._data = data
        self._open = open_client
        self._client: Client | None = None

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        """What came of a request, or {"error": text}.

        Args:
            request: "do": train, evaluate or ranges; "weights": path. To train also "seed" and "round", "update": path,
                "client": id of which the seed is made (by default the folder's name), "share": of the examples to use
                (by default 1, all), "most": of them (by default all); the latter to evaluate, too.
        """
        try:
            if self._client is None:
                self._document = Plan.read(self._plan / "plan.json")
                self._client = self._open(self._plan, self._data)
            weights = from_bytes(storage.read(request["weights"]))
            if request["do"] == "evaluate":
                with self._client_of("test", request, 0) as client:
                    return {"counts": dict(client.evaluate(weights))}
            if request["do"] == "ranges":
                return {"ranges": asdict(self._client.ranges(weights))}
            self._train(weights, request)
        except FedEdgeError as error:
            return {"error": str(error)}
        return {}

    def _train(self, weights: Weights, request: dict[str, Any]) -> None:
        seed = seed_for(request["seed"], request["round"], request.get("client", self._data.name))
        with self._client_of("train", request, seed) as client:
            update = client.train(weights, seed)
        # Whoever asked keeps what it needs of it.
        storage.write(request["update"], UpdateFormat.of(self._document).encode(update), durable=False)

    @contextmanager
    def _client_of(self, part: str, request: dict[str, Any], seed: int) -> Iterator[Client]:
        """A client that has as many examples as it is to use."""
        assert self._client
        held = rows(self._data / part / "x.npy")
        count = wanted(held, request.get("share", 1.0), request.get("most"))
        if count == held:
            yield self._client
            return
        with subset(self._data, part, self._document.example, count, seed) as data:
            yield self._open(self._plan, data)
