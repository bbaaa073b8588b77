"""A client on LiteRT for the tests of other environments: a real runner process of the edge environment."""

import json
import os
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import pytest

from fededge.clients import Ranges
from fededge.documents import Plan
from fededge.errors import DataError, DivergedError, VariantError
from fededge.host.layout import ROOT, VENVS
from fededge.processes import ended_with_parent
from fededge.update import Update, UpdateFormat
from fededge.weights import Weights, to_bytes

EDGE = VENVS / "edge" / "bin" / "python"
COMMAND = [str(EDGE), "-m", "fededge.device.litert_runner"]
NAME = "client"
ROUND = 1
needs_edge = pytest.mark.skipif(not EDGE.exists(), reason="no edge environment")


class LiteRTProcess:
    """See Client. A seed is that of a task, from which the runner makes the client's own: seed_for(seed, ROUND, NAME)."""

    def __init__(self, plan: Path, data: Path) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="fededge-litert-")
        self._form = UpdateFormat.of(Plan.read(plan / "plan.json"))
        self._process = subprocess.Popen(
            ended_with_parent([*COMMAND, "--plan", str(plan), "--data", str(data)]),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            text=True,
        )
        nothing = Path(self._folder.name) / "nothing"
        opened = self._ask({"do": "evaluate", "weights": str(nothing)})["error"]
        if "nothing" not in opened:  # it did not come as far as the weights
            raise DataError(opened)

    def __del__(self) -> None:
        self._process.kill()
        self._process.communicate()

    def train(self, weights: Weights, seed: int) -> Update:
        """See Client."""
        update = Path(self._folder.name) / "update"
        self._asked("train", weights, seed=seed, round=ROUND, client=NAME, update=str(update))
        return self._form.screen(update.read_bytes(), float("inf"))

    def evaluate(self, weights: Weights) -> dict[str, float]:
        """See Client."""
        counts: dict[str, float] = self._asked("evaluate", weights)["counts"]
        return counts

    def ranges(self, weights: Weights) -> Ranges:
        """See Client."""
        return Ranges(**self._asked("ranges", weights)["ranges"])

    def _asked(self, what: str, weights: Weights, **more: Any) -> dict[str, Any]:
        file = Path(self._folder.name) / "weights"
        file.write_bytes(to_bytes(weights))
        answer = self._ask({"do": what, "weights": str(file), **more})
        if error := answer.get("error"):
            raise (DivergedError if "diverged" in error else VariantError)(error)
        return answer

    def _ask(self, request: dict[str, Any]) -> dict[str, Any]:
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        answer: dict[str, Any] = json.loads(self._process.stdout.readline())
        return answer
