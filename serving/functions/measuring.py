"""How long functions take from a request to its answer, cold and warm, and the most memory that they hold.

A cold request finds no process: its time begins when one is started. This is what figures 6 (training by epochs) and 7
(answers by images) show in Ta Phuong Bac, Minh Ngoc Tran and YoungHan Kim 2022, Serverless Computing Approach for
Deploying Machine Learning Applications in Edge Layer.
"""

import base64
import json
import math
import os
import shutil
import signal
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from fededge import archives, storage
from fededge.documents import FunctionOrder, Plan
from fededge.documents.functions import place
from fededge.errors import EndpointError, TaskError, shown
from fededge.weights import to_bytes

LARGEST_BODY = 3 << 19
"""Bytes of images in a request, before base64."""
ANSWER_SECONDS = 600.0
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


@dataclass(frozen=True)
class Measured:
    """Times of a request.

    Attributes:
        amount: epochs, or images.
        cold: seconds of the fastest cold request; `warm`: of the fastest warm one.
        megabytes: peak resident memory of the process, mapped files included.
    """

    amount: int
    cold: float
    warm: float
    megabytes: float


@dataclass
class Function:
    """A function's program, and how its processes are started.

    Args:
        python: interpreter of an environment with LiteRT.
        name: train or predict.
        arguments: of its command line.
        inside: a context in which processes are started, such as a limit of processor time.
    """

    python: Path
    name: str
    arguments: Sequence[str]
    inside: Callable[[], AbstractContextManager[Any]] = nullcontext
    megabytes: float = field(default=0.0, init=False)

    @contextmanager
    def started(self) -> Iterator[str]:
        """The URL of a new process, which is ended after the block.

        Raises:
            EndpointError: it does not start.
        """
        command = [str(self.python), "-m", f"serving.functions.{self.name}", "--port", "0", *self.arguments]
        with self.inside():
            process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        with process:
            assert process.stdout is not None
            line = process.stdout.readline()
            if not line:
                raise EndpointError(f"{' '.join(command)} did not start: run it by hand to see why")
            try:
                yield json.loads(line)["url"]
                self.megabytes = max(self.megabytes, _peak(process.pid))
            finally:
                process.send_signal(signal.SIGTERM)

    def measured(self, amount: int, path: str, bodies: Sequence[bytes], repeats: int) -> Measured:
        """Times of requests with `bodies`, one after another."""
        cold: list[float] = []
        warm: list[float] = []
        for _ in range(repeats):
            begun = time.perf_counter()
            with self.started() as url:
                for times in (cold, warm):
                    for body in bodies:
                        asked(url + path, body)
                    times.append(time.perf_counter() - begun)
                    begun = time.perf_counter()
        return Measured(amount, min(cold), min(warm), self.megabytes)


def asked(url: str, body: bytes | None = None) -> bytes:
    """A function's answer.

    Raises:
        EndpointError: it refuses, or gives none.
    """
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
    try:
        with _OPENER.open(request, timeout=ANSWER_SECONDS) as response:
            answer: bytes = response.read()
            return answer
    except urllib.error.HTTPError as error:
        raise EndpointError(f"{url} refuses: {shown(error.read().decode(errors='replace'), 300)}") from error
    except OSError as error:
        raise EndpointError(f"{url} does not answer: {error}") from error


def predicting(function: Function, counts: Sequence[int], repeats: int, seed: int = 0) -> Iterator[Measured]:
    """Answers to random images (uint8), for each of `counts`."""
    with function.started() as url:
        (source,) = json.loads(asked(f"{url}/metadata"))["inputs"]
    shape = source["shape"][1:]
    together = max(1, LARGEST_BODY // math.prod(shape))
    generator = np.random.default_rng(seed)
    for count in counts:
        parts = [min(together, count - at) for at in range(0, count, together)]
        images = (generator.integers(0, 256, (part, *shape), np.uint8) for part in parts)
        bodies = [
            json.dumps({"binData": base64.b64encode(each.tobytes()).decode()}).encode() for each in images
        ]
        yield function.measured(count, "/predict", bodies, repeats)


def training(
    python: Path,
    plan: Path,
    client: Path,
    epochs: Sequence[int],
    repeats: int,
    inside: Callable[[], AbstractContextManager[Any]] = nullcontext,
) -> Iterator[Measured]:
    """Updates of the client folder `client` by the plan in `plan`, with each number of epochs.

    Raises:
        TaskError: the plan has no LiteRT file.
    """
    document = Plan.read(plan / "plan.json")
    if document.litert is None:
        raise TaskError(
            f"the plan {plan} has no LiteRT file: {document.litert_refused or 'export it with one'}"
        )
    generator = np.random.default_rng(0)
    weights = to_bytes(
        {v.name: generator.normal(0, 0.05, v.shape).astype(np.float32) for v in document.variables}
    )
    with tempfile.TemporaryDirectory(prefix="fededge-bench-") as name:
        store = Path(name) / "store"
        for count in epochs:
            copy = Path(name) / f"plan-{count}"
            shutil.copytree(plan, copy)
            changed = document.litert.model_copy(update={"epochs": count})
            document.model_copy(update={"litert": changed}).write(copy / "plan.json")
            digests = [_stored(str(store), data) for data in (archives.packed(copy), weights)]
            order = FunctionOrder(plan=digests[0], weights=digests[1], round=1, client=client.name)
            told = ["--data", os.fspath(client.resolve()), "--store", os.fspath(store)]
            function = Function(python, "train", told, inside)
            yield function.measured(count, "/train", [order.to_bytes()], repeats)


def _stored(store: str, data: bytes) -> str:
    digest = storage.digest(data)
    storage.write(place(store, digest), data)
    return digest


def _peak(process: int) -> float:
    """The most megabytes that a process had resident."""
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) / 1000
