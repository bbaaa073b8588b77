"""A site process: runs the plan on its own data folder, and hands in updates as files.

    python -m fededge.learning.runtimes.site --plan PLAN --data CLIENT_FOLDER

It reads one JSON request a line from standard input and answers with one JSON line. It needs
TensorFlow and never TensorFlow Federated; it reads only its own folder, the plan and the weights it
is pointed to, and all it hands out is the update file or the counts of an evaluation.
"""

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any

from fededge import storage
from fededge.errors import FedEdgeError
from fededge.weights import from_bytes, shapes


def main() -> None:
    """Serve requests until standard input ends."""
    parser = argparse.ArgumentParser(prog="fededge.learning.runtimes.site", description=__doc__)
    parser.add_argument("--plan", type=Path, required=True, help="folder of the exported plan")
    parser.add_argument("--data", type=Path, required=True, help="this client's own folder")
    arguments = parser.parse_args()

    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # libraries that print must not break the protocol

    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    site = Site(arguments.plan, arguments.data)
    for line in sys.stdin:
        print(json.dumps(site.answer(json.loads(line))), file=answers, flush=True)


class Site:
    """Answers requests; the plan is loaded at the first one, so that its failure is an answer too."""

    def __init__(self, plan: Path, data: Path) -> None:
        self._plan = plan
        self._data = data
        self._client: Any = None

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        """{"do": "train" | "evaluate", "weights": path, ...} to {} | {"counts": ...} | {"error": text}."""
        from fededge.learning.frameworks.keras.batches import seed_for
        from fededge.learning.frameworks.keras.client import KerasClient
        from fededge.learning.update import Layout

        try:
            if self._client is None:
                self._client = KerasClient(self._plan, self._data)
            weights = from_bytes(storage.read(request["weights"]))
            if request["do"] == "evaluate":
                return {"counts": self._client.evaluate(weights)}
            seed = seed_for(request["seed"], request["round"], self._data.name)
            update = self._client.train(weights, seed)
            storage.write(request["update"], Layout(shapes(weights)).encode(update))
        except FedEdgeError as error:
            return {"error": str(error)}
        return {}


if __name__ == "__main__":
    main()
