"""The function that trains for one client, whose folder lies with it: it starts, answers and stops.

    python -m serving.functions.train --data CLIENT_FOLDER --store URL

POST /train and POST /evaluate take a fededge.documents.FunctionOrder, which names plan and weights in the store by their
digests. Training is answered with the update's bytes, evaluation with JSON: nothing else leaves the function. The plan is
kept for the next request; one is executed at a time, on LiteRT.
"""

import argparse
import json
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any

from fededge import archives, storage
from fededge.device.litert_client import LiteRTClient
from fededge.documents.functions import FunctionOrder, place
from fededge.errors import DocumentError, RequestError
from fededge.plan_runner import PlanRunner
from serving.functions import http
from serving.functions.http import Answer

LARGEST = 1 << 30
"""Bytes of a plan's archive, and of weights."""


class Trainer:
    """Executes plans for a client.

    Args:
        data: the client's own folder.
        store: URL of where plans and weights lie.
        folder: for what is fetched.
    """

    def __init__(self, data: Path, store: str, folder: Path) -> None:
        self._data = data
        self._store = store
        self._folder = folder
        self._turn = threading.Lock()
        self._plan = ""
        self._runner: PlanRunner | None = None

    def train(self, body: bytes) -> Answer:
        """The update of a client's local round.

        Raises:
            RequestError: the order is malformed, or the client failed.
            StorageError, IntegrityError: plan or weights cannot be read, or are not what was promised.
        """
        with self._turn:
            update = self._folder / "update"
            self._run(body, "train", {"update": str(update)})
            return Answer(update.read_bytes(), "application/octet-stream")

    def evaluate(self, body: bytes) -> Answer:
        """What the client counts on its test examples; raises as `train`."""
        with self._turn:
            return Answer(json.dumps(self._run(body, "evaluate", {})).encode())

    def _run(self, body: bytes, what: str, more: dict[str, Any]) -> dict[str, Any]:
        try:
            order = FunctionOrder.from_bytes(body, "the order")
        except DocumentError as error:
            raise RequestError(str(error), "MALFORMED_ORDER") from error
        runner = self._opened(order)
        weights = self._folder / "weights"
        weights.write_bytes(self._fetched(order.weights))
        request = {"do": what, "weights": str(weights), **more}
        told = {"seed": order.seed, "round": order.round, "client": order.client, "share": order.share}
        answer = runner.answer(request | told)
        if "error" in answer:
            raise RequestError(answer["error"], "CLIENT_FAILED", 422)
        return answer

    def _opened(self, order: FunctionOrder) -> PlanRunner:
        if self._runner is None or self._plan != order.plan:
            plan = self._folder / order.plan.removeprefix("sha256:")
            archives.unpack(self._fetched(order.plan), plan)
            self._runner, self._plan = PlanRunner(plan, self._data, LiteRTClient), order.plan
        return self._runner

    def _fetched(self, digest: str) -> bytes:
        return storage.read_verified(place(self._store, digest), digest, LARGEST)


def program() -> None:
    """Read the command line, and serve."""
    parser = argparse.ArgumentParser(
        prog="serving.functions.train",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--data", type=Path, required=True, help="the client's folder, with train/ and test/")
    parser.add_argument("--store", required=True, help="URL of where plans and weights lie")
    http.arguments(parser)
    options = parser.parse_args()
    if options.token_file is None and options.host not in http.LOOPBACK:
        parser.error("whoever reaches this function has it train: name a file with a token (--token-file)")
    with tempfile.TemporaryDirectory(prefix="fededge-function-") as folder:
        trainer = Trainer(options.data, options.store, Path(folder))
        routes: dict[tuple[str, str], http.Route] = {
            ("POST", "/train"): trainer.train,
            ("POST", "/evaluate"): trainer.evaluate,
            ("GET", "/ready"): lambda _: Answer(b'{"status": "ready"}'),
        }
        http.serve(options, routes, FunctionOrder.LIMIT)


if __name__ == "__main__":
    sys.exit(http.main(program))
